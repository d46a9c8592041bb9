"""Rays as straight lines through the planes of their dominant axis: what the reference and the kernels sample from.

A ray's dominant axis is the one that it crosses fastest, in voxels (Joseph, IEEE TMI 1:192, 1982). Plane k of that axis
is met at (u, v) = (u0 + k du, v0 + k dv), index coordinates of the two other axes in tensor order; the ray enters the
voxel box at plane coordinate k0 and leaves it at k1 (or ends at its detector pixel).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xrecon.projector.rays import RayFrame

OTHER_AXES = ((1, 2), (0, 2), (0, 1))
"""The axes of u and v for each dominant axis."""


@dataclass(frozen=True)
class Lines:
    """Lines of all rays of a view that one axis dominates.

    Attributes:
        axis: dominant axis, 0 to 2 for D, H, W.
        values: [7, rows, cols]: u0, du, v0, dv, k0, k1 (index coordinates) and path, the mm of ray per plane. A ray
            that another axis dominates, or that misses the box, has k0 = k1.
        chosen: [rows, cols], whether `axis` dominates.
    """

    axis: int
    values: Tensor
    chosen: Tensor


def lines_of(
    frame: RayFrame,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    detector_shape: tuple[int, int],
) -> list[Lines]:
    """The rays of a view, one entry for each axis that dominates some of them; differentiable in the frame."""
    rows, cols = detector_shape
    like = frame.source
    r = torch.arange(rows, dtype=like.dtype, device=like.device)[:, None]
    c = torch.arange(cols, dtype=like.dtype, device=like.device)[None, :]
    start, ray, squares = [], [], torch.zeros((), dtype=like.dtype, device=like.device)
    for i in range(3):
        mm = (frame.corner[i] - frame.source[i] + r * frame.row_step[i]) + c * frame.col_step[i]
        squares = squares + mm * mm
        ray.append(mm / spacing_mm[i])
        start.append(frame.source[i] / spacing_mm[i] + (shape[i] - 1) / 2)
    length_mm = squares.sqrt()
    enter, leave = _box_interval(start, ray, shape)
    with torch.no_grad():
        size = [v.abs() for v in ray]
        # Ties go to the first axis, on every path.
        first = (size[0] >= size[1]) & (size[0] >= size[2])
        second = ~first & (size[1] >= size[2])
        dominant = (first, second, ~first & ~second)
    groups = []
    for axis, chosen in enumerate(dominant):
        count = int(chosen.sum())
        if count:
            groups.append(_group(axis, chosen, count == rows * cols, start, ray, length_mm, enter, leave))
    return groups


def _group(
    axis: int,
    chosen: Tensor,
    everywhere: bool,
    start: list[Tensor],
    ray: list[Tensor],
    length_mm: Tensor,
    enter: Tensor,
    leave: Tensor,
) -> Lines:
    along = ray[axis]
    if not everywhere:
        # Other rays may run parallel to the planes; their lines are never used.
        along = torch.where(chosen, along, torch.ones_like(along))
    inverse = 1 / along
    lines = []
    for other in OTHER_AXES[axis]:
        slope = ray[other] * inverse
        lines += [start[other] - start[axis] * slope, slope]
    ends = start[axis] + enter * along, start[axis] + leave * along
    lines += [torch.minimum(*ends), torch.maximum(*ends), length_mm * inverse.abs()]
    values = torch.stack([line.expand_as(length_mm) for line in lines])
    if not everywhere:
        values = torch.where(chosen, values, torch.zeros_like(values))
    return Lines(axis, values, chosen)


def _box_interval(start: list[Tensor], ray: list[Tensor], shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Ray parameters (0 at the source, 1 at the pixel) at which rays enter and leave the voxel box, [rows, cols]."""
    enter = torch.full_like(ray[0], torch.finfo(ray[0].dtype).tiny)
    leave = torch.ones_like(ray[0])
    for i in range(3):
        safe = torch.where(ray[i].abs() < 1e-12, torch.full_like(ray[i], 1e-12), ray[i])
        inverse = 1 / safe
        low, high = (-0.5 - start[i]) * inverse, (shape[i] - 0.5 - start[i]) * inverse
        enter = torch.maximum(enter, torch.minimum(low, high))
        leave = torch.minimum(leave, torch.maximum(low, high))
    return enter, torch.maximum(leave, enter)
