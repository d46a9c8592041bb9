"""The fast path in plain differentiable torch: training, any device and precision, torch.compile, torch.export."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xrecon.geometry import View
from xrecon.models.blocks import ConvNormReLU, UpBlock, to_dhw
from xrecon.models.convolutions import convolved, doubled
from xrecon.models.fast.linker import NORM_EPSILON, joined_slices

_DEPTH_AXIS = {"pa": 3, "lateral": 4}


class Differentiable:
    """Operations of the fast path on tensors [N, C, D, H, W], for `network.run_network`.

    Args:
        checkpointing: keep only what enters and leaves a segment, compute the rest again in the backward pass.
    """

    def __init__(self, *, checkpointing: bool = False) -> None:
        self.checkpointing = checkpointing

    def segment(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """`function(*arguments)`, checkpointed where asked."""
        if self.checkpointing:
            return checkpoint(function, *arguments, use_reentrant=False)
        return function(*arguments)

    def enter(self, volume: Tensor, view: View | None) -> Tensor:
        """A volume of a view, or of none, in [D, H, W]."""
        return (volume if view is None else to_dhw(volume, view)).contiguous()

    def leave(self, volume: Tensor) -> Tensor:
        """The volume itself."""
        return volume

    def up(self, volume: Tensor, block: UpBlock, view: View | None) -> Tensor:
        """Transposed convolution to the double size, normalisation, ReLU."""
        weight = _turned(block.conv.weight, view)
        return _norm_relu(doubled(volume, weight))

    def conv(
        self, volumes: Sequence[Tensor], block: ConvNormReLU, view: View | None, slices: Tensor | None = None
    ) -> Tensor:
        """3^3 convolution of the joined volumes and of a linker's `slices` [N, 3, c, n, n], normalisation, ReLU."""
        kernel = cast("nn.Conv3d", block.conv).weight
        result: Tensor | None = None
        begin = 0
        for volume in volumes:
            end = begin + volume.shape[1]
            part = convolved(volume, _turned(kernel[:, begin:end], view))
            # In place: no backward pass reads the output of a convolution or the terms of a sum.
            result = part if result is None else result.add_(part)
            begin = end
        assert result is not None
        if slices is not None and view is not None:
            result = result.add_(_expanded(joined_slices(slices, kernel[:, begin:]), view))
        return _norm_relu(result)

    def average(self, volumes: Sequence[Tensor]) -> Tensor:
        """Mean of the volumes."""
        return sum(volumes[1:], start=volumes[0]) / len(volumes)

    def contract(self, volume: Tensor, weight: Tensor) -> Tensor:
        """Sum over channels with `weight` [C]: [N, 1, D, H, W]."""
        # Not conv3d: for one output channel and one volume torch computes its derivative on one thread.
        return torch.matmul(weight.reshape(1, -1), volume.flatten(2)).reshape(-1, 1, *volume.shape[2:])


def _turned(kernel: Tensor, view: View | None) -> Tensor:
    """A kernel of a view for volumes in [D, H, W]; a trunk kernel is in these axes already."""
    return kernel if view is None else to_dhw(kernel, view).contiguous()


def _norm_relu(x: Tensor) -> Tensor:
    # In place: the backward pass of a normalisation reads its input and its statistics, never its output.
    return functional.instance_norm(x, eps=NORM_EPSILON).relu_()


def _expanded(five: Tensor, view: View) -> Tensor:
    """Five depth slices [N, 5, O, rows, cols] as the volume [N, O, D, H, W] that they stand for."""
    axis = _DEPTH_AXIS[view]
    first, second, inner, last_but_one, last = (part.unsqueeze(axis) for part in five.unbind(1))
    shape = [-1] * 5
    shape[axis] = five.shape[-1] - 4
    return torch.cat([first, second, inner.expand(shape), last_but_one, last], dim=axis)
