"""Rays as straight lines through the planes of their dominant axis: what the reference and the kernels sample from.

A ray's dominant axis is the one that it crosses fastest, in voxels (Joseph, IEEE TMI 1:192, 1982). Plane k of that axis
is met at (u, v) = (u0 + k du, v0 + k dv), index coordinates of the two other axes in tensor order; the ray enters the
voxel box at plane coordinate k0 and leaves it at k1 (or ends at its detector pixel).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from xrecon.projector.rays import RayFrame

OTHER_AXES = ((1, 2), (0, 2), (0, 1))
"""The axes of u and v for each dominant axis."""

LineValues = Float[Tensor, "7 *rays"]
"""What `LineParameters` names, stacked: u0, du, v0, dv, k0, k1 and path_mm of every ray."""


class LineParameters(NamedTuple):
    """The seven numbers of a ray, each a tensor [*rays].

    Attributes:
        u0: first other axis at plane 0, index coordinate.
        du: its step per plane.
        v0: second other axis at plane 0.
        dv: its step per plane.
        k0: plane coordinate at which the ray enters the voxel box.
        k1: plane coordinate at which it leaves it, or ends at its pixel.
        path_mm: length of ray per plane.
    """

    u0: Tensor
    du: Tensor
    v0: Tensor
    dv: Tensor
    k0: Tensor
    k1: Tensor
    path_mm: Tensor

    @classmethod
    def of(cls, values: LineValues) -> LineParameters:
        """The rows of `Lines.values` by name; views, no copies."""
        return cls(*values.unbind(0))


@dataclass(frozen=True)
class Lines:
    """Lines of all rays of a view that one axis dominates.

    Attributes:
        axis: dominant axis, 0 to 2 for D, H, W.
        values: `LineParameters` of every pixel. A ray that another axis dominates, or that misses the box, has k0 = k1.
        chosen: whether `axis` dominates.
    """

    axis: int
    values: Float[Tensor, "7 rows cols"]
    chosen: Bool[Tensor, "rows cols"]


class _Rays(NamedTuple):
    """Rays in index coordinates; the first two hold one tensor [rows, cols] or [] per axis.

    Attributes:
        start: the source.
        ray: from the source to the pixel.
        length_mm: length of that vector.
        enter: ray parameter (0 at the source, 1 at the pixel) at which the ray enters the voxel box.
        leave: the same where it leaves the box.
    """

    start: list[Tensor]
    ray: list[Tensor]
    length_mm: Float[Tensor, "rows cols"]
    enter: Float[Tensor, "rows cols"]
    leave: Float[Tensor, "rows cols"]


def lines_of(
    frame: RayFrame,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    detector_shape: tuple[int, int],
) -> list[Lines]:
    """The rays of a view, one entry for each axis that dominates some of them; differentiable in the frame."""
    rows, cols = detector_shape
    rays = _rays(frame, shape, spacing_mm, detector_shape)
    with torch.no_grad():
        size = [v.abs() for v in rays.ray]
        # Ties go to the first axis, on every path.
        first = (size[0] >= size[1]) & (size[0] >= size[2])
        second = ~first & (size[1] >= size[2])
        dominant = (first, second, ~first & ~second)
    groups = []
    for axis, chosen in enumerate(dominant):
        count = int(chosen.sum())
        if count:
            groups.append(_lines_along(axis, rays, chosen, everywhere=count == rows * cols))
    return groups


def _rays(
    frame: RayFrame,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    detector_shape: tuple[int, int],
) -> _Rays:
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
    return _Rays(start, ray, length_mm, *_box_interval(start, ray, shape))


def _lines_along(axis: int, rays: _Rays, chosen: Bool[Tensor, "rows cols"], *, everywhere: bool) -> Lines:
    """Lines through the planes of an axis that dominates the chosen rays; `everywhere`: that are all."""
    along = rays.ray[axis]
    if not everywhere:
        # Other rays may run parallel to the planes; their lines are never used.
        along = torch.where(chosen, along, torch.ones_like(along))
    inverse = 1 / along
    lines = []
    for other in OTHER_AXES[axis]:
        slope = rays.ray[other] * inverse
        lines += [rays.start[other] - rays.start[axis] * slope, slope]
    ends = rays.start[axis] + rays.enter * along, rays.start[axis] + rays.leave * along
    lines += [torch.minimum(*ends), torch.maximum(*ends), rays.length_mm * inverse.abs()]
    values = torch.stack([line.expand_as(rays.length_mm) for line in lines])
    if not everywhere:
        values = torch.where(chosen, values, torch.zeros_like(values))
    return Lines(axis, values, chosen)


def _box_interval(
    start: list[Tensor], ray: list[Tensor], shape: tuple[int, int, int]
) -> tuple[Float[Tensor, "rows cols"], Float[Tensor, "rows cols"]]:
    """Ray parameters (0 at the source, 1 at the pixel) at which rays enter and leave the voxel box."""
    enter = torch.full_like(ray[0], torch.finfo(ray[0].dtype).tiny)
    leave = torch.ones_like(ray[0])
    for i in range(3):
        safe = torch.where(ray[i].abs() < 1e-12, torch.full_like(ray[i], 1e-12), ray[i])
        inverse = 1 / safe
        low, high = (-0.5 - start[i]) * inverse, (shape[i] - 0.5 - start[i]) * inverse
        enter = torch.maximum(enter, torch.minimum(low, high))
        leave = torch.minimum(leave, torch.maximum(low, high))
    return enter, torch.maximum(leave, enter)
