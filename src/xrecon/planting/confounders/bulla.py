"""A thin-walled bulla at the pleura."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import ndtr

from xrecon.anatomy.healthy_lungs import ChestAir, find_lungs
from xrecon.anatomy.morphology import Floats, Mask, Spacing, box_of
from xrecon.errors import InputError
from xrecon.planting.confounders.drawing import check_planting, edge_blur_mm, fitted_size, shape_of, written
from xrecon.planting.flow import smooth_noise
from xrecon.planting.noise import measure_noise
from xrecon.planting.render import FULL_DENSITY, Wall, find_wall
from xrecon.volume import Volume

_BULLA_WALL_MM = 0.7
_SHELL = 2.0
"""Outer radius of the lung that a bulla compresses, in radii of the bulla."""
_TISSUE_DENSITY = 1010.0


def plant_bulla(
    ct: Volume,
    *,
    side: str = "right",
    volume_ml: float = 60.0,
    seed: int = 0,
    chest: ChestAir | None = None,
) -> tuple[Volume, Mask]:
    """A thin-walled bulla at the pleura; the lung round it is pushed aside and keeps its mass.

    Args:
        ct: chest CT, HU, canonical orientation.
        side: "right" or "left", the patient's.
        volume_ml: of its air, 1..400 mL.
        seed: of its place and of the noise in it.
        chest: `find_lungs(ct)`, where it is known.

    Raises:
        InputError: a parameter out of range, no lungs, or the bulla does not fit.
    """
    check_planting(side, volume_ml, (1.0, 400.0))
    rng = np.random.default_rng([seed, 11])
    chest = find_lungs(ct) if chest is None else chest
    noise = measure_noise(ct, chest)
    sick, other = (chest.right, chest.left) if side == "right" else (chest.left, chest.right)
    spacing = ct.spacing_mm
    box = box_of(sick, spacing, margin_mm=8.0)
    hu, lung = ct.hu[box], sick[box]
    wall = find_wall(hu, lung, (chest.airway | other)[box], spacing)
    radius = 1.06 * (3.0 * volume_ml * 1000.0 / (4.0 * math.pi)) ** (1.0 / 3.0)
    places = np.argwhere(np.abs(wall.depth - 0.8 * radius) < max(spacing))
    if len(places) == 0:
        raise InputError(f"a bulla of {volume_ml:g} mL does not fit into the {side} lung; ask for less")
    centre = places[rng.integers(len(places))] * np.asarray(spacing)
    offset = np.indices(hu.shape, dtype=np.float32) * np.asarray(spacing, dtype=np.float32).reshape(3, 1, 1, 1)
    offset -= centre.reshape(3, 1, 1, 1).astype(np.float32)
    uneven = 1.0 + 0.07 * smooth_noise(hu.shape, 0.5 * radius / min(spacing), rng)
    away = np.maximum(np.linalg.norm(offset, axis=0) * uneven, 1e-3)
    free = 1.0 - wall.share
    blur = edge_blur_mm(spacing)
    radius = fitted_size(lambda r: float((free * ndtr((r - away) / blur)).sum()) * ct.voxel_ml, volume_ml, 3.0, 80.0)
    displaced = _pushed_aside(hu, wall, centre, offset, away, radius=radius, spacing=spacing)
    ball = ndtr((radius - away) / blur)
    shell = ndtr((radius + _BULLA_WALL_MM - away) / blur) - ball
    air = np.float32(noise.air_hu + 1000.0) + noise.draw(shape_of(hu), rng)
    inside = ball * air + shell * _TISSUE_DENSITY + (1.0 - ball - shell) * displaced
    density = wall.share * wall.wall_density + free * inside
    changed = (wall.share < 1.0) & (away < _SHELL * radius + max(spacing))
    new = np.where(changed, density - 1000.0, hu)
    return written(ct, box, new, free * ball >= 0.5, f"bulla of {volume_ml:g} mL planted in the {side} lung")


def _pushed_aside(
    hu: Floats,
    wall: Wall,
    centre: NDArray[np.float64],
    offset: Floats,
    away: Floats,
    *,
    radius: float,
    spacing: Spacing,
) -> Floats:
    """Density [D, H, W] of the lung round a ball of air, whose tissue is pressed into a shell and keeps its mass.

    Args:
        hu: [D, H, W] of the box.
        wall: boundary of the lung.
        centre: (d, h, w) of the ball, mm from the box's first voxel.
        offset: [3, D, H, W] from the centre, mm.
        away: [D, H, W] distance from the centre, mm, made uneven.
        radius: of the ball, mm.
        spacing: voxel pitch (D, H, W), mm.
    """
    # A shell from the bulla to twice its radius takes the tissue of the whole ball: r'^3 = R^3 + (7/8) r^3.
    outer = _SHELL * radius
    before = outer * np.cbrt(np.clip((away**3 - radius**3) / (outer**3 - radius**3), 0.0, 1.0))
    before = np.where(away < outer, before, away)
    source = (centre.reshape(3, 1, 1, 1) + offset * (before / away)) / np.asarray(spacing).reshape(3, 1, 1, 1)
    inside = np.clip((wall.depth - 0.3 * max(spacing)) / (0.8 * max(spacing)), 0.0, 1.0)
    tissue = inside * (hu + np.float32(1000.0)) + (1.0 - inside) * wall.lung_density
    carried = ndimage.map_coordinates(tissue, source.astype(np.float32), order=1, mode="nearest")
    carried = np.where(away < outer, carried * outer**3 / (outer**3 - radius**3), carried)
    return np.asarray(np.minimum(carried, np.maximum(tissue, FULL_DENSITY)))
