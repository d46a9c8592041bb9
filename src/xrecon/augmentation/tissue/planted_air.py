"""A pneumothorax for the augmentation: the parts of the exact planter, on a coarse flow that takes a tenth of its time.

`plant_pneumothorax` follows the collapse on the CT's own grid until the labels meet the occupancy to half a percentage
point, with the scan's own noise. Here the lungs are known from the prepared case, the flow lives on 8 mm, one or two
collapses are followed, and the rest is met by moving the lung's surface; the record says what was reached.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cc3d
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from xrecon.anatomy.healthy_lungs import ChestAir
from xrecon.anatomy.morphology import Floats, Mask, box_of
from xrecon.augmentation.chest import AugmentedChest
from xrecon.augmentation.random_streams import log_uniform, uniform
from xrecon.augmentation.ranges import PositiveRange, step_probability
from xrecon.augmentation.steps import Draws
from xrecon.augmentation.tissue.lung import filled_below, gravity_depth_mm, healthy_sides
from xrecon.config import Config
from xrecon.errors import InputError
from xrecon.planting.flow import Cavity, collapse_to, inflow_velocity
from xrecon.planting.inflow import air_inflow, tissue_contraction
from xrecon.planting.pattern import PATTERN_NAMES, PATTERNS
from xrecon.planting.render import Motion, Wall, build_scene, find_wall, match_mass, move
from xrecon.planting.shift import FULL_SHIFT_MM, shift_mediastinum
from xrecon.resample import resample_separable
from xrecon.volume import OUTSIDE_HU, Volume

_FLOW_MM = 8.0
_MARGIN_MM = 14.0
_FLUID_DENSITY = 1012.0
_AIR_DENSITY = (0.0, 40.0)
_AERATED_BELOW_HU = -400.0
"""Outside the cavity what is darker than this is air of another organ (airways, the other lung), not chest wall."""
_PUSH = 0.45
"""Largest shift of the lung's surface to meet the occupancy, in voxels."""
_COLLAPSES = 2


class PneumothoraxSettings(Config):
    """Planted free pleural air, with its labels."""

    probability: float = step_probability(0.35)
    occupancy: PositiveRange = Field(
        default=(0.03, 0.70), description="Air / (air + lung) of the side, log-uniform, 0.01..0.90."
    )
    tension_probability: float = Field(default=0.2, ge=0, le=1, description="Share of them with mediastinal shift.")
    effusion_probability: float = Field(default=0.2, ge=0, le=1, description="Share of them with fluid at a level.")
    effusion_ml: PositiveRange = Field(default=(50.0, 300.0), description="That fluid, mL, log-uniform.")


@dataclass(frozen=True)
class _Plan:
    """What is to be planted."""

    side: int
    pattern: str
    occupancy: float
    tension: float
    fluid_ml: float
    air_density: float

    def record(self) -> Draws:
        """What is planted, for the sample's record."""
        return {
            "side": "right" if self.side == 1 else "left",
            "pattern": self.pattern,
            "asked_occupancy": self.occupancy,
            "tension": self.tension,
            "mediastinal_shift_mm": self.tension * FULL_SHIFT_MM,
            "fluid_ml": self.fluid_ml,
        }


def plant(
    chest: AugmentedChest, settings: PneumothoraxSettings, rng: np.random.Generator
) -> tuple[AugmentedChest, Draws]:
    """Free air in one side that has none. `sides` becomes lung and free air, `air` the free air; fluid is neither.

    Where nothing can be planted (no healthy side, a lung too small) the chest stays, and the record says why.
    """
    first, pattern = int(rng.integers(2)), PATTERN_NAMES[int(rng.integers(len(PATTERN_NAMES)))]
    occupancy = log_uniform(rng, settings.occupancy)
    has_tension, has_fluid = rng.random() < settings.tension_probability, rng.random() < settings.effusion_probability
    tension, fluid = uniform(rng, (0.2, 1.0)), log_uniform(rng, settings.effusion_ml)
    sides = healthy_sides(chest, first)
    if not sides:
        return chest, {"skipped": "no side without free air"}
    cavity_ml = float(np.count_nonzero(chest.sides == sides[0])) * chest.voxel_ml
    plan = _Plan(
        sides[0],
        pattern,
        occupancy,
        tension if has_tension else 0.0,
        min(fluid, 0.4 * occupancy * cavity_ml) if has_fluid else 0.0,
        uniform(rng, _AIR_DENSITY),
    )
    try:
        return _planted(chest, plan, rng)
    except InputError as error:
        return chest, {**plan.record(), "skipped": str(error)}


def _planted(chest: AugmentedChest, plan: _Plan, rng: np.random.Generator) -> tuple[AugmentedChest, Draws]:
    spacing = chest.spacing_mm
    if plan.tension > 0:
        chest = _shifted(chest, plan)
    # One connected piece: a stray island of the label has no way for its lung to go, and would turn to air.
    hemithorax = cc3d.largest_k(chest.sides == plan.side, k=1, connectivity=6) > 0
    box = box_of(hemithorax, spacing, margin_mm=_MARGIN_MM)
    hu, cavity = chest.hu[box], hemithorax[box]
    foreign = (chest.hu[box] < _AERATED_BELOW_HU) & ~cavity
    coarse = _coarse_cavity(cavity, chest.pitch_mm, medial_first=plan.side == 2)
    gravity = PATTERNS[plan.pattern].gravity
    fluid_voxels = plan.fluid_ml / chest.voxel_ml
    replaced = plan.occupancy * float(cavity.sum())
    inflow = air_inflow(
        coarse,
        pattern=plan.pattern,
        side="right" if plan.side == 1 else "left",
        occupancy=plan.occupancy,
        fluid_share=fluid_voxels / (fluid_voxels + replaced),
        rng=rng,
    )
    velocity = inflow_velocity(coarse, inflow, tissue_contraction(coarse, rng))
    wall = find_wall(hu, cavity, foreign, spacing)
    level = _Level(wall, gravity_depth_mm(cavity, chest.pitch_mm, axis=gravity), fluid_voxels, chest.pitch_mm)
    motion, push = _collapsed(coarse, velocity, level, plan.occupancy)
    scene = build_scene(hu, wall, motion, spacing=spacing, push_mm=push)
    fluid = level.fluid(motion, push)
    below = np.divide(fluid, scene.gap_share, out=np.zeros_like(fluid), where=scene.gap_share > 1e-3)
    gap = np.float32(plan.air_density) + np.clip(below, 0.0, 1.0) * np.float32(_FLUID_DENSITY - plan.air_density)
    density, _, _ = match_mass(scene, hu, gap_density=gap)
    free_air = scene.gap_share - fluid >= 0.5
    lung = (wall.share < 0.5) & (scene.lung_share >= 0.5)
    sick = _written(chest, box, hemithorax, np.where((wall.share < 1.0) & (scene.moved > 0), density - 1000.0, hu))
    labels = np.where(lung | free_air, np.uint8(plan.side), np.uint8(0))
    sick.sides[box] = np.where(labels > 0, labels, sick.sides[box])
    sick.air[box] |= free_air
    air_ml, lung_ml = (float(np.count_nonzero(mask)) * chest.voxel_ml for mask in (free_air, lung))
    reached = {"air_ml": air_ml, "lung_ml": lung_ml, "occupancy": air_ml / max(air_ml + lung_ml, 1e-9)}
    return sick, {**plan.record(), **reached}


def _written(chest: AugmentedChest, box: tuple[slice, slice, slice], hemithorax: Mask, hu: Floats) -> AugmentedChest:
    """A chest with arrays of its own: the new HU in the box, and no label where the hemithorax was."""
    whole = chest.hu.copy()
    whole[box] = np.maximum(hu, np.float32(OUTSIDE_HU))
    sides = np.where(hemithorax, np.uint8(0), chest.sides)
    return replace(chest, hu=whole, sides=sides, air=chest.air.copy())


def _shifted(chest: AugmentedChest, plan: _Plan) -> AugmentedChest:
    """The mediastinum pushed to the other side."""
    right, left = chest.sides == 1, chest.sides == 2
    nothing = np.zeros(right.shape, dtype=bool)
    before = ChestAir(right, left, nothing, nothing, None)
    side = "right" if plan.side == 1 else "left"
    ct, after = shift_mediastinum(Volume.centred(chest.hu, chest.spacing_mm), before, side=side, tension=plan.tension)
    sides = after.right.astype(np.uint8) + np.uint8(2) * (after.left & ~after.right).astype(np.uint8)
    return replace(chest, hu=np.array(ct.hu), sides=sides, air=(chest.air > 0).astype(np.uint8) * (sides > 0))


def _coarse_cavity(cavity: Mask, pitch_mm: float, *, medial_first: bool) -> Cavity:
    """The cavity on the flow's grid, in one piece, with its root at the middle of its medial face."""
    flow_mm = max(_FLOW_MM, pitch_mm)
    scale = flow_mm / pitch_mm
    shape = tuple(int(np.ceil((n - 1) / scale)) + 1 for n in cavity.shape)
    soft = resample_separable(cavity.astype(np.float32), shape, scale=(scale,) * 3, offset=(0.0,) * 3, fill=0.0)
    mask = cc3d.largest_k(soft > 0.5, k=1, connectivity=6) > 0
    if mask.sum() < 200:
        raise InputError(f"the lung is too small: {int(mask.sum())} voxels of {flow_mm:g} mm, expected 200")
    places = np.argwhere(mask) * flow_mm
    expected: NDArray[np.float64] = places.mean(axis=0)
    expected[2] = places[:, 2].min() if medial_first else places[:, 2].max()
    root = places[np.argmin(((places - expected) ** 2).sum(axis=1))]
    return Cavity.of(mask, flow_mm, np.asarray(root, dtype=np.float64))


@dataclass(frozen=True, eq=False)
class _Level:
    """Counts the labels that a collapse gives, with fluid at the bottom of the gap."""

    wall: Wall
    depth_mm: Floats
    fluid_voxels: float
    pitch_mm: float

    def fluid(self, motion: Motion, push_mm: float) -> Floats:
        """[D, H, W] share of fluid per voxel."""
        return self._fluid(self._gap(motion, motion.lung_share(push_mm)))

    def occupancy(self, motion: Motion, push_mm: float) -> float:
        """Air / (air + lung) by the labels."""
        lung = motion.lung_share(push_mm)
        gap = self._gap(motion, lung)
        air = int(np.count_nonzero(gap - self._fluid(gap) >= 0.5))
        tissue = int(np.count_nonzero((self.wall.share[motion.near] < 0.5) & (lung >= 0.5)))
        return air / max(air + tissue, 1)

    def _gap(self, motion: Motion, lung: Floats) -> Floats:
        gap = np.zeros(self.wall.share.shape, dtype=np.float32)
        gap[motion.near] = (1.0 - self.wall.share[motion.near]) * (1.0 - lung)
        return gap

    def _fluid(self, gap: Floats) -> Floats:
        return filled_below(self.depth_mm, gap, self.fluid_voxels, self.pitch_mm)


def _collapsed(coarse: Cavity, velocity: Floats, level: _Level, occupancy: float) -> tuple[Motion, float]:
    """The collapse whose labels come near the occupancy, and how far to push its surface to meet it better, mm."""
    spacing = (level.pitch_mm,) * 3
    fluid = level.fluid_voxels / max(float((1.0 - level.wall.share).sum(dtype=np.float64)), 1.0)
    remaining, tried, push = (1.0 - occupancy) * (1.0 - fluid), 0, 0.0
    while True:
        collapse = collapse_to(coarse, velocity, remaining)
        motion = move(level.wall, collapse, pitch_mm=coarse.pitch_mm, spacing=spacing)
        low, high = -_PUSH * level.pitch_mm, _PUSH * level.pitch_mm
        for _ in range(7):
            push = 0.5 * (low + high)
            reached = level.occupancy(motion, push)
            low, high = (push, high) if reached < occupancy else (low, push)
        error, tried = reached - occupancy, tried + 1
        if abs(error) < max(0.01, 0.1 * occupancy) or tried == _COLLAPSES:
            return motion, push
        remaining = float(np.clip(remaining + 1.2 * error, 0.02, 0.995))
