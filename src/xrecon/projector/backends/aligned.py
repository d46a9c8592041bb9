"""Joseph's projector for films square to the patient, as two matrix products per voxel plane.

In a PA or lateral film without tilt, a detector row meets a voxel plane in one row position and a column in one
column position, so the bilinear sampling of a plane V is A V B^T with interpolation matrices A and B. The same sums
as `reference`, at the speed of a matrix product, differentiable as often as one likes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xrecon.geometry import ConeBeam
from xrecon.projector.rays import ray_frame

_CACHED_ENTRIES = 24_000_000  # interpolation weights kept per view (about 100 MB), enough for 224^3
_LARGEST_ENTRIES = 96_000_000  # built for one call and let go: a full-resolution CT of 512 x 512 x 200 to 224^2


@dataclass(frozen=True)
class AlignedPlan:
    """Interpolation weights of one aligned view, for one grid.

    Attributes:
        depth: tensor axis (1 = H, 2 = W of [D, H, W]) along which rays run.
        rows: [K, rows, D] row interpolation for each plane, times the share of the slab inside the row range.
        cols: [K, cols, W or H] the same for columns.
        path_mm: [rows, cols] path length of a ray per plane.
        corner_index: [M] flat detector index of the corner corrections.
        corner_voxels: [M, 4] flat [K, D, other] voxel index; corner_weights: [M, 4].
    """

    depth: int
    rows: Tensor
    cols: Tensor
    path_mm: Tensor
    corner_index: Tensor
    corner_voxels: Tensor
    corner_weights: Tensor


def aligned_plan(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], geometry: ConeBeam
) -> AlignedPlan | None:
    """The plan of an aligned view, or None where another axis dominates some ray, or the plan would be too large."""
    if not geometry.is_aligned:
        return None
    rows, cols = geometry.detector_shape
    depth = 1 if round(geometry.angle_deg / 90.0) % 2 == 0 else 2
    entries = shape[depth] * (rows * shape[0] + cols * shape[3 - depth])
    if entries > _LARGEST_ENTRIES:
        return None
    build = _build_plan if entries <= _CACHED_ENTRIES else _build_plan.__wrapped__
    return build(shape, spacing_mm, geometry, depth)


@lru_cache(maxsize=4)
def _build_plan(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], geometry: ConeBeam, depth: int
) -> AlignedPlan | None:
    # A plan built under inference mode would be useless to a later call that needs gradients.
    with torch.inference_mode(False):
        return _new_plan(shape, spacing_mm, geometry, depth)


def _new_plan(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], geometry: ConeBeam, depth: int
) -> AlignedPlan | None:
    frame = ray_frame(geometry)
    source, corner, row_step, col_step = (
        v.numpy() for v in (frame.source, frame.corner, frame.row_step, frame.col_step)
    )
    other = 3 - depth
    rows, cols = geometry.detector_shape
    row_mm = corner[0] + row_step[0] * np.arange(rows)
    col_mm = corner[other] + col_step[other] * np.arange(cols)
    run = corner[depth] - source[depth]
    row_slope = (row_mm - source[0]) / run  # mm sideways per mm of depth
    col_slope = (col_mm - source[other]) / run
    steepest = max(
        np.abs(row_slope).max() * spacing_mm[depth] / spacing_mm[0],
        np.abs(col_slope).max() * spacing_mm[depth] / spacing_mm[other],
    )
    if steepest > 1.0:
        return None
    # Rays run from the source to the detector, wherever the volume's faces are. Limiting the rows alone is enough:
    # a slab counts where it lies in the row span and in the column span.
    ends = np.sort(np.array([source[depth], corner[depth]]) / spacing_mm[depth] + (shape[depth] - 1) / 2)
    row_weights, row_share, row_span = _axis_plan(row_slope, 0, depth, source, shape, spacing_mm, limits=ends)
    everywhere = np.array([-np.inf, np.inf])
    col_weights, col_share, col_span = _axis_plan(col_slope, other, depth, source, shape, spacing_mm, limits=everywhere)
    path = spacing_mm[depth] * np.sqrt(1 + row_slope[:, None] ** 2 + col_slope[None, :] ** 2)
    index, voxels, weights = _corners(row_weights, col_weights, row_share, col_share, row_span, col_span)
    return AlignedPlan(
        depth,
        _float32(row_weights * row_share[..., None]),
        _float32(col_weights * col_share[..., None]),
        _float32(path),
        torch.from_numpy(index),
        torch.from_numpy(voxels),
        _float32(weights),
    )


def _float32(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _axis_plan(
    slope: NDArray[np.float64],
    axis: int,
    depth: int,
    source: NDArray[np.float64],
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    *,
    limits: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """For each plane and ray of one detector axis: weights [K, R, size], slab share [K, R], inside span [2, R].

    Spans and `limits` are plane coordinates; a span is cut to the limits.
    """
    size, planes = shape[axis], np.arange(shape[depth])
    plane_mm = (planes - (shape[depth] - 1) / 2) * spacing_mm[depth]
    position = (source[axis] + slope[None, :] * (plane_mm - source[depth])[:, None]) / spacing_mm[axis]
    position = position + (size - 1) / 2
    clamped = np.clip(position, 0, size - 1)
    weights = clamped[..., None] - np.arange(size)
    for step in (np.abs, lambda v, out: np.subtract(1.0, v, out=out), lambda v, out: np.maximum(v, 0.0, out=out)):
        step(weights, out=weights)  # in place: for a full CT this array is the largest of all
    per_plane = slope * spacing_mm[depth] / spacing_mm[axis]
    per_plane = np.where(np.abs(per_plane) < 1e-12, 1e-12, per_plane)
    first = position[0]
    ends = np.stack([(-0.5 - first) / per_plane, (size - 0.5 - first) / per_plane])  # plane coordinate of both faces
    span = np.clip(np.sort(ends, axis=0), *limits)
    share = np.minimum(planes[:, None] + 0.5, span[1]) - np.maximum(planes[:, None] - 0.5, span[0])
    return weights, np.clip(share, 0.0, 1.0), span


def _corners(
    row_weights: NDArray[np.float64],
    col_weights: NDArray[np.float64],
    row_share: NDArray[np.float64],
    col_share: NDArray[np.float64],
    row_span: NDArray[np.float64],
    col_span: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Rays that leave through a row face and a column face within one slab: there shares do not multiply.

    The product of two shares is replaced by the true overlap; a handful of (plane, row, col) entries.
    """
    partial_rows = (row_share > 0) & (row_share < 1)
    partial_cols = (col_share > 0) & (col_share < 1)
    index, voxels, weights = [], [], []
    n_cols, size_row, size_col = col_share.shape[1], row_weights.shape[2], col_weights.shape[2]
    for k in np.nonzero(partial_rows.any(axis=1) & partial_cols.any(axis=1))[0]:
        r, c = (v.ravel() for v in np.meshgrid(*map(np.flatnonzero, (partial_rows[k], partial_cols[k])), indexing="ij"))
        top = np.minimum(np.minimum(k + 0.5, row_span[1, r]), col_span[1, c])
        bottom = np.maximum(np.maximum(k - 0.5, row_span[0, r]), col_span[0, c])
        excess = np.clip(top - bottom, 0.0, None) - row_share[k, r] * col_share[k, c]
        i = np.minimum(np.argmax(row_weights[k, r] > 0, axis=1), max(size_row - 2, 0))
        j = np.minimum(np.argmax(col_weights[k, c] > 0, axis=1), max(size_col - 2, 0))
        corners = []
        for di, dj in ((0, 0), (0, 1), (1, 0), (1, 1)):
            ii, jj = np.minimum(i + di, size_row - 1), np.minimum(j + dj, size_col - 1)
            both = row_weights[k, r, ii] * col_weights[k, c, jj]
            # On an axis of one voxel both neighbours are the same voxel; count it once.
            both = both * ((di == 0) | (size_row > 1)) * ((dj == 0) | (size_col > 1))
            corners.append(((k * size_row + ii) * size_col + jj, both * excess))
        index.append(r * n_cols + c)
        voxels.append(np.stack([v for v, _ in corners], axis=1))
        weights.append(np.stack([w for _, w in corners], axis=1))
    if not index:
        return np.zeros(0, np.int64), np.zeros((0, 4), np.int64), np.zeros((0, 4))
    return np.concatenate(index), np.concatenate(voxels), np.concatenate(weights)


def project_aligned(volume: Tensor, plan: AlignedPlan) -> Tensor:
    """Line integrals [N, rows, cols] of volumes [N, D, H, W] (1/mm) along a plan."""
    rows, cols, path, corner_weights = (
        t.to(device=volume.device, dtype=volume.dtype)
        for t in (plan.rows, plan.cols, plan.path_mm, plan.corner_weights)
    )
    planes = volume.transpose(1, 2) if plan.depth == 1 else volume.permute(0, 3, 1, 2)  # [N, K, D, other]
    batch, depth = planes.shape[:2]
    sampled = rows @ planes  # [N, K, rows, other]
    strip = sampled.transpose(1, 2).reshape(batch, rows.shape[1], -1)
    image = strip @ cols.transpose(1, 2).reshape(depth * cols.shape[2], cols.shape[1])
    if plan.corner_index.numel():
        samples = planes.reshape(batch, -1)[:, plan.corner_voxels.to(volume.device)]
        extra = (samples * corner_weights).sum(dim=2)
        flat = torch.zeros_like(image).reshape(batch, -1)
        image = image + flat.index_add(1, plan.corner_index.to(volume.device), extra).reshape(image.shape)
    return image * path
