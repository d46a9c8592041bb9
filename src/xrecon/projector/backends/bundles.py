"""Lines of a view as the compiled kernels take them: float32, whole vectors of columns, planes to visit."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from jaxtyping import Float, Float32, Int32
from torch import Tensor

from xrecon.geometry import ConeBeam
from xrecon.projector.backends.level import is_level
from xrecon.projector.backends.lines import LineParameters, Lines, lines_of
from xrecon.projector.backends.simd import LANES
from xrecon.projector.rays import RayFrame
from xrecon.projector.scene import Scene

_CACHED_PIXELS = 2**20  # rays of a nominal view are kept up to this many (28 bytes each)
_RAYS_PER_PART = 2**15
_WIDEST = 29  # columns of voxels that the picks of `lookup` may span, with its margin
_TALLEST = 12  # rows of voxels beyond which single picks are cheaper


@dataclass(frozen=True)
class Bundle:
    """Lines of one view and axis as the kernels take them.

    Attributes:
        view: index of the view.
        axis: dominant axis, 0 to 2 for D, H, W.
        cols: columns of the detector; `values` is padded to a multiple of 16.
        values: `LineParameters` of every pixel.
        blocks: for every 16 columns: first plane, plane after the last, whether the columns lie close together (0, 1).
        level: whether the view is square to the voxels (`level.is_level`) and runs along H or W.
    """

    view: int
    axis: int
    cols: int
    values: Float32[Tensor, "7 rows padded"]
    blocks: Int32[Tensor, "rows blocks 3"]
    level: bool = False

    @property
    def path_mm(self) -> Float32[Tensor, "rows padded"]:
        """Length of ray per plane; 0 in the padding."""
        return self.values[-1]


def scene_bundles(scene: Scene) -> list[Bundle]:
    """All bundles of a scene; those of nominal views are kept for the next call, others are differentiable.

    Raises:
        GeometryError: a source inside the volume, a pose that is not finite.
    """
    bundles: list[Bundle] = []
    keep = math.prod(scene.detector_shape) <= _CACHED_PIXELS
    make = _nominal_bundles if keep else _nominal_bundles.__wrapped__
    for number, (view, pose) in enumerate(zip(scene.views, scene.poses, strict=True)):
        if pose is None:
            nominal = make(scene.shape, scene.spacing_mm, view)
            bundles += [b if b.view == number else replace(b, view=number) for b in nominal]
        else:
            bundles += _view_bundles(Scene(scene.shape, scene.spacing_mm, (view,), (pose,)), number)
    return bundles


def _view_bundles(scene: Scene, number: int) -> list[Bundle]:
    """Bundles of a scene with a single view, which gets a number."""
    (frame,) = scene.frames(torch.device("cpu"))
    return frame_bundles(
        frame, view=number, shape=scene.shape, spacing_mm=scene.spacing_mm, detector_shape=scene.detector_shape
    )


@lru_cache(maxsize=8)
def _nominal_bundles(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], view: ConeBeam
) -> tuple[Bundle, ...]:
    # What is built under inference mode would be useless to a later call that needs gradients.
    with torch.inference_mode(False), torch.no_grad():
        return tuple(_view_bundles(Scene(shape, spacing_mm, (view,), (None,)), 0))


def frame_bundles(
    frame: RayFrame,
    *,
    view: int,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    detector_shape: tuple[int, int],
) -> list[Bundle]:
    """All bundles of the view with that number; differentiable in the frame."""
    rows, cols = detector_shape
    step = rows if frame.source.requires_grad else max(1, _RAYS_PER_PART // cols)
    # Without a graph the lines are made in parts: their float64 intermediates would outweigh the volume.
    parts = []
    for first in range(0, rows, step):
        count = min(step, rows - first)
        part = replace(frame, corner=frame.corner + first * frame.row_step)
        by_axis = {
            lines.axis: (lines.values.to("cpu", torch.float32), lines.chosen)
            for lines in lines_of(part, shape, spacing_mm, (count, cols))
        }
        parts.append((count, by_axis))
    bundles = []
    for axis in sorted({axis for _, part in parts for axis in part}):
        values, chosen = zip(
            *(part.get(axis, (torch.zeros(7, n, cols), torch.zeros(n, cols, dtype=torch.bool))) for n, part in parts),
            strict=True,
        )
        lines = Lines(axis, torch.cat(values, dim=1), torch.cat(chosen))
        bundles.append(_bundle(lines, view=view, shape=shape))
    return bundles


def _bundle(lines: Lines, *, view: int, shape: tuple[int, int, int]) -> Bundle:
    """Lines in float32, padded with empty rays, and the plane range of every 16 columns; differentiable."""
    cols = lines.values.shape[2]
    padding = -cols % LANES
    values = lines.values.to("cpu", torch.float32)
    if padding:
        # Copies of the last ray keep neighbouring lanes close together; without path they count for nothing.
        last = values[:, :, -1:].expand(-1, -1, padding).clone()
        last[-1] = 0.0
        values = torch.cat([values, last], dim=2)
    values = values.contiguous()
    level = lines.axis > 0 and bool(lines.chosen.all()) and is_level(values.detach().numpy(), shape[lines.axis])
    return Bundle(view, lines.axis, cols, values, _blocks(values, lines, shape), level)


def _blocks(
    values: Float[Tensor, "7 rows padded"], lines: Lines, shape: tuple[int, int, int]
) -> Int32[Tensor, "rows blocks 3"]:
    """`Bundle.blocks` of padded values."""
    with torch.no_grad():
        line = LineParameters.of(values.reshape(7, values.shape[1], -1, LANES))
        empty = line.k1 <= line.k0
        first = torch.where(empty, torch.inf, line.k0).amin(dim=2)
        last = torch.where(empty, -torch.inf, line.k1).amax(dim=2)
        size = shape[lines.axis]
        low = (first + 0.5).floor().clamp(0, size)
        high = ((last + 0.5).floor() + 1).clamp(0, size)
        high = torch.where(last > first, torch.maximum(high, low), low)
        close = torch.ones_like(low, dtype=torch.bool)
        if not bool(lines.chosen.all()):
            padded = torch.nn.functional.pad(lines.chosen, (0, values.shape[2] - lines.chosen.shape[1]), value=True)
            close = padded.reshape(*low.shape, LANES).all(dim=2)
        # Along a row of pixels a plane is crossed along a straight line, so the outer lanes bound the others.
        for k in (low, high - 1):
            u = (line.u0 + k[..., None] * line.du)[..., [0, -1]]
            v = (line.v0 + k[..., None] * line.dv)[..., [0, -1]]
            close &= (v[..., 0] - v[..., 1]).abs() < _WIDEST
            close &= (u[..., 0] - u[..., 1]).abs() < _TALLEST
        return torch.stack([low, high, close.to(low.dtype)], dim=2).to(torch.int32).contiguous()
