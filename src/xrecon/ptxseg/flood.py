"""Watershed from markers: each voxel goes to the marker that reaches it over the lowest pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.morphology import Mask
from xrecon.compiled import compiled, inlined

LEVELS = 256
"""Steps in which HU are told apart."""


def flood(hu: NDArray[np.float32], markers: NDArray[np.uint8], open_: Mask, *, low_hu: float, high_hu: float) -> None:
    """Give the voxels of `open_` (where `markers` is 0) to the markers, in place; those not reached stay 0.

    Levels are `LEVELS` equal steps from `low_hu` to `high_hu`; at equal level the nearer marker (in steps) wins, so the
    result does not depend on the order of the voxels in memory beyond ties.

    Args:
        hu: [D, H, W] the relief.
        markers: [D, H, W] uint8, C-contiguous; 0 unknown. Changed in place.
        open_: [D, H, W] where water may run.
        low_hu: HU of the lowest level.
        high_hu: HU of the highest.
    """
    scale = np.float32((LEVELS - 1) / (high_hu - low_hu))
    relief = np.clip((hu - np.float32(low_hu)) * scale, 0, LEVELS - 1).astype(np.uint8)
    _flood(relief.ravel(), markers.reshape(-1), np.ascontiguousarray(open_).ravel(), markers.shape)


@inlined
def _neighbour(voxel: int, side: int, depth: int, height: int, width: int) -> int:
    """Flat index of one of the six neighbours of a voxel, -1 beyond the grid."""
    plane = height * width
    d, rest = voxel // plane, voxel % plane
    h, w = rest // width, rest % width
    if side == 0:
        return voxel - plane if d > 0 else -1
    if side == 1:
        return voxel + plane if d < depth - 1 else -1
    if side == 2:
        return voxel - width if h > 0 else -1
    if side == 3:
        return voxel + width if h < height - 1 else -1
    if side == 4:
        return voxel - 1 if w > 0 else -1
    return voxel + 1 if w < width - 1 else -1


@compiled()
def _flood(  # pragma: no cover
    relief: NDArray[np.uint8], markers: NDArray[np.uint8], open_: Mask, shape: tuple[int, ...]
) -> None:
    """Priority flood with one first-in-first-out queue (linked list) for each level."""
    depth, height, width = shape
    head = np.full(LEVELS, -1, dtype=np.int64)
    tail = np.full(LEVELS, -1, dtype=np.int64)
    following = np.full(relief.size, -1, dtype=np.int32)
    # Markers beside open voxels start; the water of each rises through the queues together.
    for start in range(relief.size):
        if markers[start] != 0 or not open_[start]:
            continue
        for side in range(6):
            near = _neighbour(start, side, depth, height, width)
            if near < 0:
                continue
            if markers[near] != 0 and following[near] == -1 and near != tail[relief[near]]:
                level = relief[near]
                if tail[level] == -1:
                    head[level] = near
                else:
                    following[tail[level]] = near
                tail[level] = near
    for water in range(LEVELS):
        voxel = head[water]
        while voxel != -1:
            for side in range(6):
                near = _neighbour(voxel, side, depth, height, width)
                if near < 0:
                    continue
                if markers[near] == 0 and open_[near]:
                    markers[near] = markers[voxel]
                    level = max(water, relief[near])
                    if tail[level] == -1:
                        head[level] = near
                    else:
                        following[tail[level]] = near
                    tail[level] = near
            voxel = following[voxel]
