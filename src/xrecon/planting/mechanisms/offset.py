"""The mechanism "offset": the lung's surface set back from the wall by a smooth random depth.

Nothing flows and no mass is kept: the lung stays where it was, at most a little denser, and what lies less than the
depth inside the wall is air with the scan's own grain. Fluid, if any, is a pool with a flat level. It shares with the
flow only where air collects and how much of a voxel is wall, so that a search or a network that rests on the traits of
one mechanism is seen to fail on the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.special import ndtr, ndtri

from xrecon.anatomy.morphology import Floats, Mask, Spacing
from xrecon.errors import InputError
from xrecon.planting.flow import Cavity, smooth_noise
from xrecon.planting.inflow import cavity_fractions, pattern_score
from xrecon.planting.mechanisms.collapse import FLUID_HU, check_effusion
from xrecon.planting.mechanisms.fit_occupancy import below_level
from xrecon.planting.mechanisms.grain import copied_grain
from xrecon.planting.noise import ScanNoise
from xrecon.planting.pattern import PATTERNS
from xrecon.planting.planted_side import PlantedSide
from xrecon.planting.prepared import PlantableSide
from xrecon.planting.render import Wall
from xrecon.planting.truth import LungMass, PlantedShares, PlantingSettings
from xrecon.resample import resample_separable

_PLEURA_DENSITY = 1010.0
_BLUR_MM = 0.5
_LARGEST_MM = 400.0
_STEPS = 26
_TOLERANCE = 0.005
_TOUCHING_MM = (2.0, 1.2)
"""From the first depth on the surface lies at its depth; at the second it meets the wall, and below it lies in it."""
_SMOOTH_FROM_MM, _SMOOTH_OVER_MM = 3.0, 12.0
"""From this depth on, and within so much more, the surface loses the print of the ribs."""
_TETHER_MM = (26.0, 75.0)
"""Round the lung root the surface stays: radius for a small and for a complete collapse."""
_VESSEL_DENSITY = (450.0, 900.0)
"""Lung between these gets less and less denser, up to vessels, which stay as they are."""
_DENSER = 0.6


def set_back_side(
    prepared: PlantableSide, settings: PlantingSettings, *, noise: ScanNoise, rng: np.random.Generator
) -> PlantedSide:
    """The lung with its surface set back, air and perhaps fluid beside it, drawn in a box round its cavity.

    Raises:
        InputError: the pocket or its fluid does not fit, or no depth meets the occupancy.
    """
    check_effusion(settings.effusion_ml, prepared.room_ml)
    coarse, wall, spacing = prepared.coarse, prepared.wall, prepared.spacing
    relative = _onto_box(
        relative_depth(coarse, pattern=settings.pattern, side=settings.side, occupancy=settings.occupancy, rng=rng),
        wall.depth.shape,
        pitch_mm=coarse.pitch_mm,
        spacing=spacing,
    )
    gravity = PATTERNS[settings.pattern].gravity
    pool = below_level(1.0 - wall.share, settings.effusion_ml / prepared.ct.voxel_ml, gravity)
    pocket = _Pocket(wall, _surface_level(wall, coarse, spacing), relative, np.asarray(pool, dtype=np.float32), spacing)
    scale = pocket.fitted(settings.occupancy)
    denser = 1.0 + max(0.0, float(rng.uniform(-0.5, 1.0))) * min(settings.occupancy, _DENSER)
    grain = copied_grain(prepared.ct, prepared.chest, prepared.hu.shape, rng)
    return _draw(prepared, settings, pocket, scale=scale, denser=denser, air_density=noise.air_hu + 1000.0 + grain)


def relative_depth(cavity: Cavity, *, pattern: str, side: str, occupancy: float, rng: np.random.Generator) -> Floats:
    """[D, H, W] relative depth of the visceral surface below the wall nearby, 0..about 1.5, on the cavity's grid.

    Args:
        cavity: of one side.
        pattern: a name in `PATTERNS`: where the surface is set back most.
        side: "right" or "left", the patient's.
        occupancy: 0..1, how large the pneumothorax will be: the larger, the more of the wall it reaches.
        rng: draws the unevenness of the depth and the place of a loculated pocket.

    Raises:
        InputError: a loculated pocket in a lung without costal wall 55 mm from its root.
    """
    spread = PATTERNS[pattern]
    wall = cavity.mask & (cavity.depth < 2.0 * cavity.pitch_mm)
    score = pattern_score(spread, cavity, wall, cavity_fractions(cavity), side=side, rng=rng)
    score = score + 0.08 * smooth_noise(cavity.mask.shape, 30.0 / cavity.pitch_mm, rng)
    coverage = min(1.1 * spread.coverage * occupancy**0.5, 0.95)
    edge, top = np.quantile(score[wall], (1.0 - coverage, 0.995))
    lens = np.clip((score - edge) / max(top - edge, 1e-6), 0.0, 1.2)
    everywhere = min(max((occupancy - 0.3) / 0.4, 0.0), 1.0)
    uneven = np.exp(0.25 * smooth_noise(cavity.mask.shape, 18.0 / cavity.pitch_mm, rng))
    tether = _TETHER_MM[0] + everywhere * (_TETHER_MM[1] - _TETHER_MM[0])
    free = 1.0 - np.exp(-((cavity.from_root_mm / tether) ** 3))
    field = ((1.0 - everywhere) * lens**0.8 + everywhere) * uneven * free
    return np.asarray(ndimage.gaussian_filter(field, 1.5), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class _Pocket:
    """The space between wall and lung when the surface lies at `scale` times the relative depth. All [D, H, W].

    Attributes:
        wall: boundary of the cavity.
        level: distance of each voxel from the wall as the surface sees it, mm.
        relative: depth of the surface.
        pool: share below the fluid level.
        spacing: voxel pitch, mm.
    """

    wall: Wall
    level: Floats
    relative: Floats
    pool: Floats
    spacing: Spacing

    def air_share(self, scale: float, *, further_mm: float = 0.0) -> Floats:
        """Share of what is neither wall nor fluid that lies before the surface, set back by another `further_mm`."""
        depth = np.float32(scale) * self.relative
        full, contact = _TOUCHING_MM
        surface = np.where(depth < full, (depth - contact) * np.float32(full / (full - contact)), depth)
        return np.asarray(ndtr((surface + np.float32(further_mm) - self.level) / self._blur), dtype=np.float32)

    def fitted(self, occupancy: float) -> float:
        """The scale, mm, whose labels meet the occupancy to half a percentage point.

        The scale from which each voxel counts as air, and up to which as lung, follows from its own shares: the
        labels of any scale are two counts.

        Raises:
            InputError: no scale meets it.
        """
        near = self.wall.share < 0.5
        dry = np.asarray((1.0 - self.pool)[near], dtype=np.float32)
        relative = np.maximum(self.relative[near], 1e-6)
        least_air = np.asarray(0.5 / np.maximum((1.0 - self.wall.share[near]) * dry, 1e-6), dtype=np.float32)
        most_air = np.asarray(1.0 - 0.5 / np.maximum(dry, 1e-6), dtype=np.float32)
        air_from = self._scale_at(least_air, near) / relative
        lung_up_to = self._scale_at(most_air, near) / relative
        low, high, middle, reached = 0.0, _LARGEST_MM, 0.0, 0.0
        for _ in range(_STEPS):
            middle = 0.5 * (low + high)
            air, lung = int(np.count_nonzero(air_from <= middle)), int(np.count_nonzero(lung_up_to >= middle))
            reached = air / max(air + lung, 1)
            if abs(reached - occupancy) < 2e-4:
                break
            low, high = (middle, high) if reached < occupancy else (low, middle)
        if abs(reached - occupancy) > _TOLERANCE:
            raise InputError(
                f"an occupancy of {occupancy:.1%} cannot be drawn by the mechanism offset in this lung: {reached:.1%} "
                "reached; ask for another size, pattern or seed, or take the mechanism flow"
            )
        return middle

    @property
    def _blur(self) -> np.float32:
        return np.float32(np.hypot(_BLUR_MM, 0.33 * float(np.mean(self.spacing))))

    def _scale_at(self, share: Floats, near: Mask) -> Floats:
        """Depth [N] at which the surface gives each near voxel this share of air; infinite where none does."""
        surface = self.level[near] + self._blur * ndtri(np.clip(share, 0.0, 1.0))
        full, contact = _TOUCHING_MM
        depth = np.where(surface < full, surface * ((full - contact) / full) + contact, surface)
        out = np.where(share < 1.0, np.maximum(depth, 0.0), np.inf)
        return np.asarray(np.where(share <= 0.0, -np.inf, out), dtype=np.float32)


def _surface_level(wall: Wall, coarse: Cavity, spacing: Spacing) -> Floats:
    """[D, H, W] distance from the wall that the surface follows, mm: deep inside a smoother one than the wall's."""
    smooth = _onto_box(coarse.depth, wall.depth.shape, pitch_mm=coarse.pitch_mm, spacing=spacing)
    share = _smoothstep((wall.depth - _SMOOTH_FROM_MM) / _SMOOTH_OVER_MM)
    return np.asarray(wall.depth + share * (smooth - wall.depth), dtype=np.float32)


def _draw(
    prepared: PlantableSide,
    settings: PlantingSettings,
    pocket: _Pocket,
    *,
    scale: float,
    denser: float,
    air_density: Floats,
) -> PlantedSide:
    """Density, labels and shares of the pocket; `air_density` [D, H, W] is that of free air with its noise."""
    before, wall, voxel_ml = prepared.hu + np.float32(1000.0), prepared.wall, prepared.ct.voxel_ml
    air = pocket.air_share(scale)
    pleura = pocket.air_share(scale, further_mm=settings.pleura_mm) - air
    # Beside the wall the lung is that a little deeper: its own voxels are partly wall.
    vessel = _smoothstep((before - _VESSEL_DENSITY[0]) / (_VESSEL_DENSITY[1] - _VESSEL_DENSITY[0]))
    gain = 1.0 + (1.0 - vessel) * np.float32(denser - 1.0)
    inner = np.where(wall.depth < 1.5 * max(prepared.spacing), np.minimum(before, wall.lung_density), before)
    gas = (1.0 - air - pleura) * inner * gain + pleura * np.float32(_PLEURA_DENSITY) + air * air_density
    content = gas + pocket.pool * (np.float32(FLUID_HU + 1000.0) - gas + (air_density - air_density.mean()))
    free = 1.0 - wall.share
    composed = wall.share * wall.wall_density + free * content
    undisturbed = np.where((wall.share <= 0.0) & (wall.depth > 0.0), before * gain, before)
    replaced = np.clip((air + pleura + pocket.pool) * 20.0, 0.0, 1.0)
    density = np.asarray(undisturbed + replaced * (composed - undisturbed), dtype=np.float32)
    dry = np.asarray(free * (1.0 - pocket.pool), dtype=np.float32)
    shares = PlantedShares(prepared.box, dry * air, dry * (1.0 - air))
    voxel_g = voxel_ml / 1000.0
    return PlantedSide(
        prepared.box,
        density,
        changed=wall.share < 1.0,
        air=shares.air >= 0.5,
        lung=(wall.share < 0.5) & ((1.0 - pocket.pool) * (1.0 - air) >= 0.5),
        fluid_ml=float((free * pocket.pool).sum(dtype=np.float64)) * voxel_ml,
        mass=LungMass(
            float((free * before).sum(dtype=np.float64)) * voxel_g,
            float((shares.lung * inner * gain).sum(dtype=np.float64)) * voxel_g,
        ),
        shares=shares,
    )


def _onto_box(coarse: Floats, shape: tuple[int, ...], *, pitch_mm: float, spacing: Spacing) -> Floats:
    """The field of a coarse grid at the voxels [D, H, W] of a box; voxel (0, 0, 0) of both lies at the same place."""
    d, h, w = (pitch / pitch_mm for pitch in spacing)
    return resample_separable(
        coarse, (shape[0], shape[1], shape[2]), scale=(d, h, w), offset=(0.0, 0.0, 0.0), fill=float(coarse.min())
    )


def _smoothstep(x: Floats) -> Floats:
    x = np.clip(x, 0.0, 1.0)
    return np.asarray(x * x * (3.0 - 2.0 * x), dtype=np.float32)
