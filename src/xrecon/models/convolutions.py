"""Convolutions of single volumes as a batch of two half volumes: the same sums, several times faster on a CPU.

torch gives a convolution to oneDNN only if the batch is larger than one or the volume large; a single small volume in
float32 goes to a loop of matrix products that is up to ten times slower, and so does its derivative. Two halves with
the neighbouring planes of the other one are a batch of two. In bfloat16 only the convolution to a single channel is
slow.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from jaxtyping import Float
from torch import Tensor


def convolved(
    volume: Float[Tensor, "batch inputs d h w"], kernel: Float[Tensor, "outputs inputs 3 3 3"]
) -> Float[Tensor, "batch outputs d h w"]:
    """Zero-padded 3^3 convolution, stride 1: [N, C, D, H, W] and [O, C, 3, 3, 3] to [N, O, D, H, W]."""
    if not _halved(volume):
        return functional.conv3d(volume, kernel, padding=1)
    half = volume.shape[2] // 2
    padded = functional.pad(volume, (0, 0, 0, 0, 1, 1))
    halves = torch.cat([padded[:, :, : half + 2], padded[:, :, half:]])
    below, above = functional.conv3d(halves, kernel, padding=(0, 1, 1)).chunk(2)
    return torch.cat([below, above], dim=2)


def one_channel(
    volume: Float[Tensor, "batch inputs d h w"], kernel: Float[Tensor, "1 inputs k k k"], bias: Float[Tensor, 1]
) -> Float[Tensor, "batch 1 d h w"]:
    """Zero-padded convolution to one channel: [N, C, D, H, W], [1, C, k, k, k] with odd k, [1] to [N, 1, D, H, W].

    oneDNN works on blocks of output channels, which one channel wastes. So each plane is convolved to k channels, one
    for each plane of the kernel, and these are added up, in float32 whatever the precision of the products.
    """
    edge = kernel.shape[2]
    if not _single_on_cpu(volume):
        return functional.conv3d(volume, kernel, bias, padding=edge // 2)
    planes, parts = volume[0].transpose(0, 1), kernel[0].transpose(0, 1)
    shares = functional.conv2d(planes, parts, padding=edge // 2)
    padded = functional.pad(shares, (0, 0, 0, 0, 0, 0, edge // 2, edge // 2))
    depth = volume.shape[2]
    total = sum((padded[k : k + depth, k].float() for k in range(1, edge)), start=padded[:depth, 0].float())
    return (total[None, None] + bias).to(shares.dtype)


def doubled(
    volume: Float[Tensor, "batch inputs d h w"], kernel: Float[Tensor, "inputs outputs 3 3 3"]
) -> Float[Tensor, "batch outputs 2*d 2*h 2*w"]:
    """Transposed 3^3 convolution to the double size: [N, C, D, H, W] and [C, O, 3, 3, 3] to [N, O, 2D, 2H, 2W]."""
    if not _halved(volume):
        return functional.conv_transpose3d(volume, kernel, stride=2, padding=1, output_padding=1)
    # Plane 2i + 1 of the result also reads plane i + 1.
    half = volume.shape[2] // 2
    padded = functional.pad(volume, (0, 0, 0, 0, 0, 1))
    halves = torch.cat([padded[:, :, : half + 1], padded[:, :, half:]])
    below, above = functional.conv_transpose3d(halves, kernel, stride=2, padding=1, output_padding=1).chunk(2)
    return torch.cat([below[:, :, : 2 * half], above[:, :, : 2 * half]], dim=2)


def _halved(volume: Tensor) -> bool:
    return _single(volume) and volume.shape[2] % 2 == 0


def _single(volume: Tensor) -> bool:
    """Whether torch would take its slow way for several channels: in float32 only."""
    return _single_on_cpu(volume) and volume.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def _single_on_cpu(volume: Tensor) -> bool:
    return volume.shape[0] == 1 and volume.device.type == "cpu" and not torch.compiler.is_compiling()
