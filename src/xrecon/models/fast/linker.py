"""Linkers in two dimensions: a volume that repeats a film along its depth has few distinct slices.

A linker repeats a map along the depth of its view (n slices) and convolves it. The repeated volume is the same at every
depth, and only the zero padding tells slices apart, so the convolution has three distinct ones: the first, the inner
ones and the last. Instance statistics are those of the three slices weighted with 1, n - 2 and 1. The convolution of
the compression that follows sees the three through a window of three slices, which gives five distinct ones: the first,
the second, the inner ones, the last but one and the last (n >= 4 always, GeneratorConfig.size >= 64). See
docs/networks.md for the derivation.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as functional
from jaxtyping import Float
from torch import Tensor, nn

from xrecon.models.blocks import Linker

NORM_EPSILON = 1e-5
"""Added to the variance by every instance normalisation, as published."""


def linker_slices(linker: Linker, encoded: Float[Tensor, "batch inputs n n"]) -> Float[Tensor, "batch 3 channels n n"]:
    """The three distinct depth slices of `linker(encoded)`: first, inner, last.

    Args:
        linker: its convolution is [C, C, depth, rows, cols] in the axes of its view.
        encoded: encoder map [N, inputs, n, n].

    Returns: [N, 3, C, n, n], not negative, in the precision of the weights; statistics are never below float32.
    """
    flat = linker.compress(encoded)
    kernel = cast("nn.Conv3d", linker.conv.conv).weight
    before, at, after = kernel.unbind(2)
    kernels = torch.cat([at + after, before + at + after, before + at])
    slices = _split(functional.conv2d(flat, kernels, padding=1), 3)
    if slices.dtype in (torch.bfloat16, torch.float16):
        slices = slices.float()
    n = slices.shape[-1]
    share = slices.new_tensor([1.0, n - 2.0, 1.0]).div(n).reshape(1, 3, 1, 1, 1)
    mean = (share * slices).sum(1, keepdim=True).mean((3, 4), keepdim=True)
    centred = slices - mean
    variance = (share * centred.square()).sum(1, keepdim=True).mean((3, 4), keepdim=True)
    return functional.relu(centred * torch.rsqrt(variance + NORM_EPSILON)).to(kernel.dtype)


def joined_slices(
    slices: Float[Tensor, "batch 3 channels n n"], kernel: Float[Tensor, "outputs channels 3 3 3"]
) -> Float[Tensor, "batch 5 outputs n n"]:
    """The five distinct depth slices of a zero-padded 3^3 convolution of the volume that `slices` stands for.

    Args:
        slices: [N, 3, C, n, n]: first, inner, last.
        kernel: [O, C, depth 3, 3, 3] in the axes of the view.

    Returns: [N, 5, O, n, n]: first, second, inner, last but one, last.
    """
    before, at, after = kernel.unbind(2)
    none = torch.zeros_like(at)
    rows = (
        (at, after, none),
        (before, at + after, none),
        (none, before + at + after, none),
        (none, before + at, after),
        (none, before, at),
    )
    kernels = torch.cat([torch.cat(row, dim=1) for row in rows])
    return _split(functional.conv2d(slices.flatten(1, 2), kernels, padding=1), 5)


def _split(maps: Tensor, count: int) -> Tensor:
    """[N, count * C, rows, cols] to [N, count, C, rows, cols]."""
    return maps.reshape(maps.shape[0], count, -1, *maps.shape[2:])
