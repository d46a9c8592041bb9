"""The projector on a CPU: lines to compiled kernels, threads, and derivatives of every order that training needs.

`project_fast` gives the same sums as `reference`. Its derivative by the volume is the transpose, by the lines (and so
by the pose) a kernel of its own; both are differentiable again, so double backward works. Second derivatives by the
pose go through the plain torch path, which nobody runs in a loop.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from xrecon.projector.backends import kernels
from xrecon.projector.backends.buffers import borrowed
from xrecon.projector.backends.level import forward_level, is_level
from xrecon.projector.backends.lines import OTHER_AXES, Lines, lines_of
from xrecon.projector.backends.reference import line_integrals
from xrecon.projector.backends.simd import LANES, WINDOW
from xrecon.projector.rays import RayFrame

_MOST_VOXELS = 2**31 - 1  # the kernels index within a volume with 32 bits
_CHUNKS_PER_THREAD = 4
_RAYS_PER_PART = 2**15
_WIDEST = 29  # columns of voxels that the picks of `lookup` may span, with its margin
_TALLEST = 12  # rows of voxels beyond which single picks are cheaper


@dataclass(frozen=True)
class Bundle:
    """Lines of one view and axis as the kernels take them.

    Attributes:
        view: index of the view.
        axis: dominant axis.
        cols: columns of the detector; `values` is padded to a multiple of 16.
        values: [7, rows, padded] float32, `Lines.values`.
        blocks: [rows, padded / 16, 3] int32: first plane, plane after the last, columns close together (0 or 1).
        level: whether the view is square to the voxels (`level.is_level`) and runs along H or W.
    """

    view: int
    axis: int
    cols: int
    values: Tensor
    blocks: Tensor
    level: bool = False


def supports(volume: Tensor) -> bool:
    """Whether the kernels can take volumes [N, D, H, W]: float32 on a CPU, not tiny, indices within 32 bits."""
    d, h, w = volume.shape[1:]
    return (
        volume.device.type == "cpu"
        and volume.dtype == torch.float32
        and min(d, h) >= kernels.FEW_ROWS
        and w >= WINDOW
        and d * h * w <= _MOST_VOXELS
    )


def bundle(lines: Lines, *, view: int, shape: tuple[int, int, int]) -> Bundle:
    """Lines in float32, padded with empty rays, and the plane range of every 16 columns; differentiable."""
    cols = lines.values.shape[2]
    padding = -cols % LANES
    values = lines.values.to("cpu", torch.float32)
    if padding:
        # Copies of the last ray keep neighbouring lanes close together; without path they count for nothing.
        last = values[:, :, -1:].expand(-1, -1, padding).clone()
        last[6] = 0.0
        values = torch.cat([values, last], dim=2)
    values = values.contiguous()
    level = lines.axis > 0 and bool(lines.chosen.all()) and is_level(values.detach().numpy(), shape[lines.axis])
    return Bundle(view, lines.axis, cols, values, _blocks(values, lines, shape), level)


def bundles_of(
    frame: RayFrame,
    *,
    view: int,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    detector_shape: tuple[int, int],
) -> list[Bundle]:
    """All bundles of a view; differentiable in the frame."""
    rows, cols = detector_shape
    step = rows if frame.source.requires_grad else max(1, _RAYS_PER_PART // cols)
    # Without a graph the lines are made in parts: their float64 intermediates would outweigh the volume.
    parts = []
    for first in range(0, rows, step):
        count = min(step, rows - first)
        part = replace(frame, corner=frame.corner + first * frame.row_step)
        found = {lines.axis: lines for lines in lines_of(part, shape, spacing_mm, (count, cols))}
        parts.append((count, {a: (g.values.to("cpu", torch.float32), g.chosen) for a, g in found.items()}))
    bundles = []
    for axis in sorted({axis for _, part in parts for axis in part}):
        values, chosen = zip(
            *(part.get(axis, (torch.zeros(7, n, cols), torch.zeros(n, cols, dtype=torch.bool))) for n, part in parts),
            strict=True,
        )
        lines = Lines(axis, torch.cat(values, dim=1), torch.cat(chosen))
        bundles.append(bundle(lines, view=view, shape=shape))
    return bundles


def _blocks(values: Tensor, lines: Lines, shape: tuple[int, int, int]) -> Tensor:
    with torch.no_grad():
        u0, du, v0, dv, k0, k1, _ = (line.reshape(line.shape[0], -1, LANES) for line in values)
        empty = k1 <= k0
        first = torch.where(empty, torch.inf, k0).amin(dim=2)
        last = torch.where(empty, -torch.inf, k1).amax(dim=2)
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
            u = (u0 + k[..., None] * du)[..., [0, -1]]
            v = (v0 + k[..., None] * dv)[..., [0, -1]]
            close &= (v[..., 0] - v[..., 1]).abs() < _WIDEST
            close &= (u[..., 0] - u[..., 1]).abs() < _TALLEST
        return torch.stack([low, high, close.to(low.dtype)], dim=2).to(torch.int32).contiguous()


def project_fast(volume: Tensor, bundles: Sequence[Bundle], views: int) -> Tensor:
    """Films [N, views, rows, cols] of volumes [N, D, H, W] (`supports`); differentiable in volume and lines."""
    job = _Job(tuple(bundles), views)
    if not torch.is_grad_enabled():
        return _forward(volume, job)
    films: Tensor = _Project.apply(volume, job, *(b.values for b in bundles))  # type: ignore[no-untyped-call]
    return films


def backproject_fast(films: Tensor, bundles: Sequence[Bundle], shape: tuple[int, int, int]) -> Tensor:
    """The transpose of `project_fast`: films [N, views, rows, cols] to [N, D, H, W]; differentiable in both."""
    job = _Job(tuple(bundles), films.shape[1])
    volume: Tensor = _Backproject.apply(films, job, shape, *(b.values for b in bundles))  # type: ignore[no-untyped-call]
    return volume


@dataclass(frozen=True)
class _Job:
    """What a projection needs beside tensors with gradients."""

    bundles: tuple[Bundle, ...]
    views: int

    def films(self, batch: int) -> Tensor:
        rows = self.bundles[0].values.shape[1]
        return torch.zeros(batch, self.views, rows, self.bundles[0].cols)


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, volume: Tensor, job: _Job, *lines: Tensor) -> Tensor:
        ctx.save_for_backward(volume, *lines)
        ctx.job = job
        return _forward(volume, job)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (films,) = gradients
        volume, *lines = ctx.saved_tensors
        by_volume = None
        if ctx.needs_input_grad[0]:
            by_volume = _Backproject.apply(films, ctx.job, tuple(volume.shape[1:]), *lines)  # type: ignore[no-untyped-call]
        by_lines: Sequence[Tensor | None] = [None] * len(lines)
        if any(ctx.needs_input_grad[2:]):
            by_lines = _by_lines(volume, films, ctx.job, lines)
        return by_volume, None, *by_lines


class _Backproject(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, films: Tensor, job: _Job, shape: tuple[int, int, int], *lines: Tensor) -> Tensor:
        ctx.save_for_backward(films, *lines)
        ctx.job = job
        return _adjoint(films, job, shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (volume,) = gradients
        films, *lines = ctx.saved_tensors
        by_films = None
        if ctx.needs_input_grad[0]:
            by_films = _Project.apply(volume, ctx.job, *lines)  # type: ignore[no-untyped-call]
        by_lines: Sequence[Tensor | None] = [None] * len(lines)
        if any(ctx.needs_input_grad[3:]):
            by_lines = _by_lines(volume, films, ctx.job, lines)
        return by_films, None, None, *by_lines


def _forward(volume: Tensor, job: _Job) -> Tensor:
    volume = volume.detach().contiguous()
    films = job.films(volume.shape[0])
    for b in job.bundles:
        for n, sums in enumerate(_sums(volume, b)):
            films[n, b.view].addcmul_(sums[:, : b.cols], b.values[6].detach()[:, : b.cols])
    return films


def _sums(volume: Tensor, b: Bundle) -> Tensor:
    """Plane sums without the path, [N, rows, padded]."""
    strides, sizes = _layout(b, volume)
    batch, rows, padded = volume.shape[0], *b.values.shape[1:]
    result = torch.zeros(batch, rows, padded)
    flat, values, blocks = volume.view(-1).numpy(), b.values.detach().numpy(), b.blocks.numpy()
    threads = torch.get_num_threads()
    voxels = volume[0].numel()
    if b.level:
        tasks = [
            (
                flat,
                n * voxels,
                b.axis == 2,
                strides[:2],
                sizes,
                *values[:6],
                blocks,
                result[n].view(-1).numpy(),
                first,
                last,
            )
            for n in range(batch)
            for first, last in _ranges(rows, multiple=1, count=threads)
        ]
        _run(forward_level, tasks)
        return result
    if b.axis == 2:
        kernel, strides = kernels.forward_along, strides[1:]
    else:
        kernel, strides = kernels.forward_rows, strides[:2]
    tasks = [
        (flat, n * voxels, strides, sizes, *values[:6], blocks, result[n].numpy(), first, last)
        for n in range(batch)
        for first, last in _ranges(rows, multiple=1, count=_CHUNKS_PER_THREAD * threads)
    ]
    _run(kernel, tasks)
    return result


def _adjoint(films: Tensor, job: _Job, shape: tuple[int, int, int]) -> Tensor:
    volume = borrowed((films.shape[0], *shape))
    flat, voxels = volume.view(-1).numpy(), volume[0].numel()
    for number, b in enumerate(job.bundles):
        strides, sizes = _layout(b, volume)
        weighted = torch.zeros(films.shape[0], *b.values.shape[1:])
        weighted[:, :, : b.cols] = films.detach()[:, b.view] * b.values[6, :, : b.cols].detach()
        threads = torch.get_num_threads()
        if b.axis == 2:
            kernel, strides = kernels.adjoint_along, strides[1:]
            ranges = _ranges(sizes[0], multiple=LANES, count=threads)
        else:
            kernel, strides = kernels.adjoint_rows, strides[:2]
            ranges = _ranges(sizes[0], multiple=1, count=_CHUNKS_PER_THREAD * threads)
        values, blocks = b.values.detach().numpy(), b.blocks.numpy()
        tasks = [
            (flat, n * voxels, strides, sizes, *values[:6], blocks, weighted[n].numpy(), first, last, number == 0)
            for n in range(films.shape[0])
            for first, last in ranges
        ]
        _run(kernel, tasks)
    return volume


def _by_lines(volume: Tensor, films: Tensor, job: _Job, lines: Sequence[Tensor]) -> list[Tensor]:
    """Derivative of sum(films * project(volume)) by the values of every bundle."""
    if torch.is_grad_enabled():
        return [_by_lines_plain(volume, films, b, values) for b, values in zip(job.bundles, lines, strict=True)]
    volume = volume.detach().contiguous()
    return [_by_lines_compiled(volume, films.detach(), b) for b in job.bundles]


def _by_lines_compiled(volume: Tensor, films: Tensor, b: Bundle) -> Tensor:
    strides, sizes = _layout(b, volume)
    batch, (_, rows, padded) = volume.shape[0], b.values.shape
    slopes = torch.zeros(batch, 6, rows, padded)
    flat, voxels, values, blocks = (
        volume.view(-1).numpy(),
        volume[0].numel(),
        b.values.detach().numpy(),
        b.blocks.numpy(),
    )
    ranges = _ranges(rows, multiple=1, count=_CHUNKS_PER_THREAD * torch.get_num_threads())
    tasks = [
        (flat, n * voxels, strides, sizes, *values[:6], blocks, slopes[n].numpy(), first, last)
        for n in range(batch)
        for first, last in ranges
    ]
    _run(kernels.sensitivities, tasks)
    weight = torch.zeros(batch, rows, padded)
    weight[:, :, : b.cols] = films[:, b.view]
    by_path = (_sums(volume, b) * weight).sum(dim=0)
    others = (slopes * (weight * b.values[6].detach())[:, None]).sum(dim=0)
    return torch.cat([others, by_path[None]])


def _by_lines_plain(volume: Tensor, films: Tensor, b: Bundle, values: Tensor) -> Tensor:
    """The same with a graph, for second derivatives by the pose; rays that miss the volume are left out."""
    used = torch.nonzero((values[5] > values[4]).flatten()).flatten()
    weight = torch.nn.functional.pad(films[:, b.view], (0, values.shape[2] - b.cols)).flatten(1)[:, used]
    result = line_integrals(volume, b.axis, values.flatten(1)[:, used])
    (gradient,) = torch.autograd.grad(result, values, grad_outputs=weight, create_graph=True)
    return gradient


def _layout(b: Bundle, volume: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Strides and sizes (planes, u, v) of a contiguous volume seen from a bundle's dominant axis."""
    _, d, h, w = volume.shape
    order = (b.axis, *OTHER_AXES[b.axis])
    strides, sizes = (h * w, w, 1), (d, h, w)
    return tuple(strides[a] for a in order), tuple(sizes[a] for a in order)


def _ranges(size: int, *, multiple: int, count: int) -> list[tuple[int, int]]:
    """At most `count` ranges of about equal length that begin at multiples; the last one holds a whole multiple."""
    whole = max(1, size // multiple)
    edges = sorted({round(i * whole / min(count, whole)) * multiple for i in range(min(count, whole))})
    return list(zip(edges, [*edges[1:], size], strict=True))


_pool: ThreadPoolExecutor | None = None
_pool_threads = 0


def _run(kernel: Callable[..., None], tasks: Sequence[tuple[Any, ...]]) -> None:
    """All tasks, on as many threads as torch uses; the kernels release the interpreter's lock."""
    global _pool, _pool_threads
    threads = min(torch.get_num_threads(), len(tasks))
    if threads <= 1:
        for task in tasks:
            kernel(*task)
        return
    # This thread takes a share: one thread fewer to wake up.
    if _pool is None or _pool_threads < threads - 1:
        _pool, _pool_threads = ThreadPoolExecutor(threads - 1, thread_name_prefix="xrecon-projector"), threads - 1
    waiting = iter(tasks)  # next() of an iterator over a sequence is safe between threads

    def work() -> None:
        for task in waiting:
            kernel(*task)

    others = [_pool.submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        for other in others:
            other.result()


def _forget_pool() -> None:
    """A forked process inherits the object but none of its threads."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
