"""From a flow to a collapse whose labels meet the occupancy: coarse by the time of the flow, fine at the surface."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from xrecon.anatomy.morphology import Floats, Spacing
from xrecon.errors import InputError
from xrecon.planting.flow import Cavity, Course
from xrecon.planting.render import Motion, Wall, WallMaps, move

_MAX_TRIES = 8
_MAX_PUSH_MM = 1.5
"""The flow meets the asked volume on its coarse grid; what is left is met by shifting the surface by less than this."""


@dataclass(frozen=True, eq=False)
class Target:
    """What the labels of the collapsed lung have to show.

    Attributes:
        wall: boundary of the cavity on the CT's own grid.
        maps: of that wall.
        spacing: voxel pitch (D, H, W) of that grid, mm.
        occupancy: air / (air + lung), 0..1.
        fluid_voxels: fluid in the gap, in voxels.
        gravity: axis to which the fluid sinks.
    """

    wall: Wall
    maps: WallMaps
    spacing: Spacing
    occupancy: float
    fluid_voxels: float
    gravity: int

    def reached(self, motion: Motion, push_mm: float) -> tuple[float, Floats]:
        """Occupancy by the labels when the lung's surface recedes by `push_mm`, and the share of fluid [D, H, W]."""
        share = self.wall.share[motion.near]
        lung = motion.lung_share(push_mm)
        gap = np.zeros(self.wall.share.shape, dtype=np.float32)
        gap[motion.near] = (1.0 - share) * (1.0 - lung)
        below = below_level(gap, self.fluid_voxels, self.gravity)
        air = int(np.count_nonzero(gap * (1.0 - below) >= 0.5))
        tissue = int(np.count_nonzero((share < 0.5) & (lung >= 0.5)))
        return air / max(air + tissue, 1), below


def fit_collapse(coarse: Cavity, velocity: Floats, target: Target) -> Motion:
    """The collapse whose labels come nearest to the occupancy.

    The flow knows volumes on its coarse grid only; how much lung it must leave is found by the secant method.
    """
    fluid = target.fluid_voxels / float((1.0 - target.wall.share).sum(dtype=np.float64))
    remaining = (1.0 - target.occupancy) * (1.0 - fluid)
    course = Course(coarse, velocity)
    tried: list[tuple[float, float]] = []
    best, best_error = None, math.inf
    for _ in range(_MAX_TRIES):
        collapse = course.until(remaining)
        motion = move(target.wall, collapse, pitch_mm=coarse.pitch_mm, spacing=target.spacing, maps=target.maps)
        error = target.reached(motion, 0.0)[0] - target.occupancy
        if best is None or abs(error) < best_error:
            best, best_error = motion, abs(error)
        if best_error < min(0.003, 0.15 * target.occupancy):
            break
        slope = 0.7
        if tried and abs(error - tried[-1][1]) > 1e-6 and remaining != tried[-1][0]:
            slope = (tried[-1][1] - error) / (remaining - tried[-1][0])
        tried.append((remaining, error))
        remaining = float(np.clip(remaining + error / np.clip(slope, 0.3, 3.0), 0.02, 0.999))
    assert best is not None
    return best


def fit_surface(target: Target, motion: Motion) -> tuple[float, Floats]:
    """How far to push the lung's surface so that the labels meet the occupancy, mm, and the share of fluid [D, H, W].

    Raises:
        InputError: the voxels are too coarse to meet the occupancy to half a percentage point.
    """
    low, high = -_MAX_PUSH_MM, _MAX_PUSH_MM
    middle, error, below = 0.0, 1.0, np.zeros(0, dtype=np.float32)
    for _ in range(12):
        middle = 0.5 * (low + high)
        reached, below = target.reached(motion, middle)
        error = reached - target.occupancy
        if abs(error) < 2e-4:
            break
        low, high = (middle, high) if error < 0 else (low, middle)
    if abs(error) > 0.005:
        raise InputError(
            f"an occupancy of {target.occupancy:.1%} cannot be drawn on voxels of {max(target.spacing):.3g} mm: "
            f"{target.occupancy + error:.1%} reached; use a finer CT or a larger pneumothorax"
        )
    return middle, below


def below_level(gap: Floats, fluid_voxels: float, gravity: int) -> Floats:
    """Share [D, H, W] of the gap that lies below a flat fluid level, which holds `fluid_voxels` of it."""
    if fluid_voxels <= 0:
        return np.zeros(gap.shape, dtype=np.float32)
    planes = gap.sum(axis=tuple(a for a in range(3) if a != gravity), dtype=np.float64)
    from_below = np.cumsum(planes[::-1])[::-1]
    level = float(np.interp(-fluid_voxels, -from_below, np.arange(gap.shape[gravity])))
    profile = np.clip(np.arange(gap.shape[gravity]) - level + 1.0, 0.0, 1.0).astype(np.float32)
    shape = [-1 if a == gravity else 1 for a in range(3)]
    return np.broadcast_to(profile.reshape(shape), gap.shape)
