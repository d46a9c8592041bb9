"""The generator again, arranged for speed and memory: the same function, the same parameters, other steps.

Two sets of operations serve one description of the network (`network.run_network`): `stream.Streaming`, for inference
in float32 on a CPU, and `differentiable.Differentiable`, for everything else: training (optionally with activation
checkpointing), other devices and precisions, torch.compile and torch.export.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xrecon.geometry import View
from xrecon.models.blocks import ConvNormReLU, UpBlock
from xrecon.models.config import LEVELS, GeneratorConfig
from xrecon.models.fast.differentiable import Differentiable
from xrecon.models.fast.network import run_network
from xrecon.models.fast.stream import Streaming
from xrecon.models.generator import Generator

PUBLISHED_EDGE = 32
"""Voxels per edge up to which `volume_without_gradients` computes as published.

Normalisation over few voxels can divide by a deviation near zero and multiply any difference in rounding. These levels
cost little time, and computed as published they keep the rounding of the published network where it matters most.
"""


class FastGenerator(nn.Module):
    """`net(pa, lateral)` in less time and memory; it shares the parameters of the generator and owns none.

    Every setting of `GeneratorConfig` is supported. Results differ from the plain forward by rounding (tested to 1e-4,
    typically 1e-6). Inference runs under `torch.no_grad()` or `torch.inference_mode()`.

    Args:
        generator: the network; its training mode decides on dropout.
        checkpointing: in training keep only the volumes between the levels and compute the others again in the
            backward pass: a third more time, a fraction of the memory.

    Example:
        >>> fast = FastGenerator(create("xrecon", size=128).eval())
        >>> with torch.inference_mode():
        ...     ct = fast(pa, lateral)
    """

    def __init__(self, generator: Generator, *, checkpointing: bool = False) -> None:
        super().__init__()
        self.generator = generator
        self.checkpointing = checkpointing

    def forward(
        self, pa: Float[Tensor, "batch 1 size size"] | None, lateral: Float[Tensor, "batch 1 size size"] | None
    ) -> Float[Tensor, "batch 1 size size size"]:
        """The volume [N, 1, D, H, W]; arguments and errors are those of `Generator.forward`."""
        films = self.generator.checked_films(pa, lateral)
        if not torch.is_grad_enabled() and _streams(self.generator, films):
            return _streamed(self.generator, films, published_levels=0)
        checkpointing = self.checkpointing and torch.is_grad_enabled()
        return run_network(self.generator, films, Differentiable(checkpointing=checkpointing))

    def dead_parameter_names(self) -> frozenset[str]:
        """Names, as in `generator`, of parameters that this forward never reads: their gradient stays None.

        Beside those of `Generator.dead_parameter_names` these are the biases ahead of a normalisation in the decoders
        and linkers, whose gradient is zero but for rounding.
        """
        dead = set(self.generator.dead_parameter_names())
        for name, module in self.generator.named_modules():
            if isinstance(module, UpBlock) or (isinstance(module, ConvNormReLU) and isinstance(module.conv, nn.Conv3d)):
                dead.add(f"{name}.conv.bias")
        return frozenset(dead)


def volume_without_gradients(net: Generator, films: Mapping[View, Tensor]) -> Float[Tensor, "batch 1 size size size"]:
    """What `Generator.forward` returns where `applies(net, films)`: films [N, 1, S, S] of its views to [N, 1, D, H, W].

    Levels of up to `PUBLISHED_EDGE` voxels per edge are computed as published, the finer ones, which cost the time and
    the memory, by the fast path.
    """
    levels = published_levels(net.config)
    with torch.no_grad():
        if _streams(net, films):
            return _streamed(net, films, published_levels=levels)
        return run_network(net, films, Differentiable(), published_levels=levels)


def published_levels(config: GeneratorConfig) -> int:
    """Number of coarse levels of up to `PUBLISHED_EDGE` voxels per edge: 4 at S = 64, 2 at 224."""
    return sum(config.base_size << (level + 1) <= PUBLISHED_EDGE for level in range(LEVELS))


def fast_forward(net: Generator, pa: Tensor | None, lateral: Tensor | None) -> Tensor:
    """`net(pa, lateral)` with every level by the fast path: [N, 1, D, H, W]. See `FastGenerator`."""
    volume: Tensor = FastGenerator(net)(pa, lateral)
    return volume


def _streamed(net: Generator, films: Mapping[View, Tensor], *, published_levels: int) -> Tensor:
    # Case by case: several at once would only cost memory.
    cases = zip(*(torch.split(film, 1) for film in films.values()), strict=True)
    volumes = [
        run_network(net, dict(zip(films, case, strict=True)), Streaming(), published_levels=published_levels)
        for case in cases
    ]
    return volumes[0] if len(volumes) == 1 else torch.cat(volumes)


def _streams(net: Generator, films: Mapping[View, Tensor]) -> bool:
    """Whether the compiled passes can do it: float32 on a CPU, and no graph is recorded."""
    weight = net.trunk.base_up.conv.weight
    return (
        all(film.device.type == "cpu" and film.dtype == torch.float32 for film in films.values())
        and weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )
