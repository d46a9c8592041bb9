"""Morphology of masks, in mm: thresholds of exact Euclidean distance maps instead of structuring elements.

Masks are [D, H, W] bool and spacings (D, H, W) mm, so that balls are round in voxels of any shape. Maps are computed
only in the box that matters. The border of the array is never a surface: an organ that the field of view cuts goes on
beyond it.
"""

from __future__ import annotations

from collections.abc import Iterable

import cc3d
import edt
import fill_voids
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]
Spacing = tuple[float, float, float]
Box = tuple[slice, slice, slice]

_THREADS = 2
_MANY_STEPS = 12
"""Moving a mask more often than this takes longer than a distance map."""


def bounding_box(mask: Mask, *, margin: int | tuple[int, int, int] = 0) -> Box | None:
    """The smallest box [D, H, W] round a mask, widened by `margin` voxels (within the array); None if empty."""
    # One pass over the volume gives two planes, from which all three extents follow.
    over_w: Mask = np.any(mask, axis=2)
    over_d: Mask = np.any(mask, axis=0)
    lines = (np.any(over_w, axis=1), np.any(over_w, axis=0), np.any(over_d, axis=0))
    if not np.any(lines[0]):
        return None
    ends = [np.flatnonzero(line)[[0, -1]] for line in lines]
    d, h, w = (slice(int(first), int(last) + 1) for first, last in ends)
    return widened((d, h, w), margin, mask.shape)


def widened(box: Box, margin: int | tuple[int, int, int], shape: tuple[int, ...]) -> Box:
    """A box with `margin` voxels more on every side, within `shape`."""
    margins = (margin, margin, margin) if isinstance(margin, int) else margin
    d, h, w = (
        slice(max(0, part.start - m), min(size, part.stop + m))
        for part, m, size in zip(box, margins, shape, strict=True)
    )
    return d, h, w


def voxels(distance_mm: float, spacing: Spacing) -> tuple[int, int, int]:
    """`distance_mm` in whole voxels of each axis, rounded up, plus one."""
    d, h, w = (int(np.ceil(distance_mm / s)) + 1 for s in spacing)
    return d, h, w


def box_of(mask: Mask, spacing: Spacing, *, margin_mm: float) -> Box:
    """The smallest box [D, H, W] round a mask that is not empty, widened by `margin_mm` (within the array).

    Raises:
        ValueError: the mask is empty.
    """
    d, h, w = (int(np.ceil(margin_mm / s)) for s in spacing)
    box = bounding_box(mask, margin=(d, h, w))
    if box is None:
        raise ValueError("there is no box round an empty mask")
    return box


def depth_mm(mask: Mask, spacing: Spacing) -> Floats:
    """Distance [D, H, W] of every voxel of the mask to the nearest voxel outside it, mm; 0 outside.

    Infinite everywhere if the mask fills the array.
    """
    return np.asarray(
        edt.edt(np.ascontiguousarray(mask), anisotropy=spacing, black_border=False, parallel=_THREADS),
        dtype=np.float32,
    )


def distance_mm(mask: Mask, spacing: Spacing) -> Floats:
    """Distance [D, H, W] of every voxel to the mask, mm; 0 inside, infinite everywhere if the mask is empty."""
    return depth_mm(~mask, spacing)


def signed_mm(mask: Mask, spacing: Spacing) -> Floats:
    """Distance [D, H, W] to the mask's surface, mm: positive inside, at most 1000.

    The surface lies half a voxel outside the centres of the outermost voxels.
    """
    half = np.float32(0.5 * min(spacing))
    limit = np.float32(1000.0)
    inside = np.minimum(depth_mm(mask, spacing), limit)
    outside = np.minimum(distance_mm(mask, spacing), limit)
    return np.where(mask, inside - half, half - outside).astype(np.float32)


def eroded(mask: Mask, radius_mm: float, spacing: Spacing) -> Mask:
    """Voxels of the mask deeper than `radius_mm`."""
    box = bounding_box(mask, margin=1)
    out = np.zeros_like(mask)
    if box is not None:
        out[box] = depth_mm(mask[box], spacing) > radius_mm
    return out


def dilated(mask: Mask, radius_mm: float, spacing: Spacing) -> Mask:
    """Voxels at most `radius_mm` from the mask."""
    box = bounding_box(mask, margin=voxels(radius_mm, spacing))
    out = np.zeros_like(mask)
    if box is not None:
        out[box] = distance_mm(mask[box], spacing) <= radius_mm
    return out


def beside_mask(mask: Mask, reach_mm: float, spacing: Spacing) -> Mask:
    """As `dilated`, and much faster where the reach is about one voxel: the mask is moved instead of measured from."""
    d, h, w = (int(reach_mm / s) for s in spacing)
    steps = np.array([(i, j, k) for i in range(d + 1) for j in range(-h, h + 1) for k in range(-w, w + 1)])
    near = steps[np.sum((steps * np.asarray(spacing)) ** 2, axis=1) <= reach_mm**2]
    if len(near) > _MANY_STEPS:
        return dilated(mask, reach_mm, spacing)
    out = mask.copy()
    for step in near[np.any(near != 0, axis=1)]:
        ahead, behind = (
            tuple(slice(max(sign * int(n), 0), min(sign * int(n), 0) or None) for n in step) for sign in (1, -1)
        )
        out[ahead] |= mask[behind]
        out[behind] |= mask[ahead]
    return out


def opened(mask: Mask, radius_mm: float, spacing: Spacing) -> Mask:
    """The mask without parts thinner than about twice `radius_mm`."""
    return dilated(eroded(mask, radius_mm, spacing), radius_mm, spacing) & mask


def closed(mask: Mask, radius_mm: float, spacing: Spacing) -> Mask:
    """The mask with gaps and notches narrower than about twice `radius_mm` filled."""
    box = bounding_box(mask, margin=voxels(radius_mm, spacing))
    out = mask.copy()
    if box is not None:
        wide = distance_mm(mask[box], spacing) <= radius_mm
        out[box] |= depth_mm(wide, spacing) > radius_mm
    return out


def grown(mask: Mask, steps: int = 1) -> Mask:
    """The mask and its face neighbours, `steps` times: much faster than a distance map where one voxel is the scale."""
    out = mask.copy()
    for _ in range(steps):
        before = out.copy()
        for axis in range(3):
            _add_neighbours(out, before, axis)
    return out


def stretched(mask: Mask, steps: tuple[int, int, int]) -> Mask:
    """The mask and its neighbours along each axis, as many as `steps` (D, H, W) says."""
    out = mask.copy()
    for axis, count in enumerate(steps):
        for _ in range(count):
            _add_neighbours(out, out.copy(), axis)
    return out


def _add_neighbours(out: Mask, mask: Mask, axis: int) -> None:
    """out |= the face neighbours of the mask along an axis."""
    ahead, behind = [slice(None)] * 3, [slice(None)] * 3
    ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
    out[tuple(ahead)] |= mask[tuple(behind)]
    out[tuple(behind)] |= mask[tuple(ahead)]


def shrunk(mask: Mask, steps: int = 1) -> Mask:
    """Voxels of the mask all of whose face neighbours (inside the array) belong to it, `steps` times."""
    return ~grown(~mask, steps)


def components(mask: Mask) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Face-connected components: labels [D, H, W] from 1, and the voxel count of each (index 0 is label 1)."""
    labels, count = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=6, return_N=True)
    sizes = np.bincount(labels.ravel(), minlength=int(count) + 1)[1:]
    return np.asarray(labels, dtype=np.uint32), np.asarray(sizes, dtype=np.int64)


def select(labels: NDArray[np.uint32], numbers: Iterable[int], count: int) -> Mask:
    """Voxels whose component is among `numbers` (each from 1 to `count`)."""
    table = np.zeros(count + 1, dtype=np.bool_)
    table[list(numbers)] = True
    return np.asarray(table[labels])


def at_least(mask: Mask, size_voxels: float) -> Mask:
    """The mask without components smaller than `size_voxels`."""
    labels, sizes = components(mask)
    return select(labels, 1 + np.flatnonzero(sizes >= size_voxels), len(sizes))


def holding(mask: Mask, seeds: Mask) -> Mask:
    """The components of the mask that hold a voxel of `seeds`."""
    labels, sizes = components(mask)
    hit = np.unique(labels[seeds & mask])
    return select(labels, hit[hit > 0], len(sizes))


def filled(mask: Mask) -> Mask:
    """The mask with its cavities (holes closed in all three dimensions) filled."""
    box = bounding_box(mask)
    out = mask.copy()
    if box is not None:
        out[box] = fill_voids.fill(np.ascontiguousarray(mask[box]))
    return out


def filled_slices(mask: Mask) -> Mask:
    """The mask with the holes of every axial slice filled, so that lungs cut by the first or last slice are closed."""
    out = np.empty_like(mask)
    for d in range(mask.shape[0]):
        out[d] = fill_voids.fill(np.ascontiguousarray(mask[d]))
    return out
