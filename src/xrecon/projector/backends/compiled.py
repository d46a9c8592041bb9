"""The projector on a CPU: lines to compiled kernels, threads, and derivatives of every order that training needs.

`project_bundles` gives the same sums as `reference`. Its derivative by the volume is the transpose, by the lines (and
so by the pose) a kernel of its own; both are differentiable again, so double backward works. Second derivatives by the
pose go through the plain torch path, which nobody runs in a loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float32, Int32
from numpy import ndarray
from torch import Tensor

from xrecon.projector.backends import kernels
from xrecon.projector.backends.backend import Backend, Films, Volumes
from xrecon.projector.backends.buffers import borrowed
from xrecon.projector.backends.bundles import Bundle, scene_bundles
from xrecon.projector.backends.level import forward_level
from xrecon.projector.backends.lines import OTHER_AXES, LineParameters
from xrecon.projector.backends.reference import line_integrals
from xrecon.projector.backends.simd import LANES, WINDOW
from xrecon.projector.backends.threads import ranges, run_tasks
from xrecon.projector.scene import Scene

_MOST_VOXELS = 2**31 - 1  # the kernels index within a volume with 32 bits
_CHUNKS_PER_THREAD = 4

PaddedLines = Float32[Tensor, "7 rows padded"]
"""`Bundle.values`."""


def refusal(volume: Volumes) -> str | None:
    """Why the kernels cannot take such a volume, as a part of a sentence; None: they can."""
    d, h, w = volume.shape[1:]
    if volume.device.type != "cpu":
        return f"runs on a CPU only, not on {volume.device.type}"
    if volume.dtype != torch.float32:
        return f"computes in float32 and cannot project {volume.dtype}"
    if min(d, h) < kernels.FEW_ROWS or w < WINDOW:
        return (
            f"needs at least {kernels.FEW_ROWS} x {kernels.FEW_ROWS} x {WINDOW} voxels (D, H, W), got {d} x {h} x {w}"
        )
    if d * h * w > _MOST_VOXELS:
        return f"cannot index more than {_MOST_VOXELS:,} voxels, got {d * h * w:,}"
    return None


def project_bundles(volume: Volumes, bundles: Sequence[Bundle], views: int) -> Films:
    """Films of volumes that have no `refusal`; differentiable in volume and lines."""
    job = _Job(tuple(bundles), views)
    if not torch.is_grad_enabled():
        return _forward(volume, job)
    films: Tensor = _Project.apply(volume, job, *(b.values for b in bundles))  # type: ignore[no-untyped-call]
    return films


def backproject_bundles(films: Films, bundles: Sequence[Bundle], shape: tuple[int, int, int]) -> Volumes:
    """The transpose of `project_bundles`: films to volumes of a shape (D, H, W); differentiable in films and lines."""
    job = _Job(tuple(bundles), films.shape[1])
    volume: Tensor = _Backproject.apply(films, job, shape, *(b.values for b in bundles))  # type: ignore[no-untyped-call]
    return volume


@dataclass(frozen=True)
class _Job:
    """What a projection needs beside tensors with gradients."""

    bundles: tuple[Bundle, ...]
    views: int

    def empty_films(self, batch: int) -> Films:
        rows = self.bundles[0].values.shape[1]
        return torch.zeros(batch, self.views, rows, self.bundles[0].cols)


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, volume: Volumes, job: _Job, *lines: PaddedLines) -> Films:
        ctx.save_for_backward(volume, *lines)
        ctx.job = job
        return _forward(volume, job)

    @staticmethod
    def backward(ctx: Any, *gradients: Films) -> Any:
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
    def forward(ctx: Any, films: Films, job: _Job, shape: tuple[int, int, int], *lines: PaddedLines) -> Volumes:
        ctx.save_for_backward(films, *lines)
        ctx.job = job
        return _adjoint(films, job, shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Volumes) -> Any:
        (volume,) = gradients
        films, *lines = ctx.saved_tensors
        by_films = None
        if ctx.needs_input_grad[0]:
            by_films = _Project.apply(volume, ctx.job, *lines)  # type: ignore[no-untyped-call]
        by_lines: Sequence[Tensor | None] = [None] * len(lines)
        if any(ctx.needs_input_grad[3:]):
            by_lines = _by_lines(volume, films, ctx.job, lines)
        return by_films, None, None, *by_lines


class _ByAxis(NamedTuple):
    """A number for the dominant axis and for the two others."""

    plane: int
    u: int
    v: int


class _KernelArguments(NamedTuple):
    """Arguments that all kernels share, in their order; see `kernels`. Some take one more.

    Attributes:
        volume: all volumes of the batch.
        offset: where the volume of this task begins.
        strides: floats from voxel to voxel along the axes that the kernel asks for.
        sizes: voxels along the dominant axis, u and v.
        u0, du, v0, dv, k0, k1: the rays, see `LineParameters`.
        blocks: see `Bundle`.
        image: what the kernel adds to, or takes from: film, plane sums, derivatives.
        first: row of pixels, or plane in a transpose, with which the task begins.
        last: the one after its last.
    """

    volume: Float32[ndarray, " floats"]
    offset: int
    strides: tuple[int, ...]
    sizes: tuple[int, int, int]
    u0: Float32[ndarray, "rows padded"]
    du: Float32[ndarray, "rows padded"]
    v0: Float32[ndarray, "rows padded"]
    dv: Float32[ndarray, "rows padded"]
    k0: Float32[ndarray, "rows padded"]
    k1: Float32[ndarray, "rows padded"]
    blocks: Int32[ndarray, "rows blocks 3"]
    image: Float32[ndarray, ...]
    first: int
    last: int


def _tasks(
    volume: Volumes,
    bundle: Bundle,
    images: Sequence[Tensor],
    strides: tuple[int, ...],
    parts: Sequence[tuple[int, int]],
) -> list[_KernelArguments]:
    """One task for every volume of the batch, with its image, and every part of the rows or planes."""
    u0, du, v0, dv, k0, k1, _ = bundle.values.detach().numpy()
    flat, blocks, voxels = volume.view(-1).numpy(), bundle.blocks.numpy(), volume[0].numel()
    sizes = _sizes(bundle, volume)
    return [
        _KernelArguments(flat, n * voxels, strides, sizes, u0, du, v0, dv, k0, k1, blocks, image.numpy(), first, last)
        for n, image in enumerate(images)
        for first, last in parts
    ]


def _sizes(bundle: Bundle, volume: Volumes) -> tuple[int, int, int]:
    """Voxels along the bundle's dominant axis, u and v."""
    axis_u, axis_v = OTHER_AXES[bundle.axis]
    return volume.shape[1 + bundle.axis], volume.shape[1 + axis_u], volume.shape[1 + axis_v]


def _strides(bundle: Bundle, volume: Volumes) -> _ByAxis:
    """Floats from voxel to voxel along the bundle's dominant axis, u and v of a contiguous volume."""
    by_axis = volume.shape[2] * volume.shape[3], volume.shape[3], 1
    return _ByAxis(*(by_axis[axis] for axis in (bundle.axis, *OTHER_AXES[bundle.axis])))


def _forward(volume: Volumes, job: _Job) -> Films:
    volume = volume.detach().contiguous()
    films = job.empty_films(volume.shape[0])
    for b in job.bundles:
        path_mm = b.path_mm.detach()[:, : b.cols]
        for n, sums in enumerate(_plane_sums(volume, b)):
            films[n, b.view].addcmul_(sums[:, : b.cols], path_mm)
    return films


def _plane_sums(volume: Volumes, b: Bundle) -> Float32[Tensor, "batch rows padded"]:
    """Films of a bundle without the path."""
    strides = _strides(b, volume)
    batch, rows, padded = volume.shape[0], *b.values.shape[1:]
    result = torch.zeros(batch, rows, padded)
    threads = torch.get_num_threads()
    if b.level:
        flat_images = list(result.flatten(1))
        parts = ranges(rows, multiple=1, count=threads)
        tasks = _tasks(volume, b, flat_images, (strides.plane, strides.u), parts)
        along_w = b.axis == 2
        run_tasks(forward_level, [(*task, along_w) for task in tasks])
        return result
    parts = ranges(rows, multiple=1, count=_CHUNKS_PER_THREAD * threads)
    if b.axis == 2:
        run_tasks(kernels.forward_along, _tasks(volume, b, list(result), (strides.u, strides.v), parts))
    else:
        run_tasks(kernels.forward_rows, _tasks(volume, b, list(result), (strides.plane, strides.u), parts))
    return result


def _adjoint(films: Films, job: _Job, shape: tuple[int, int, int]) -> Volumes:
    volume = borrowed((films.shape[0], *shape))
    threads = torch.get_num_threads()
    for number, b in enumerate(job.bundles):
        strides, planes = _strides(b, volume), shape[b.axis]
        weighted = torch.zeros(films.shape[0], *b.values.shape[1:])
        weighted[:, :, : b.cols] = films.detach()[:, b.view] * b.path_mm[:, : b.cols].detach()
        if b.axis == 2:
            kernel, kernel_strides = kernels.adjoint_along, (strides.u, strides.v)
            parts = ranges(planes, multiple=LANES, count=threads)
        else:
            kernel, kernel_strides = kernels.adjoint_rows, (strides.plane, strides.u)
            parts = ranges(planes, multiple=1, count=_CHUNKS_PER_THREAD * threads)
        clear = number == 0  # the memory holds what was in it before
        tasks = _tasks(volume, b, list(weighted), kernel_strides, parts)
        run_tasks(kernel, [(*task, clear) for task in tasks])
    return volume


def _by_lines(volume: Volumes, films: Films, job: _Job, lines: Sequence[Tensor]) -> list[Tensor]:
    """Derivative of sum(films * project(volume)) by the values of every bundle."""
    if torch.is_grad_enabled():
        return [_by_lines_plain(volume, films, b, values) for b, values in zip(job.bundles, lines, strict=True)]
    volume = volume.detach().contiguous()
    return [_by_lines_compiled(volume, films.detach(), b) for b in job.bundles]


def _by_lines_compiled(volume: Volumes, films: Films, b: Bundle) -> PaddedLines:
    batch, (_, rows, padded) = volume.shape[0], b.values.shape
    slopes = torch.zeros(batch, 6, rows, padded)
    parts = ranges(rows, multiple=1, count=_CHUNKS_PER_THREAD * torch.get_num_threads())
    run_tasks(kernels.sensitivities, _tasks(volume, b, list(slopes), tuple(_strides(b, volume)), parts))
    weight = torch.zeros(batch, rows, padded)
    weight[:, :, : b.cols] = films[:, b.view]
    by_path = (_plane_sums(volume, b) * weight).sum(dim=0)
    others = (slopes * (weight * b.path_mm.detach())[:, None]).sum(dim=0)
    return torch.cat([others, by_path[None]])


def _by_lines_plain(volume: Volumes, films: Films, b: Bundle, values: PaddedLines) -> PaddedLines:
    """The same with a graph, for second derivatives by the pose; rays that miss the volume are left out."""
    line = LineParameters.of(values)
    used = torch.nonzero((line.k1 > line.k0).flatten()).flatten()
    weight = torch.nn.functional.pad(films[:, b.view], (0, values.shape[2] - b.cols)).flatten(1)[:, used]
    result = line_integrals(volume, b.axis, values.flatten(1)[:, used])
    (gradient,) = torch.autograd.grad(result, values, grad_outputs=weight, create_graph=True)
    return gradient


def _refusal(volume: Volumes, scene: Scene) -> str | None:
    del scene
    return refusal(volume)


def _project(volume: Volumes, scene: Scene) -> Films:
    return project_bundles(volume, scene_bundles(scene), len(scene.views))


def _backproject(films: Films, scene: Scene) -> Volumes:
    return backproject_bundles(films, scene_bundles(scene), scene.shape)


COMPILED = Backend(
    name="compiled",
    summary="kernels that numba compiles, for float32 on a CPU and at least 5 x 5 x 32 voxels",
    refusal=_refusal,
    project=_project,
    backproject=_backproject,
)
