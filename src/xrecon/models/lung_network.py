"""A small 3D network for the hemithoraces: right and left lung with any free air round it, on a grid of 4 mm."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from xrecon.config import Config
from xrecon.jobs import at_once
from xrecon.resample import resample_separable

Box = tuple[slice, slice, slice]

BACKGROUND, RIGHT, LEFT = 0, 1, 2
CLASSES = 3
_FOLD = 2
"""The finest level works on blocks of this many voxels per edge: an eighth of the positions at the same information."""
_OUTSIDE_HU = -1000.0
WINDOWS_HU = ((-1000.0, -300.0), (-250.0, 250.0))
"""Air to lung, and fat to enhanced vessel: airless lung differs from its neighbours in the second only."""


class LungNetConfig(Config):
    """Settings of the network."""

    channels: tuple[int, ...] = Field(default=(16, 32, 64, 96), min_length=2, max_length=6)
    """Channels of the levels, fine to coarse; the finest has a pitch of twice `pitch_mm`."""
    pitch_mm: float = Field(default=4.0, gt=0)
    """Pitch of input and output, mm."""

    @property
    def multiple(self) -> int:
        """Edges of the input are multiples of this."""
        return int(_FOLD * 2 ** (len(self.channels) - 1))


class _Residual(nn.Module):
    """Two convolutions with instance normalisation and a short cut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(inputs, outputs, 3, padding=1, bias=False)
        self.first_norm = nn.InstanceNorm3d(outputs, affine=True)
        self.second = nn.Conv3d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.InstanceNorm3d(outputs, affine=True)
        self.short = nn.Conv3d(inputs, outputs, 1, bias=False)

    def forward(self, x: Float[Tensor, "batch inputs d h w"]) -> Float[Tensor, "batch outputs d h w"]:
        """[N, inputs, D, H, W] to [N, outputs, D, H, W]."""
        y = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(y)) + self.short(x))


class LungNet(nn.Module):
    """A residual 3D U-Net whose input is folded to half the resolution and unfolded at the end.

    Args:
        config: its settings.
    """

    def __init__(self, config: LungNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or LungNetConfig()
        channels = self.config.channels
        folded = len(WINDOWS_HU) * _FOLD**3
        self.encoder = nn.ModuleList(_Residual(i, o) for i, o in zip((folded, *channels), channels, strict=False))
        pairs = [(channels[i], channels[i - 1]) for i in range(len(channels) - 1, 0, -1)]
        self.up = nn.ModuleList(nn.Conv3d(coarse, fine, 1) for coarse, fine in pairs)
        self.decoder = nn.ModuleList(_Residual(2 * fine, fine) for _, fine in pairs)
        self.head = nn.Conv3d(channels[0] + folded, CLASSES * _FOLD**3, 3, padding=1)

    def forward(self, x: Float[Tensor, "batch 2 depth height width"]) -> Float[Tensor, "batch 3 depth height width"]:
        """Logits [N, 3, D, H, W] (background, right, left) from `network_input` [N, 2, D, H, W]."""
        folded = _fold(x)
        y, skips = folded, []
        for level, block in enumerate(self.encoder):
            y = block(functional.max_pool3d(y, 2) if level else y)
            skips.append(y)
        skips.pop()
        for up, block in zip(self.up, self.decoder, strict=True):
            wide = functional.interpolate(up(y), scale_factor=2, mode="nearest")
            y = block(torch.cat([wide, skips.pop()], dim=1))
        return _unfold(self.head(torch.cat([y, folded], dim=1)))


def _fold(x: Tensor) -> Tensor:
    """[N, C, D, H, W] to [N, 8 C, D/2, H/2, W/2]: each block's voxels become channels."""
    n, c, d, h, w = x.shape
    blocks = x.reshape(n, c, d // _FOLD, _FOLD, h // _FOLD, _FOLD, w // _FOLD, _FOLD)
    return blocks.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(n, c * _FOLD**3, d // _FOLD, h // _FOLD, w // _FOLD)


def _unfold(x: Tensor) -> Tensor:
    """The inverse of `_fold`."""
    n, c, d, h, w = x.shape
    blocks = x.reshape(n, c // _FOLD**3, _FOLD, _FOLD, _FOLD, d, h, w)
    return blocks.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(n, c // _FOLD**3, d * _FOLD, h * _FOLD, w * _FOLD)


def network_input(
    hu: Float[Tensor, "batch depth height width"],
) -> Float[Tensor, "batch 2 depth height width"]:
    """[N, D, H, W] HU as [N, 2, D, H, W]: two windows, each scaled to -1..1 and clipped."""
    return torch.stack([((hu - low) * (2.0 / (high - low)) - 1.0).clamp(-1.0, 1.0) for low, high in WINDOWS_HU], dim=1)


@dataclass(frozen=True, eq=False)
class CoarseShares:
    """What the network says of a volume, on its own grid.

    Attributes:
        shares: [3, d, h, w] probability of background, right and left hemithorax.
        scale: voxels of the volume per voxel of `shares`, per axis.
        offset: place of the first voxel of `shares` in voxels of the volume, per axis.
        shape: of the volume.
    """

    shares: NDArray[np.float32]
    scale: tuple[float, float, float]
    offset: tuple[float, float, float]
    shape: tuple[int, int, int]

    def box(self, classes: Iterable[int], *, least: float) -> Box | None:
        """The box of the volume in which the share of one of `classes` may exceed `least`; None if it never does."""
        above = np.any(self.shares[list(classes)] > least, axis=0)
        if not above.any():
            return None
        parts = []
        for axis, (scale, offset, size) in enumerate(zip(self.scale, self.offset, self.shape, strict=True)):
            used = np.flatnonzero(above.any(axis=tuple(a for a in range(3) if a != axis)))
            # Interpolation reaches to the next voxel on either side.
            first = math.floor(offset + (int(used[0]) - 1) * scale)
            last = math.ceil(offset + (int(used[-1]) + 1) * scale)
            parts.append(slice(min(max(0, first), size - 1), max(1, min(size, last + 1))))
        return parts[0], parts[1], parts[2]

    def fine(self, box: Box | None = None) -> NDArray[np.float32]:
        """Probabilities [3, D, H, W], interpolated to the voxels of the volume, or of a box of it."""
        box = box or (slice(0, self.shape[0]), slice(0, self.shape[1]), slice(0, self.shape[2]))
        back = tuple(1.0 / f for f in self.scale)
        start = tuple((part.start - o) / f for part, o, f in zip(box, self.offset, self.scale, strict=True))
        shape = tuple(part.stop - part.start for part in box)
        fine = at_once(
            lambda c: resample_separable(self.shares[c], shape, scale=back, offset=start, fill=0.0), (RIGHT, LEFT)
        )
        return np.stack([1.0 - fine[0] - fine[1], *fine])


def predict(network: LungNet, hu: NDArray[np.float32], spacing_mm: tuple[float, float, float]) -> CoarseShares:
    """What the network says of `hu` [D, H, W], canonical axes, which it sees at its own pitch."""
    pitch, multiple = network.config.pitch_mm, network.config.multiple
    scale = tuple(pitch / s for s in spacing_mm)
    coarse = [max(1, round(n / f)) for n, f in zip(hu.shape, scale, strict=True)]
    shape = tuple(-(-n // multiple) * multiple for n in coarse)
    # Centred: what the padding adds lies on both sides.
    offset = tuple((n - 1 - (m - 1) * f) / 2 for n, m, f in zip(hu.shape, shape, scale, strict=True))
    small = resample_separable(hu, shape, scale=scale, offset=offset, fill=_OUTSIDE_HU)
    with torch.inference_mode():
        # Twice the same volume takes half the time of one: for a single small volume torch does not use oneDNN.
        pair = network_input(torch.from_numpy(small)[None].expand(2, -1, -1, -1))
        shares = torch.softmax(network(pair)[0], dim=0).numpy()
    d, h, w = hu.shape
    return CoarseShares(shares, (scale[0], scale[1], scale[2]), (offset[0], offset[1], offset[2]), (d, h, w))
