"""A chest made ready for planting: all that does not depend on what is planted, computed once.

Many pneumothoraces in one chest share its lungs, the level and noise of its air, and for each side the wall of the
cavity, its coarse grid and the lung root. Each of these is computed when it is first needed and then kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cc3d
import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.healthy_lungs import ChestAir, find_lungs
from xrecon.anatomy.morphology import Box, Floats, Mask, Spacing, box_of
from xrecon.errors import InputError
from xrecon.planting.flow import Cavity
from xrecon.planting.noise import ScanNoise, measure_noise
from xrecon.planting.render import Wall, WallMaps, find_wall
from xrecon.planting.shift import shift_mediastinum
from xrecon.resample import resample_separable
from xrecon.volume import Volume

_PITCH_MM = (4.0, 8.0)
"""Finest and coarsest grid of the flow; between them it follows the CT's voxels."""
_MARGIN_MM = 14.0


@dataclass(frozen=True, eq=False)
class PlantableSide:
    """One pleural cavity of a chest, in a box round it.

    Attributes:
        ct: the whole chest, HU.
        chest: its lungs and airways.
        side: "right" or "left", the patient's.
    """

    ct: Volume
    chest: ChestAir
    side: str

    @cached_property
    def box(self) -> Box:
        """Where the cavity lies in the CT, with a margin."""
        return box_of(self._lungs[0], self.ct.spacing_mm, margin_mm=_MARGIN_MM)

    @property
    def spacing(self) -> Spacing:
        """Voxel pitch (D, H, W), mm."""
        return self.ct.spacing_mm

    @property
    def hu(self) -> Floats:
        """[D, H, W] HU of the box."""
        return self.ct.hu[self.box]

    @property
    def cavity(self) -> Mask:
        """[D, H, W] bool, the lung in the box."""
        return self._lungs[0][self.box]

    @cached_property
    def room_ml(self) -> float:
        """Volume of the cavity, mL."""
        return float(self.cavity.sum()) * self.ct.voxel_ml

    @cached_property
    def wall(self) -> Wall:
        """Boundary of the cavity."""
        foreign = self.chest.airway[self.box] | self._lungs[1][self.box]
        return find_wall(self.hu, self.cavity, foreign, self.spacing)

    @cached_property
    def maps(self) -> WallMaps:
        """What every collapse needs to know of the wall."""
        return WallMaps.of(self.wall, self.spacing)

    @cached_property
    def coarse(self) -> Cavity:
        """The cavity on the grid of the flow.

        Raises:
            InputError: the lung is too small.
        """
        return _coarse_cavity(self.cavity, self.spacing, self._root_mm())

    @property
    def _lungs(self) -> tuple[Mask, Mask]:
        """The lung of this side, and the other one."""
        chest = self.chest
        return (chest.right, chest.left) if self.side == "right" else (chest.left, chest.right)

    def _root_mm(self) -> NDArray[np.float64]:
        """The lung root, mm from the box's first voxel: 20 mm below the fork of the windpipe, at the lung's medial
        face.
        """
        spacing = np.asarray(self.spacing)
        places = np.argwhere(self.cavity) * spacing
        start = np.array([part.start for part in self.box]) * spacing
        medial = 1.0 if self.side == "right" else -1.0
        if self.chest.carina is not None:
            expected = np.asarray(self.chest.carina) * spacing - start + np.array([20.0, 5.0, -medial * 30.0])
        else:
            expected = places.mean(axis=0)
            expected[2] = (places[:, 2] * medial).max() * medial
        return np.asarray(places[np.argmin(((places - expected) ** 2).sum(axis=1))], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class PlantableChest:
    """A healthy chest with what planting needs to know of it; by `prepare_chest`.

    Attributes:
        ct: HU, canonical orientation.
        chest: its lungs and airways.
        right, left: the patient's pleural cavities.
    """

    ct: Volume
    chest: ChestAir
    right: PlantableSide
    left: PlantableSide

    @cached_property
    def noise(self) -> ScanNoise:
        """Level and noise of the scan's air."""
        return measure_noise(self.ct, self.chest)

    def pushed(self, side: str, tension: float) -> PlantableSide:
        """The cavity of a side, once the mediastinum has been pushed away from it by `tension` (0..1).

        Without tension it is kept; with it chest and cavity are other ones each time.
        """
        if tension <= 0:
            return self.right if side == "right" else self.left
        ct, chest = shift_mediastinum(self.ct, self.chest, side=side, tension=tension)
        return PlantableSide(ct, chest, side)


def prepare_chest(ct: Volume, chest: ChestAir | None = None) -> PlantableChest:
    """A chest made ready for planting many times.

    Args:
        ct: healthy chest, HU, canonical orientation.
        chest: `find_lungs(ct)`, where it is known.

    Raises:
        InputError: the CT not canonical, or no lungs in it.
    """
    chest = find_lungs(ct) if chest is None else chest
    return PlantableChest(ct, chest, PlantableSide(ct, chest, "right"), PlantableSide(ct, chest, "left"))


def _coarse_cavity(cavity: Mask, spacing: Spacing, root_mm: NDArray[np.float64]) -> Cavity:
    pitch = min(max(_PITCH_MM[0], *spacing), _PITCH_MM[1])
    scale = tuple(pitch / s for s in spacing)
    shape = tuple(int(np.ceil((n - 1) / f)) + 1 for n, f in zip(cavity.shape, scale, strict=True))
    soft = resample_separable(
        cavity.astype(np.float32), shape, scale=(scale[0], scale[1], scale[2]), offset=(0.0, 0.0, 0.0), fill=0.0
    )
    # One connected piece: the flow's equation has a solution only where in- and outflow balance.
    mask = cc3d.largest_k(soft > 0.5, k=1, connectivity=6) > 0
    if mask.sum() < 200:
        raise InputError(
            f"the lung is too small to plant in: {mask.sum()} voxels of {pitch:g} mm, expected at least 200"
        )
    return Cavity.of(mask, pitch, root_mm)
