"""Morphology with exact distances in mm: thresholds of Euclidean distance maps instead of structuring elements."""

from __future__ import annotations

import edt
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]
Spacing = tuple[float, float, float]


def depth_mm(mask: Mask, spacing: Spacing) -> Floats:
    """Distance of every voxel [D, H, W] of the mask to the nearest voxel outside it, mm; 0 outside.

    The border of the array is not a surface: an organ that the field of view cuts goes on beyond it.
    """
    return np.asarray(edt.edt(np.ascontiguousarray(mask), anisotropy=spacing, black_border=False), dtype=np.float32)


def distance_mm(mask: Mask, spacing: Spacing) -> Floats:
    """Distance of every voxel [D, H, W] to the mask, mm; 0 inside, infinite where the mask is empty."""
    return depth_mm(~mask, spacing)


def signed_mm(mask: Mask, spacing: Spacing) -> Floats:
    """Distance to the mask's surface, mm: positive inside. The surface lies half a voxel outside the mask."""
    half = np.float32(0.5 * min(spacing))
    limit = np.float32(1000.0)
    inside = np.minimum(depth_mm(mask, spacing), limit)
    outside = np.minimum(distance_mm(mask, spacing), limit)
    return np.where(mask, inside - half, half - outside).astype(np.float32)


def erode(mask: Mask, radius_mm: float, spacing: Spacing) -> Mask:
    """What lies more than `radius_mm` inside."""
    return np.asarray(depth_mm(mask, spacing) > radius_mm)


def dilate(mask: Mask, radius_mm: float, spacing: Spacing) -> Mask:
    """What lies within `radius_mm` of the mask."""
    return np.asarray(distance_mm(mask, spacing) <= radius_mm)


def close(mask: Mask, radius_mm: float, spacing: Spacing) -> Mask:
    """The mask with every gap filled that a ball of `radius_mm` cannot enter from outside."""
    return erode(dilate(mask, radius_mm, spacing), radius_mm, spacing) | mask


def box_of(mask: Mask, spacing: Spacing, *, margin_mm: float) -> tuple[slice, slice, slice]:
    """The smallest box round a mask that is not empty, widened by `margin_mm` and cut at the array's border."""
    slices = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        found = np.flatnonzero(mask.any(axis=others))
        margin = int(np.ceil(margin_mm / spacing[axis]))
        slices.append(slice(max(0, int(found[0]) - margin), min(mask.shape[axis], int(found[-1]) + 1 + margin)))
    return slices[0], slices[1], slices[2]
