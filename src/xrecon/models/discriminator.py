"""The 3D patch discriminator with coordinate channels of X-Recon, and its variants.

Source: docs/explanation/published-system.md, "Discriminator"; X-Recon, arXiv 2407.15356.
"""

from __future__ import annotations

from typing import Literal, overload

import torch
import torch.nn.functional as functional
from jaxtyping import Float
from torch import Tensor, nn

from xrecon.errors import InputError
from xrecon.models.blocks import expand_film, initialise
from xrecon.models.config import DiscriminatorConfig

KERNEL = 4
LEAKY_SLOPE = 0.2
WIDEST = 8
"""Channels stop growing at this multiple of the first layer's."""
_SAME = (1, 2) * 3
_FULL = (2, 2) * 3


def coordinate_channels(
    volume: Float[Tensor, "batch channels depth height width"],
) -> Float[Tensor, "batch 3 depth height width"]:
    """Positions along D, H and W, [N, 3, D, H, W]: -1 at the first index of an axis, +1 at the last, linear between."""
    batch, _, *edges = volume.shape
    axes = [torch.linspace(-1.0, 1.0, n, device=volume.device, dtype=volume.dtype) for n in edges]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    return grid.expand(batch, -1, -1, -1, -1)


def conditional_input(ct: Tensor, pa: Tensor, lateral: Tensor) -> Tensor:
    """Both films repeated along their rays, and the CT: [N, 3, D, H, W]. No gradient flows into the films.

    Raises InputError where the films do not fit the volume.
    """
    size = ct.shape[-1]
    if ct.dim() != 5 or tuple(ct.shape[1:]) != (1, size, size, size):
        raise InputError(f"discriminator: expected a CT [N, 1, S, S, S], found {tuple(ct.shape)}")
    for view, film in (("pa", pa), ("lateral", lateral)):
        if tuple(film.shape) != (ct.shape[0], 1, size, size):
            raise InputError(
                f"discriminator: the {view} film has the shape {tuple(film.shape)}, the CT {tuple(ct.shape)} needs "
                f"{(ct.shape[0], 1, size, size)}; resample the film to the volume's size"
            )
    return torch.cat([expand_film(pa.detach(), "pa"), expand_film(lateral.detach(), "lateral"), ct], dim=1)


class PatchLayer(nn.Module):
    """Zero padding, 4^3 convolution, and where asked for instance normalisation and LeakyReLU(0.2).

    As published, a normalised layer has no bias.
    """

    def __init__(
        self, inputs: int, outputs: int, *, stride: int, normalised: bool, activated: bool, same_padding: bool
    ) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, KERNEL, stride=stride, bias=not normalised)
        self.norm = nn.InstanceNorm3d(outputs) if normalised else None
        self.activated = activated
        self.padding = _SAME if same_padding else _FULL

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, n, n, n] to [N, outputs, m, m, m]; m is n/stride + 1, or n/stride with `same_padding`."""
        x = self.conv(functional.pad(x, self.padding))
        if self.norm is not None:
            x = self.norm(x)
        return functional.leaky_relu(x, LEAKY_SLOPE) if self.activated else x


class PatchDiscriminator(nn.Module):
    """One stack of `PatchLayer`s: every score depends on a cube of 70 voxels' edge (with three halvings)."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.coordinates = config.coordinates
        widths = [config.base_channels * min(2**k, WIDEST) for k in range(config.layers + 1)]
        inputs = [6 if config.coordinates else 3, *widths]
        self.layers = nn.ModuleList(
            PatchLayer(
                inputs[k],
                [*widths, 1][k],
                stride=2 if k < config.layers else 1,
                normalised=0 < k <= config.layers,
                activated=k <= config.layers,
                same_padding=config.same_padding,
            )
            for k in range(config.layers + 2)
        )

    def forward(self, conditioned: Float[Tensor, "batch 3 depth height width"]) -> list[Tensor]:
        """[N, 3, D, H, W] of `conditional_input` to the output of every layer; the last is the scores."""
        x = conditioned
        if self.coordinates:
            x = torch.cat([x, coordinate_channels(x)], dim=1)
        outputs = []
        for layer in self.layers:
            x = layer(x)
            outputs.append(x)
        return outputs


class Discriminator(nn.Module):
    """Rates a CT together with the two films: `net(ct, pa, lateral)` gives patch scores (real 1, synthetic 0).

    Args:
        config: the architecture.
        rng: source of the initial weights; None for a generator with the seed 0.

    Attributes:
        scales: the `PatchDiscriminator`s, the one on the full volume first.
    """

    def __init__(self, config: DiscriminatorConfig, *, rng: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.scales = nn.ModuleList(PatchDiscriminator(config) for _ in range(config.scales))
        initialise(self, rng if rng is not None else torch.Generator().manual_seed(0))

    @overload
    def forward(
        self, ct: Tensor, pa: Tensor, lateral: Tensor, *, features: Literal[False] = False
    ) -> Tensor | tuple[Tensor, ...]: ...
    @overload
    def forward(
        self, ct: Tensor, pa: Tensor, lateral: Tensor, *, features: Literal[True]
    ) -> tuple[Tensor | tuple[Tensor, ...], list[list[Tensor]]]: ...

    def forward(
        self, ct: Tensor, pa: Tensor, lateral: Tensor, *, features: bool = False
    ) -> Tensor | tuple[Tensor, ...] | tuple[Tensor | tuple[Tensor, ...], list[list[Tensor]]]:
        """Patch scores without a sigmoid: [N, 1, 31, 31, 31] for 224^3, 19^3 for 128^3 (a tuple of maps with scales).

        Args:
            ct: [N, 1, S, S, S] in the network range; gradients flow into it.
            pa, lateral: [N, 1, S, S], the films that the scores are conditioned on.
            features: also return, per scale, the outputs of the layers before the scores, for feature matching.

        Raises InputError for shapes that do not fit each other.
        """
        x = conditional_input(ct, pa, lateral)
        scores, inner = [], []
        for k, scale in enumerate(self.scales):
            if k > 0:
                x = functional.avg_pool3d(x, 3, stride=2, padding=1, count_include_pad=False)
            *before, last = scale(x)
            scores.append(last)
            inner.append(before)
        result = scores[0] if len(scores) == 1 else tuple(scores)
        return (result, inner) if features else result
