"""The fast path for inference on a CPU: channels last, slab by slab, normalisation left to the next reader.

A volume keeps the raw output of its convolution together with its instance statistics (`Lazy`); whoever reads it
applies normalisation and ReLU on the way into a small buffer that the convolution takes from the cache. A convolution
whose input nobody else needs writes over it. So at the finest level one feature volume exists at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from xrecon.geometry import View
from xrecon.models.blocks import ConvNormReLU, UpBlock, to_dhw
from xrecon.models.fast import feature_kernels as kernels
from xrecon.models.fast.feature_kernels import Doubles, Floats
from xrecon.models.fast.linker import NORM_EPSILON, joined_slices

SLAB_BYTES = 24 * 2**20
"""Input of one call of a convolution; what a pass leaves for the next should still be in the last-level cache."""


@dataclass(frozen=True)
class Lazy:
    """The volume relu((data - mean) * scale) of one case.

    Attributes:
        data: [D, H, W, C] float32, contiguous.
        mean, scale: [C] float32.
        shared: others will read it: nobody may write over `data`.
    """

    data: Tensor
    mean: Floats
    scale: Floats
    shared: bool = False

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.data.shape[3])

    def rows(self) -> Floats:
        """The data as [D * H, W * C]."""
        return _rows(self.data)

    def repeated(self) -> tuple[Floats, Floats]:
        """Mean and scale for one row: [W * C] each."""
        width = self.data.shape[2]
        return np.tile(self.mean, width), np.tile(self.scale, width)


class Streaming:
    """Operations of the fast path on `Lazy` volumes of one case, for `network.run_network`."""

    def segment(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A part of the network; nothing is kept for a backward pass."""
        return function(*arguments)

    def enter(self, volume: Tensor, view: View | None) -> Lazy:
        """A volume [1, C, n, n, n] of a view, or of none, that is not negative, in [D, H, W]."""
        turned = volume if view is None else to_dhw(volume, view)
        return _plain(turned[0].permute(1, 2, 3, 0).contiguous().detach())

    def leave(self, volume: Lazy) -> Tensor:
        """The volume as a plain tensor [1, C, D, H, W] (channels last in memory)."""
        values = torch.empty_like(volume.data)
        _normalise(volume, values, planes=(0, len(volume.data)))
        return values.permute(3, 0, 1, 2).unsqueeze(0)

    def up(self, volume: Lazy, block: UpBlock, view: View | None) -> Lazy:
        """Transposed convolution to the double size, its normalisation pending.

        Along one axis out[2i] = w1 x[i] and out[2i + 1] = w2 x[i] + w0 x[i + 1]. Rows and planes of each parity come
        from a convolution of their own; even and odd columns are two groups of channels of one convolution, which lie
        interleaved in memory, as they should.
        """
        weight = _turned(block.conv.weight, view).transpose(0, 1)
        depth, height, width, channels = volume.data.shape
        outputs = weight.shape[0]
        result = _empty(2 * depth, 2 * height, 2 * width, outputs)
        collected: list[Doubles] = []
        planes = planes_per_slab(volume.data)
        parts = [(a, b, _channels_last(_parity_kernel(weight, a, b))) for a in (0, 1) for b in (0, 1)]
        for first in range(0, depth, planes):
            last = min(first + planes, depth)
            # One more plane, row and column: zeros beyond the end, the halo of the next slab within.
            buffer = volume.data.new_zeros(last - first + 1, height + 1, width + 1, channels)
            _normalise(volume, buffer, planes=(first, min(last + 1, depth)))
            taken = buffer.permute(3, 0, 1, 2).unsqueeze(0)
            for a, b, kernel in parts:
                convolved = _convolve(taken[:, :, : last - first + a], kernel, padding=(0, 0, 0))
                layout = (kernels.NO_ADDEND, height, convolved.shape[1], 2, 2 * first + a, b, 2 * height, outputs)
                _finish(convolved, result, None, layout, (last - first) * height, collected)
        return _with_statistics(result, collected)

    def conv(
        self, volumes: Sequence[Lazy], block: ConvNormReLU, view: View | None, slices: Tensor | None = None
    ) -> Lazy:
        """3^3 convolution of the joined volumes and of a linker's `slices` [1, 3, c, n, n], normalisation pending."""
        kernel = cast("nn.Conv3d", block.conv).weight
        inputs = sum(volume.channels for volume in volumes)
        addend, mode = None, kernels.NO_ADDEND
        if slices is not None and view is not None:
            addend, mode = linker_addend(joined_slices(slices, kernel[:, inputs:]), view)
        weight = _channels_last(_turned(kernel[:, :inputs], view))
        depth, height, width, _ = volumes[0].data.shape
        outputs = weight.shape[0]
        last_input = volumes[-1]
        overwrites = not last_input.shared and last_input.channels == outputs
        result = last_input.data if overwrites else last_input.data.new_empty(depth, height, width, outputs)
        collected: list[Doubles] = []
        planes = planes_per_slab(volumes[0].data)
        buffer = last_input.data.new_zeros(planes + 2, height, width, inputs)
        for first in range(0, depth, planes):
            last = min(first + planes, depth)
            self._fill(buffer, volumes, first, last)
            convolved = _convolve(
                buffer[: last - first + 2].permute(3, 0, 1, 2).unsqueeze(0), weight, padding=(0, 1, 1)
            )
            layout = (mode, height, height, 1, first, 0, height, outputs)
            _finish(convolved, result, addend, layout, (last - first) * height, collected)
        return _with_statistics(result, collected)

    def average(self, volumes: Sequence[Lazy]) -> Lazy:
        """Mean of the volumes; it may be read many times."""
        if len(volumes) == 1:
            return replace(volumes[0], shared=True)
        result = torch.zeros_like(volumes[0].data)
        to, factor = _rows(result), np.float32(1 / len(volumes))
        for volume in volumes:
            source, (mean, scale) = volume.rows(), volume.repeated()

            def task(
                first: int, last: int, source: Floats = source, mean: Floats = mean, scale: Floats = scale
            ) -> None:
                kernels.accumulate(source, mean, scale, factor, to, first, last)

            kernels.in_parallel(task, len(source))
        return replace(_plain(result), shared=True)

    def contract(self, volume: Lazy, weight: Tensor) -> Tensor:
        """Sum over channels with `weight` [C]: [1, 1, D, H, W]."""
        result = volume.data.new_empty(volume.data.shape[:3])
        source, to, factors = volume.rows(), _rows(result.unsqueeze(3)), weight.detach().contiguous().numpy()

        def task(first: int, last: int) -> None:
            kernels.contract(source, volume.mean, volume.scale, factors, to, first, last)

        kernels.in_parallel(task, len(source))
        return result[None, None]

    def _fill(self, buffer: Tensor, volumes: Sequence[Lazy], first: int, last: int) -> None:
        """Planes first - 1 .. last of the joined volumes; what lies outside is zero.

        The two planes that the slab before shares are taken from its buffer: in the volume itself one of them is
        overwritten already.
        """
        depth, count = len(volumes[0].data), last - first
        start = first - 1
        if first > 0:
            slab = len(buffer) - 2
            buffer[:2] = buffer[slab : slab + 2].clone()
            start = first + 1
        begin = 0
        planes = (max(start, 0), min(last + 1, depth))
        for volume in volumes:
            _normalise(volume, buffer, planes=planes, at=planes[0] - first + 1, begin=begin)
            begin += volume.channels
        if last == depth:
            buffer[count + 1] = 0


def _plain(data: Tensor) -> Lazy:
    """Values that are not negative: normalisation by (0, 1) and ReLU change nothing."""
    channels = data.shape[3]
    return Lazy(data, np.zeros(channels, np.float32), np.ones(channels, np.float32))


def _rows(data: Tensor) -> Floats:
    return cast("Floats", data.flatten(0, 1).flatten(1).numpy())


def _turned(kernel: Tensor, view: View | None) -> Tensor:
    """A kernel of a view for volumes in [D, H, W]; a trunk kernel is in these axes already."""
    return (kernel if view is None else to_dhw(kernel, view)).detach()


def _channels_last(kernel: Tensor) -> Tensor:
    return kernel.contiguous(memory_format=torch.channels_last_3d)


def planes_per_slab(data: Tensor) -> int:
    """Planes that are convolved at a time."""
    return max(1, min(len(data), SLAB_BYTES // (data[0].numel() * data.element_size())))


def _parity_kernel(weight: Tensor, a: int, b: int) -> Tensor:
    """Kernel [2 O, C, 1 + a, 1 + b, 2] of the planes of parity a and the rows of parity b: even, then odd columns."""
    before, at, after = weight.unbind(2)
    planes = [at] if a == 0 else [after, before]
    rows = [[plane[:, :, 1]] if b == 0 else [plane[:, :, 2], plane[:, :, 0]] for plane in planes]
    part = torch.stack([torch.stack(row, dim=2) for row in rows], dim=2)
    before, at, after = part.unbind(4)
    return torch.cat([torch.stack([at, torch.zeros_like(at)], dim=4), torch.stack([after, before], dim=4)])


def _empty(*shape: int) -> Tensor:
    """A float32 tensor, not filled. numpy asks the system for large pages and torch does not: first touching small
    ones costs as much as a pass over the volume."""
    return torch.from_numpy(np.empty(shape, np.float32))


def _convolve(x: Tensor, kernel: Tensor, *, padding: tuple[int, int, int]) -> Tensor:
    """[1, C, d, h, w] to [d', h', w', O], contiguous."""
    if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        # Asked by name, because conv3d takes a slow path for slabs of few planes.
        convolved = torch.mkldnn_convolution(x, kernel, None, padding, (1, 1, 1), (1, 1, 1), 1)
    else:
        convolved = functional.conv3d(x, kernel, padding=padding)
    return convolved[0].permute(1, 2, 3, 0).contiguous()


def _normalise(volume: Lazy, buffer: Tensor, *, planes: tuple[int, int], at: int = 0, begin: int = 0) -> None:
    """Write normalised planes of a volume into a buffer [d, h, w, c] from plane `at` and channel `begin` on."""
    height = volume.data.shape[1]
    layout = (height, buffer.shape[1], at, volume.channels, buffer.shape[3], begin)
    source, to = _rows(volume.data[planes[0] : planes[1]]), _rows(buffer)
    mean, scale = volume.repeated()
    kernels.in_parallel(
        lambda first, last: kernels.normalise(source, mean, scale, to, layout, first, last), len(source)
    )


def _finish(
    convolved: Tensor,
    result: Tensor,
    addend: Floats | None,
    layout: tuple[int, ...],
    rows: int,
    collected: list[Doubles],
) -> None:
    """Write a convolved slab [d, h, w, c] into the result, add the addend, append (pivot, sums, count) per task."""
    source = cast("Floats", convolved.reshape(convolved.shape[0] * convolved.shape[1], -1).numpy())
    outputs = layout[-1]
    to = cast("Floats", result.view(result.shape[0] * result.shape[1], -1).numpy())
    if addend is None:
        addend = np.zeros((1, source.shape[1]), np.float32)

    def task(first: int, last: int) -> Doubles:
        statistics = np.empty((4, outputs))
        kernels.finish(source, to, addend, layout, statistics[:3], first, last)
        statistics[3] = (last - first) * (source.shape[1] // outputs)
        return statistics

    collected.extend(kernels.in_parallel(task, rows))


def _with_statistics(data: Tensor, collected: Sequence[Doubles]) -> Lazy:
    """The volume with the mean and 1 / deviation of all tasks together (Chan's formula, float64)."""
    pivot, total, square, count = np.stack(collected, axis=1)
    mean = (count * pivot + total).sum(0) / count.sum(0)
    # Around its own mean a task has square - total^2 / count; the means' spread comes on top.
    spread = square - total**2 / count + count * (pivot + total / count - mean) ** 2
    variance = spread.sum(0) / count.sum(0)
    scale = 1.0 / np.sqrt(variance + NORM_EPSILON)
    return Lazy(data, mean.astype(np.float32), scale.astype(np.float32))


def linker_addend(slices: Tensor, view: View) -> tuple[Floats, int]:
    """Five slices [1, 5, O, n, n] as `kernels.finish` takes them, and its mode."""
    if view == "pa":
        return cast(
            "Floats", slices[0].permute(0, 2, 3, 1).flatten(0, 1).flatten(1).contiguous().numpy()
        ), kernels.BY_HEIGHT
    return cast("Floats", slices[0].permute(2, 3, 0, 1).flatten(0, 1).flatten(1).contiguous().numpy()), kernels.BY_WIDTH
