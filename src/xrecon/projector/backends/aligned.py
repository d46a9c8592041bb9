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
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from xrecon.geometry import ConeBeam
from xrecon.projector.backends.backend import Backend, Films, Volumes, transposed
from xrecon.projector.rays import ray_frame
from xrecon.projector.scene import Scene

CACHED_ENTRIES = 24_000_000
"""Interpolation weights up to which a view's plan is kept for the next call (about 100 MB), enough for 224^3."""

LARGEST_ENTRIES = 96_000_000
"""Beyond this a plan is not built at all. Between both it is built for one call: a full CT of 512 x 512 x 200."""


@dataclass(frozen=True)
class AlignedPlan:
    """Interpolation weights of one aligned view, for one grid.

    Attributes:
        depth: tensor axis (1 = H, 2 = W of [D, H, W]) along which rays run.
        rows: row interpolation for each plane, times the share of the slab inside the row range.
        cols: the same for columns; `across` is W or H.
        path_mm: path length of a ray per plane.
        corner_index: flat detector index of the corner corrections.
        corner_voxels: flat [planes, D, across] index of the four voxels of each correction.
        corner_weights: their weights.
    """

    depth: int
    rows: Float[Tensor, "planes rows height"]
    cols: Float[Tensor, "planes cols across"]
    path_mm: Float[Tensor, "rows cols"]
    corner_index: Int[Tensor, " corners"]
    corner_voxels: Int[Tensor, "corners 4"]
    corner_weights: Float[Tensor, "corners 4"]


def plan_refusal(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], view: ConeBeam) -> str | None:
    """Why a view of a grid has no plan, as a part of a sentence; None: it has one."""
    if not view.is_aligned:
        return "needs views without tilt and roll at a multiple of 90 degrees"
    entries = _entries(shape, view)
    if entries > LARGEST_ENTRIES:
        return f"would need {entries:,} interpolation weights for this grid and film, more than {LARGEST_ENTRIES:,}"
    if _steepest(spacing_mm, view) > 1.0:
        return "needs rays that cross the voxels fastest along the beam (H in a PA view, W in a lateral view)"
    return None


def aligned_plan(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], geometry: ConeBeam
) -> AlignedPlan | None:
    """The plan of an aligned view, or None where another axis dominates some ray, or the plan would be too large."""
    return None if plan_refusal(shape, spacing_mm, geometry) is not None else plan_for(shape, spacing_mm, geometry)


def plan_for(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], geometry: ConeBeam) -> AlignedPlan:
    """The plan of a view that has no `plan_refusal`; moderate ones are kept for the next call."""
    build = _build_plan if _entries(shape, geometry) <= CACHED_ENTRIES else _build_plan.__wrapped__
    return build(shape, spacing_mm, geometry)


def _depth_axis(view: ConeBeam) -> int:
    return 1 if round(view.angle_deg / 90.0) % 2 == 0 else 2


def _entries(shape: tuple[int, int, int], view: ConeBeam) -> int:
    """Numbers in the interpolation matrices of all planes."""
    rows, cols = view.detector_shape
    depth = _depth_axis(view)
    return shape[depth] * (rows * shape[0] + cols * shape[3 - depth])


@dataclass(frozen=True)
class _Slopes:
    """Rays of an aligned view: mm sideways per mm of depth, and where they begin and end.

    Attributes:
        rows: along D.
        cols: along the other axis across the beam.
        source: focal spot, (d, h, w) mm.
        detector_mm: position of the detector along the beam.
    """

    rows: Float[ndarray, " rows"]
    cols: Float[ndarray, " cols"]
    source: Float[ndarray, " 3"]
    detector_mm: float


def _slopes(view: ConeBeam) -> _Slopes:
    frame = ray_frame(view)
    source, corner, row_step, col_step = (
        v.numpy() for v in (frame.source, frame.corner, frame.row_step, frame.col_step)
    )
    depth = _depth_axis(view)
    across = 3 - depth
    rows, cols = view.detector_shape
    row_mm = corner[0] + row_step[0] * np.arange(rows)
    col_mm = corner[across] + col_step[across] * np.arange(cols)
    run = corner[depth] - source[depth]
    return _Slopes((row_mm - source[0]) / run, (col_mm - source[across]) / run, source, corner[depth])


@lru_cache(maxsize=64)
def _steepest(spacing_mm: tuple[float, float, float], view: ConeBeam) -> float:
    """Most voxels that a ray moves sideways per voxel of depth; at most 1 where depth dominates every ray."""
    with torch.inference_mode(False):
        slopes, depth = _slopes(view), _depth_axis(view)
    return float(
        max(
            np.abs(slopes.rows).max() * spacing_mm[depth] / spacing_mm[0],
            np.abs(slopes.cols).max() * spacing_mm[depth] / spacing_mm[3 - depth],
        )
    )


@lru_cache(maxsize=4)
def _build_plan(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], geometry: ConeBeam) -> AlignedPlan:
    # A plan built under inference mode would be useless to a later call that needs gradients.
    with torch.inference_mode(False):
        return _new_plan(shape, spacing_mm, geometry)


def _new_plan(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], geometry: ConeBeam) -> AlignedPlan:
    slopes, depth = _slopes(geometry), _depth_axis(geometry)
    grid = _PlaneGrid(shape, spacing_mm, depth, slopes.source)
    # Rays run from the source to the detector, wherever the volume's faces are. Limiting the rows alone is enough:
    # a slab counts where it lies in the row span and in the column span.
    ends_mm = np.array([slopes.source[depth], slopes.detector_mm])
    ends = np.sort(ends_mm / spacing_mm[depth] + (shape[depth] - 1) / 2)
    rows = _axis_weights(slopes.rows, 0, grid, limits=ends)
    cols = _axis_weights(slopes.cols, 3 - depth, grid, limits=np.array([-np.inf, np.inf]))
    path = spacing_mm[depth] * np.sqrt(1 + slopes.rows[:, None] ** 2 + slopes.cols[None, :] ** 2)
    corners = _corners(rows, cols)
    return AlignedPlan(
        depth=depth,
        rows=_float32(rows.weights * rows.share[..., None]),
        cols=_float32(cols.weights * cols.share[..., None]),
        path_mm=_float32(path),
        corner_index=torch.from_numpy(corners.index),
        corner_voxels=torch.from_numpy(corners.voxels),
        corner_weights=_float32(corners.weights),
    )


def _float32(values: Float[ndarray, "*shape"]) -> Float[Tensor, "*shape"]:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


@dataclass(frozen=True)
class _PlaneGrid:
    """The voxel grid as the rays of an aligned view meet it.

    Attributes:
        shape: voxels (D, H, W).
        spacing_mm: their pitch.
        depth: axis along which rays run.
        source: focal spot, (d, h, w) mm.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    depth: int
    source: Float[ndarray, " 3"]


@dataclass(frozen=True)
class _AxisWeights:
    """How the rays of one detector axis sample every plane.

    Attributes:
        weights: linear interpolation between the voxels of the axis.
        share: part of the plane's slab that lies in the span.
        span: plane coordinates at which a ray enters and leaves the faces of this axis.
    """

    weights: Float[ndarray, "planes rays voxels"]
    share: Float[ndarray, "planes rays"]
    span: Float[ndarray, "2 rays"]


def _axis_weights(
    slope: Float[ndarray, " rays"], axis: int, grid: _PlaneGrid, *, limits: Float[ndarray, " 2"]
) -> _AxisWeights:
    """Weights of one detector axis, which runs along `axis` of the grid; spans are cut to the limits."""
    depth, source, shape, spacing_mm = grid.depth, grid.source, grid.shape, grid.spacing_mm
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
    return _AxisWeights(weights, np.clip(share, 0.0, 1.0), span)


@dataclass(frozen=True)
class _Corners:
    """Corrections for rays that leave through a row face and a column face within one slab.

    Attributes:
        index: flat detector index.
        voxels: flat [planes, D, across] index of the four voxels.
        weights: what each of them adds.
    """

    index: Int[ndarray, " corners"]
    voxels: Int[ndarray, "corners 4"]
    weights: Float[ndarray, "corners 4"]


def _corners(rows: _AxisWeights, cols: _AxisWeights) -> _Corners:
    """Where a slab is cut by a row face and by a column face, shares do not multiply.

    The product of two shares is replaced by the true overlap; a handful of (plane, row, col) entries.
    """
    partial_rows = (rows.share > 0) & (rows.share < 1)
    partial_cols = (cols.share > 0) & (cols.share < 1)
    index, voxels, weights = [], [], []
    n_cols, size_row, size_col = cols.share.shape[1], rows.weights.shape[2], cols.weights.shape[2]
    for k in np.nonzero(partial_rows.any(axis=1) & partial_cols.any(axis=1))[0]:
        r, c = (v.ravel() for v in np.meshgrid(*map(np.flatnonzero, (partial_rows[k], partial_cols[k])), indexing="ij"))
        top = np.minimum(np.minimum(k + 0.5, rows.span[1, r]), cols.span[1, c])
        bottom = np.maximum(np.maximum(k - 0.5, rows.span[0, r]), cols.span[0, c])
        excess = np.clip(top - bottom, 0.0, None) - rows.share[k, r] * cols.share[k, c]
        i = np.minimum(np.argmax(rows.weights[k, r] > 0, axis=1), max(size_row - 2, 0))
        j = np.minimum(np.argmax(cols.weights[k, c] > 0, axis=1), max(size_col - 2, 0))
        corner_voxels, corner_weights = [], []
        for di, dj in ((0, 0), (0, 1), (1, 0), (1, 1)):
            ii, jj = np.minimum(i + di, size_row - 1), np.minimum(j + dj, size_col - 1)
            product = rows.weights[k, r, ii] * cols.weights[k, c, jj]
            # On an axis of one voxel both neighbours are the same voxel; count it once.
            product = product * ((di == 0) | (size_row > 1)) * ((dj == 0) | (size_col > 1))
            corner_voxels.append((k * size_row + ii) * size_col + jj)
            corner_weights.append(product * excess)
        index.append(r * n_cols + c)
        voxels.append(np.stack(corner_voxels, axis=1))
        weights.append(np.stack(corner_weights, axis=1))
    if not index:
        return _Corners(np.zeros(0, np.int64), np.zeros((0, 4), np.int64), np.zeros((0, 4)))
    return _Corners(np.concatenate(index), np.concatenate(voxels), np.concatenate(weights))


def project_aligned(volume: Volumes, plan: AlignedPlan) -> Float[Tensor, "batch rows cols"]:
    """Line integrals of volumes (1/mm) along a plan."""
    rows, cols, path, corner_weights = (
        t.to(device=volume.device, dtype=volume.dtype)
        for t in (plan.rows, plan.cols, plan.path_mm, plan.corner_weights)
    )
    planes = volume.transpose(1, 2) if plan.depth == 1 else volume.permute(0, 3, 1, 2)  # [N, planes, D, across]
    batch, depth = planes.shape[:2]
    sampled = rows @ planes  # [N, planes, rows, across]
    strip = sampled.transpose(1, 2).reshape(batch, rows.shape[1], -1)
    image = strip @ cols.transpose(1, 2).reshape(depth * cols.shape[2], cols.shape[1])
    if plan.corner_index.numel():
        samples = planes.reshape(batch, -1)[:, plan.corner_voxels.to(volume.device)]
        extra = (samples * corner_weights).sum(dim=2)
        flat = torch.zeros_like(image).reshape(batch, -1)
        image = image + flat.index_add(1, plan.corner_index.to(volume.device), extra).reshape(image.shape)
    return image * path


def _refusal(volume: Volumes, scene: Scene) -> str | None:
    if volume.dtype != torch.float32:
        return f"keeps its weights in float32 and cannot project {volume.dtype}"
    if any(pose is not None for pose in scene.poses):
        return "projects nominal views only, not those that a pose tensor moves"
    for view in scene.views:
        reason = plan_refusal(scene.shape, scene.spacing_mm, view)
        if reason is not None:
            return reason
    return None


def _project(volume: Volumes, scene: Scene) -> Films:
    scene.frames(volume.device)  # refuses a source inside the volume
    plans = (plan_for(scene.shape, scene.spacing_mm, view) for view in scene.views)
    return torch.stack([project_aligned(volume, plan) for plan in plans], dim=1)


ALIGNED = Backend(
    name="aligned",
    summary="matrix products, for views square to the patient on any device; float32",
    refusal=_refusal,
    project=_project,
    backproject=transposed(_project),
)
