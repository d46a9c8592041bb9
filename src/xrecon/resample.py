"""Separable resampling with a triangle kernel that widens when shrinking, so that nothing aliases."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def axis_weights(
    source: int, target: int, *, scale: float, offset: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights [target, source] that sample position `offset + scale * i` of the source axis (in source voxels).

    The kernel is a triangle of half-width max(1, scale): linear interpolation when enlarging, an area-weighted mean
    when shrinking. Also returns the share [target] of each kernel that lies on the source (the rest is outside).
    """
    half = max(1.0, abs(scale))
    centres = offset + scale * np.arange(target, dtype=np.float64)
    # Source positions run beyond both ends so that the part of a kernel that lies outside can be measured.
    pad = int(np.ceil(half)) + 1
    positions = np.arange(-pad, source + pad, dtype=np.float64)
    weights = np.clip(1.0 - np.abs(positions[None, :] - centres[:, None]) / half, 0.0, None)
    total = weights.sum(axis=1, keepdims=True)
    weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    inside = weights[:, pad : pad + source]
    return inside.astype(np.float32), inside.sum(axis=1).astype(np.float32)


def resample_separable(
    image: NDArray[np.float32],
    shape: tuple[int, ...],
    *,
    scale: tuple[float, ...],
    offset: tuple[float, ...],
    fill: float,
) -> NDArray[np.float32]:
    """Sample an n-D image on a new grid along its own axes: index = offset + scale * new index, per axis.

    Values outside the image are `fill`.
    """
    out = np.asarray(image, dtype=np.float32) - np.float32(fill)
    for axis in range(image.ndim):
        weights, _ = axis_weights(image.shape[axis], shape[axis], scale=scale[axis], offset=offset[axis])
        out = np.moveaxis(np.tensordot(weights, out, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(out + np.float32(fill), dtype=np.float32)
