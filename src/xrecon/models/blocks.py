"""Layers of the networks, as published. Instance normalisation always uses the statistics of its input.

Axes: a film is [N, C, rows, cols]. A volume of a view is [N, C, depth, rows, cols], where depth is the direction of its
central ray: [H, D, W] for PA, [W, D, H] for lateral. The trunk works in [D, H, W].

Source: docs/explanation/published-system.md, "Axes and views" and "Generator"; X-Recon, arXiv 2407.15356.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as functional
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from xrecon.geometry import View
from xrecon.models.config import Activation

LEAKY_SLOPE = 0.01
WEIGHT_DEVIATION = 0.02
"""Standard deviation of initial weights, as published."""

_VIEW_TO_DHW: dict[View, tuple[int, ...]] = {"pa": (0, 1, 3, 2, 4), "lateral": (0, 1, 3, 4, 2)}
_DHW_TO_VIEW: dict[View, tuple[int, ...]] = {"pa": (0, 1, 3, 2, 4), "lateral": (0, 1, 4, 2, 3)}


def to_dhw(
    volume: Shaped[Tensor, "batch channels depth rows cols"], view: View
) -> Shaped[Tensor, "batch channels _ _ _"]:
    """A volume in the axes of `view`, [N, C, depth, rows, cols], as [N, C, D, H, W]; nothing is copied."""
    return volume.permute(_VIEW_TO_DHW[view])


def to_view(
    volume: Shaped[Tensor, "batch channels depth height width"], view: View
) -> Shaped[Tensor, "batch channels _ _ _"]:
    """The inverse of `to_dhw`: [N, C, D, H, W] as [N, C, depth, rows, cols] of `view`."""
    return volume.permute(_DHW_TO_VIEW[view])


def expand_film(
    film: Float[Tensor, "batch channels size size"], view: View
) -> Float[Tensor, "batch channels size size size"]:
    """A film [N, C, S, S] repeated along the depth of its view, as [N, C, D, H, W] (no copy)."""
    size = film.shape[-1]
    return to_dhw(film.unsqueeze(2).expand(-1, -1, size, -1, -1), view)


def initialise(network: nn.Module, rng: torch.Generator) -> None:
    """Fill every convolution and linear layer in place: weights N(0, 0.02), biases 0, in the order of the modules.

    Layers on the meta device have no values and are passed over.
    """
    layers = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose3d, nn.Linear)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, layers) and not module.weight.is_meta:
                module.weight.normal_(0.0, WEIGHT_DEVIATION, generator=rng)
                if module.bias is not None:
                    module.bias.zero_()


class ConvNormReLU(nn.Module):
    """Convolution with zero padding that keeps the size, instance normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 3, axes: Literal[2, 3] = 3) -> None:
        super().__init__()
        if axes == 2:
            self.conv: nn.Module = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
            self.norm: nn.Module = nn.InstanceNorm2d(outputs)
        else:
            self.conv = nn.Conv3d(inputs, outputs, kernel, padding=kernel // 2)
            self.norm = nn.InstanceNorm3d(outputs)

    def forward(self, x: Float[Tensor, "batch inputs *grid"]) -> Float[Tensor, "batch outputs *grid"]:
        """[N, inputs, ...] to [N, outputs, ...]."""
        return functional.relu(self.norm(self.conv(x)))


class UpBlock(nn.Module):
    """Transposed convolution that doubles every edge, instance normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose3d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
        self.norm = nn.InstanceNorm3d(outputs)

    def forward(self, x: Float[Tensor, "batch inputs d h w"]) -> Float[Tensor, "batch outputs 2*d 2*h 2*w"]:
        """[N, inputs, d, h, w] to [N, outputs, 2d, 2h, 2w]."""
        return functional.relu(self.norm(self.conv(x)))


class Stem(nn.Module):
    """Reflection padding, 7 x 7 convolution of the film, instance normalisation, ReLU."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, outputs, 7, padding=3, padding_mode="reflect")
        self.norm = nn.InstanceNorm2d(outputs)

    def forward(self, film: Float[Tensor, "batch 1 size size"]) -> Float[Tensor, "batch outputs size size"]:
        """[N, 1, S, S] to [N, outputs, S, S]."""
        return functional.relu(self.norm(self.conv(film)))


class DenseLayer(nn.Module):
    """Bottleneck of a dense block: the input and `growth` new channels."""

    def __init__(self, inputs: int, *, growth: int, bottleneck: int) -> None:
        super().__init__()
        middle = bottleneck * growth
        self.norm1 = nn.InstanceNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, middle, 1)
        self.norm2 = nn.InstanceNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, growth, 3, padding=1)

    def forward(self, x: Float[Tensor, "batch inputs rows cols"]) -> Float[Tensor, "batch grown rows cols"]:
        """[N, inputs, h, w] to [N, inputs + growth, h, w]."""
        new = self.conv1(functional.relu(self.norm1(x)))
        new = self.conv2(functional.relu(self.norm2(new)))
        return torch.cat([x, new], dim=1)


class EncoderStage(nn.Module):
    """Halves the map, runs a dense block, and halves the channels; the last stage averages over the map instead."""

    def __init__(self, inputs: int, layers: int, *, growth: int, bottleneck: int, last: bool) -> None:
        super().__init__()
        grown = inputs + layers * growth
        self.outputs = grown if last else grown // 2
        self.down_norm = nn.InstanceNorm2d(inputs)
        self.down_conv = nn.Conv2d(inputs, inputs, 3, stride=2, padding=1)
        self.dense = nn.ModuleList(
            DenseLayer(inputs + k * growth, growth=growth, bottleneck=bottleneck) for k in range(layers)
        )
        self.squeeze_norm = None if last else nn.InstanceNorm2d(grown)
        self.squeeze_conv = None if last else nn.Conv2d(grown, self.outputs, 1)

    def forward(self, x: Float[Tensor, "batch inputs rows cols"]) -> Float[Tensor, "batch outputs _ _"]:
        """[N, inputs, h, w] to [N, outputs, h/2, w/2], or to [N, outputs, 1, 1] in the last stage."""
        x = self.down_conv(functional.relu(self.down_norm(x)))
        for layer in self.dense:
            x = layer(x)
        if self.squeeze_norm is None or self.squeeze_conv is None:
            return functional.adaptive_avg_pool2d(x, 1)
        squeezed: Tensor = self.squeeze_conv(functional.relu(self.squeeze_norm(x)))
        return squeezed


class BaseLink(nn.Module):
    """The encoder's last vector to the coarsest volume, by one fully connected layer."""

    def __init__(self, inputs: int, outputs: int, *, edge: int, dropout: float) -> None:
        super().__init__()
        self.shape = (outputs, edge, edge, edge)
        self.linear = nn.Linear(inputs, outputs * edge**3)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "batch inputs 1 1"]) -> Float[Tensor, "batch outputs edge edge edge"]:
        """[N, inputs, 1, 1] to [N, outputs, edge, edge, edge] in the axes of the view."""
        volume = functional.relu(self.dropout(self.linear(x.flatten(1))))
        return volume.reshape(-1, *self.shape)


class Linker(nn.Module):
    """An encoder map to a volume: fewer channels, repetition along the depth of the view, a 3D convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.compress = ConvNormReLU(inputs, outputs, kernel=1, axes=2)
        self.conv = ConvNormReLU(outputs, outputs)

    def forward(self, x: Float[Tensor, "batch inputs n n"]) -> Float[Tensor, "batch outputs n n n"]:
        """[N, inputs, n, n] to [N, outputs, n, n, n] in the axes of the view."""
        flat: Tensor = self.compress(x)
        volume: Tensor = self.conv(flat.unsqueeze(2).expand(-1, -1, flat.shape[-1], -1, -1))
        return volume


class DecoderStage(nn.Module):
    """One level of a 3D decoder: `compress` joined volumes, `refine` by further blocks, `up` to the next level.

    The generator calls the three parts itself where the fused average comes between them.
    """

    def __init__(self, joined: int, channels: int, outputs: int | None, *, blocks: int) -> None:
        super().__init__()
        self.compress = ConvNormReLU(joined, channels)
        self.refine = nn.Sequential(*(ConvNormReLU(channels, channels) for _ in range(blocks)))
        self.up = None if outputs is None else UpBlock(channels, outputs)

    def finish(self, x: Float[Tensor, "batch channels n n n"]) -> Float[Tensor, "batch outputs m m m"]:
        """The part after `compress`: [N, channels, n, n, n] to [N, outputs, 2n, 2n, 2n]; the last level keeps n."""
        x = self.refine(x)
        if self.up is not None:
            x = self.up(x)
        return x

    def forward(self, parts: Iterable[Tensor]) -> Tensor:
        """Volumes [N, c, n, n, n] whose channels add up to `joined`, to the next level."""
        return self.finish(self.compress(torch.cat(list(parts), dim=1)))


def activate(x: Tensor, kind: Activation) -> Tensor:
    """The output activation: ReLU, or LeakyReLU with the slope 0.01."""
    return functional.leaky_relu(x, LEAKY_SLOPE) if kind == "leaky_relu" else functional.relu(x)
