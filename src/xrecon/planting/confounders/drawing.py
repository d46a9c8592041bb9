"""What every confounder is drawn with: edges, sizes that meet a volume, air and tissue in the noise of the scan."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import ndtr

from xrecon.anatomy.healthy_lungs import ChestAir
from xrecon.anatomy.morphology import Box, Floats, Mask, Spacing, box_of, distance_mm
from xrecon.errors import InputError
from xrecon.planting.noise import ScanNoise, measure_noise
from xrecon.volume import RESEARCH_NOTICE, Volume

FLUID_DENSITY = 1020.0


def check_planting(side: str, volume_ml: float, limits: tuple[float, float]) -> None:
    """Raises InputError: a side that is none, or a volume outside the limits."""
    if side not in ("right", "left"):
        raise InputError(f'side must be "right" or "left" (the patient\'s), got {side!r}')
    if not (math.isfinite(volume_ml) and limits[0] <= volume_ml <= limits[1]):
        raise InputError(f"volume_ml must be from {limits[0]:g} to {limits[1]:g}, got {volume_ml:g}")


def edge_blur_mm(spacing: Spacing) -> float:
    """Standard deviation of an edge's profile in voxels of this pitch, mm."""
    return math.hypot(0.5, 0.33 * float(np.mean(spacing)))


def shape_of(array: NDArray[np.float32]) -> tuple[int, int, int]:
    """(D, H, W)."""
    d, h, w = array.shape
    return d, h, w


def fitted_size(volume_of: Callable[[float], float], volume_ml: float, low: float, high: float) -> float:
    """The size at which a growing shape holds a volume."""
    if volume_of(high) < 0.98 * volume_ml:
        raise InputError(f"{volume_ml:g} mL do not fit there: {volume_of(high):.0f} mL at most; ask for less")
    for _ in range(18):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if volume_of(middle) < volume_ml else (low, middle)
    return 0.5 * (low + high)


def filled_with_air(
    ct: Volume,
    box: tuple[slice, slice, slice],
    share: Floats,
    noise: ScanNoise,
    rng: np.random.Generator,
    note: str,
    *,
    fluid: Floats | None = None,
) -> tuple[Volume, Mask]:
    """Tissue replaced by air, or fluid where `fluid` is 1, by the share of each voxel of the box."""
    hu = ct.hu[box]
    air = np.float32(noise.air_hu) + noise.draw(shape_of(hu), rng)
    inside = air if fluid is None else np.where(fluid > 0.5, FLUID_DENSITY - 1000.0 + air - noise.air_hu, air)
    gas = share >= 0.5 if fluid is None else (share >= 0.5) & (fluid < 0.5)
    return written(ct, box, hu + share * (inside - hu), gas, note)


def written(ct: Volume, box: tuple[slice, slice, slice], hu: Floats, gas: Mask, note: str) -> tuple[Volume, Mask]:
    """The CT with new HU in a box, and the mask of the gas in it."""
    out, mask = np.array(ct.hu), np.zeros(ct.shape, dtype=bool)
    out[box] = np.clip(hu, ct.hu.min(), None)
    mask[box] = gas
    return replace(ct, hu=out, synthetic=True, notes=(*ct.notes, f"{note}; {RESEARCH_NOTICE}")), mask


def other_side(side: str) -> str:
    """The patient's other side."""
    return "left" if side == "right" else "right"


def lung_of(chest: ChestAir, side: str) -> Mask:
    """The lung of the patient's "right" or "left" side, [D, H, W]."""
    return chest.right if side == "right" else chest.left


def uneven(shape: tuple[int, ...], spacing: Spacing, scale_mm: float, rng: np.random.Generator) -> Floats:
    """Random field [D, H, W] of about unit variance that varies over `scale_mm`; drawn coarsely, so that it is fast."""
    pitch = 0.6 * scale_mm
    counts = [max(2, math.ceil(n * s / pitch) + 3) for n, s in zip(shape, spacing, strict=True)]
    coarse = ndimage.gaussian_filter(rng.standard_normal(counts), 0.7, mode="wrap")
    coarse /= max(float(coarse.std()), 1e-9)
    out = coarse.astype(np.float32)
    for axis, (n, s) in enumerate(zip(shape, spacing, strict=True)):
        place = np.arange(n) * s / pitch
        low = np.minimum(place.astype(int), counts[axis] - 2)
        share = (place - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        out = np.take(out, low, axis=axis) * (1.0 - share) + np.take(out, low + 1, axis=axis) * share
    return np.asarray(out, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Canvas:
    """The box of a CT in which tissue, air and fluid are drawn one over the other.

    Attributes:
        ct: HU, canonical orientation.
        chest: its lungs.
        noise: level and noise of its air.
        box: of the CT.
        hu: [D, H, W] HU of the box; changes with every stroke.
        gas: [D, H, W] share of gas that was drawn, 0..1; changes likewise.
        rng: of noise and shapes.
    """

    ct: Volume
    chest: ChestAir
    noise: ScanNoise
    box: Box
    hu: Floats
    gas: Floats
    rng: np.random.Generator

    @classmethod
    def round(
        cls, mask: Mask, ct: Volume, chest: ChestAir, rng: np.random.Generator, *, margin_mm: float = 8.0
    ) -> Canvas:
        """A canvas round a mask [D, H, W] of the CT.

        Raises:
            InputError: the mask is empty: the place does not exist in this chest.
        """
        if not mask.any():
            raise InputError("there is no place for it in this chest; take another seed, side or size")
        box = box_of(mask, ct.spacing_mm, margin_mm=margin_mm)
        hu = np.array(ct.hu[box], dtype=np.float32)
        return cls(ct, chest, measure_noise(ct, chest), box, hu, np.zeros_like(hu), rng)

    @property
    def spacing(self) -> Spacing:
        """Voxel pitch (D, H, W), mm."""
        return self.ct.spacing_mm

    @property
    def blur_mm(self) -> float:
        """Standard deviation of an edge's profile, mm."""
        return edge_blur_mm(self.spacing)

    def offsets(self, centre: Sequence[float]) -> tuple[Floats, Floats, Floats]:
        """Distances along D, H and W (mm, broadcastable) from a voxel position of the whole CT."""
        axes = [
            ((np.arange(part.start, part.stop) - c) * s).astype(np.float32)
            for part, c, s in zip(self.box, centre, self.spacing, strict=True)
        ]
        return axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]

    def uneven(self, scale_mm: float) -> Floats:
        """Random field [D, H, W] of unit variance that varies over `scale_mm`."""
        return uneven(self.hu.shape, self.spacing, scale_mm, self.rng)

    def inside(self, signed_mm: Floats | NDArray[np.float64]) -> Floats:
        """Share of a shape (0..1) from the distance to its surface, mm, positive inside."""
        return np.asarray(ndtr(signed_mm / self.blur_mm), dtype=np.float32)

    def free_of_airway(self, mask: Mask) -> Floats:
        """A mask [D, H, W] of the box without the windpipe and its wall, as shares with soft edges, 0..1."""
        airway = self.chest.airway[self.box]
        away = distance_mm(airway, self.spacing) > 2.0 if airway.any() else True
        return np.asarray(ndimage.gaussian_filter((mask & away).astype(np.float32), 0.4) * (mask & away))

    def tissue(self, share: Floats, hu: float | Floats) -> None:
        """Tissue of these HU, with the noise of the scan, over what is there."""
        self._blend(share, np.asarray(hu, dtype=np.float32), 0.0)

    def air(self, share: Floats, *, above_hu: float | Floats = 0.0) -> None:
        """Air at the level of this scan's windpipe, or `above_hu` over it, over what is there."""
        self._blend(share, np.asarray(self.noise.air_hu + above_hu, dtype=np.float32), 1.0)

    def _blend(self, share: Floats, hu: Floats, gas: float) -> None:
        value = hu + self.noise.draw(shape_of(self.hu), self.rng)
        self.hu[:] += share * (value - self.hu)
        self.gas[:] += share * (np.float32(gas) - self.gas)

    def finished(self, note: str) -> tuple[Volume, Mask]:
        """The changed CT, and the mask [D, H, W] of the voxels that are at least half gas."""
        return written(self.ct, self.box, self.hu, self.gas >= 0.5, note)
