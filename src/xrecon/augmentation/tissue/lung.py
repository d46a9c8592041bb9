"""The lungs of an augmented chest: where they are, how much of a voxel they fill, what fluid does in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.morphology import Floats, Mask
from xrecon.augmentation.chest import AugmentedChest

_LUNG_HU, _TISSUE_HU = -500.0, -250.0
"""All lung below the first, none above the second; between them partial volume with vessels and the chest wall."""
_LEAST_LUNG_ML = 300.0


def healthy_sides(chest: AugmentedChest, first: int) -> list[int]:
    """Sides (1 right, 2 left) with a lung and without free air; with `first` 1 the left one comes first."""
    healthy = []
    for side in (1, 2) if first == 0 else (2, 1):
        hemithorax = chest.sides == side
        if hemithorax.sum() * chest.voxel_ml >= _LEAST_LUNG_ML and not chest.air[hemithorax].any():
            healthy.append(side)
    return healthy


def lung_share(hu: Floats) -> Floats:
    """[D, H, W] share 0..1 of each voxel that is lung, by its HU."""
    return np.asarray(
        np.clip((np.float32(_TISSUE_HU) - hu) / np.float32(_TISSUE_HU - _LUNG_HU), 0.0, 1.0), dtype=np.float32
    )


def aerated_voxels(chest: AugmentedChest) -> NDArray[np.int64]:
    """[N, 3] voxels of aerated lung."""
    return np.argwhere((chest.sides > 0) & (chest.air == 0) & (chest.hu < -500.0))


def gravity_depth_mm(cavity: Mask, pitch_mm: float, *, axis: int) -> Floats:
    """[D, H, W] height of every voxel along `axis` (0 to the feet, 1 to the back), mm, growing downwards."""
    shape = [-1 if a == axis else 1 for a in range(3)]
    along = np.arange(cavity.shape[axis], dtype=np.float32) * np.float32(pitch_mm)
    return np.broadcast_to(along.reshape(shape), cavity.shape)


def filled_below(depth_mm: Floats, room: Floats, voxels: float, pitch_mm: float) -> Floats:
    """[D, H, W] share 0..1 of each voxel that fluid fills: all `room` below a level that makes `voxels` of it."""
    if voxels <= 0:
        return np.zeros(room.shape, dtype=np.float32)
    open_to = room > 0
    values, weights = depth_mm[open_to], room[open_to]
    order = np.argsort(-values, kind="stable")
    filled = np.cumsum(weights[order], dtype=np.float64)
    last = min(int(np.searchsorted(filled, voxels)), len(order) - 1)
    level = float(values[order[last]])
    share = np.clip((depth_mm - np.float32(level)) / np.float32(pitch_mm) + 0.5, 0.0, 1.0)
    return np.asarray(share * room, dtype=np.float32)
