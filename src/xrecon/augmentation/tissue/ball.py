"""Balls in the lung: the shape of bullae and nodules."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.morphology import Floats
from xrecon.augmentation.chest import AugmentedChest


def box_around(
    chest: AugmentedChest, place: NDArray[np.int64], radius_mm: float
) -> tuple[tuple[slice, slice, slice], Floats]:
    """A box round a voxel that holds a ball of this radius, and the distance of its voxels to that voxel, mm."""
    reach = int(np.ceil(radius_mm / chest.pitch_mm)) + 1
    parts = [slice(max(int(p) - reach, 0), int(p) + reach + 1) for p in place]
    axes = [
        (np.arange(n, dtype=np.float32)[part] - np.float32(p)) * np.float32(chest.pitch_mm)
        for n, part, p in zip(chest.hu.shape, parts, place, strict=True)
    ]
    away = np.sqrt(axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2)
    return (parts[0], parts[1], parts[2]), away


def ball_share(away_mm: Floats, radius_mm: float, pitch_mm: float) -> Floats:
    """Share 0..1 of each voxel inside a ball, from its distance to the centre: a ramp one voxel wide."""
    return np.asarray(np.clip((radius_mm - away_mm) / pitch_mm + 0.5, 0.0, 1.0), dtype=np.float32)
