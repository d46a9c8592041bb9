"""The generator again, arranged for speed and memory: the same function, the same parameters, other steps.

`FastGenerator(net)` computes `net(pa, lateral)`. docs/networks.md derives every step; in short: linkers are two-
dimensional (`fast_linker`), a convolution of joined volumes is a sum of convolutions, kernels are turned instead of
volumes, biases ahead of a normalisation are left out, and the finest level is reduced to one channel view by view.

Two sets of operations serve one description of the network (`run_network`): `fast_stream.Streaming`, for inference in
float32 on a CPU, and `fast_torch.Differentiable`, for everything else: training (optionally with activation
checkpointing), other devices and precisions, torch.compile and torch.export.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar, cast

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from xrecon.models.blocks import ConvNormReLU, DecoderStage, Linker, UpBlock, activate
from xrecon.models.config import LEVELS, View
from xrecon.models.convolutions import one_channel
from xrecon.models.fast.differentiable import Differentiable
from xrecon.models.fast.linker import linker_slices
from xrecon.models.fast.stream import Streaming
from xrecon.models.generator import Generator

VolumeT = TypeVar("VolumeT")


class Operations(Protocol[VolumeT]):
    """What `run_network` needs; a volume is in [D, H, W] whatever its branch, `view` names the axes of a kernel."""

    def segment(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """`function(*arguments)`; the inner volumes need not be kept for the backward pass."""

    def enter(self, volume: Tensor, view: View) -> VolumeT:
        """A base volume [N, C, depth, rows, cols] of a view."""

    def leave(self, volume: VolumeT) -> Tensor:
        """[N, C, D, H, W]."""

    def up(self, volume: VolumeT, block: UpBlock, view: View | None) -> VolumeT:
        """The block on a volume."""

    def conv(
        self, volumes: Sequence[VolumeT], block: ConvNormReLU, view: View | None, slices: Tensor | None = None
    ) -> VolumeT:
        """The block on the joined volumes, followed by the linker that `slices` stands for."""

    def average(self, volumes: Sequence[VolumeT]) -> VolumeT:
        """Mean of volumes."""

    def contract(self, volume: VolumeT, weight: Tensor) -> Tensor:
        """Sum over the channels with weights [C]: [N, 1, D, H, W]."""


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

    def forward(self, pa: Tensor | None, lateral: Tensor | None) -> Tensor:
        """The volume [N, 1, D, H, W]; arguments and errors are those of `Generator.forward`."""
        films = self.generator._checked(pa, lateral)
        if not self._streams(next(iter(films.values()))):
            keep = self.checkpointing and torch.is_grad_enabled()
            return run_network(self.generator, films, Differentiable(checkpointing=keep))
        count = next(iter(films.values())).shape[0]
        # Case by case: several at once would only cost memory.
        done = [
            run_network(self.generator, {view: film[k : k + 1] for view, film in films.items()}, Streaming())
            for k in range(count)
        ]
        return done[0] if count == 1 else torch.cat(done)

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

    def _streams(self, film: Tensor) -> bool:
        """Whether the compiled passes can do it: nobody wants gradients or a graph, float32, on a CPU."""
        weight = self.generator.trunk.base_up.conv.weight
        return (
            not torch.is_grad_enabled()
            and film.device.type == weight.device.type == "cpu"
            and film.dtype == weight.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
        )


def fast_forward(net: Generator, pa: Tensor | None, lateral: Tensor | None) -> Tensor:
    """`net(pa, lateral)` by the fast path: [N, 1, D, H, W]. See `FastGenerator`."""
    volume: Tensor = FastGenerator(net)(pa, lateral)
    return volume


def run_network(net: Generator, films: Mapping[View, Tensor], operations: Operations[VolumeT]) -> Tensor:
    """The generator by the given operations: films [N, 1, S, S] of its views to the volume [N, 1, S, S, S]."""
    return _Run(net, films, operations).volume()


class _Run(Generic[VolumeT]):
    """One forward pass: `levels` yields what the levels hold, coarse to fine, `volume` renders it."""

    def __init__(self, net: Generator, films: Mapping[View, Tensor], operations: Operations[VolumeT]) -> None:
        self.net, self.do = net, operations
        self.views = tuple(films)
        self.uses_views = net.config.uses_view_decoders
        self.maps: dict[View, list[Tensor]] = {}
        self.base: dict[View, VolumeT] = {}
        for view, film in films.items():
            base, self.maps[view] = operations.segment(net.branch(view).encode, film)
            self.base[view] = operations.enter(base, view)

    def volume(self) -> Tensor:
        """[N, 1, S, S, S]."""
        fused = self.do.average(list(self.base.values()))
        volumes = self._feed_back(fused, self.base)
        trunk = fused
        rendered: Tensor | None = None
        for level in range(LEVELS):
            if self.net.trunk.rendering is not None and level == LEVELS - 1:
                return self._finest(rendered, volumes, fused, trunk)
            if self.uses_views:
                volumes = {view: self._branch(level, view, volumes.pop(view)) for view in self.views}
            # The trunk still needs the average of the level before.
            trunk = self._trunk(level, fused, trunk)
            if self.uses_views:
                fused = self.do.average(list(volumes.values()))
                volumes = self._feed_back(fused, volumes)
            rendered = self._render(rendered, level, fused, trunk)
        return self._without_rendering(fused, trunk)

    def _feed_back(self, fused: VolumeT, volumes: Mapping[View, VolumeT]) -> dict[View, VolumeT]:
        """What the branches go on from: the average, or each from its own volume."""
        if self.net.config.fusion_feedback or len(volumes) == 1:
            return dict.fromkeys(volumes, fused)
        return dict(volumes)

    def _branch(self, level: int, view: View, before: VolumeT) -> VolumeT:
        """The compressed volume of a branch at a level, from what it goes on from at the level before."""
        return cast("VolumeT", self.do.segment(self._branch_step, level, view, before, *self._map(level, view)))

    def _map(self, level: int, view: View) -> list[Tensor]:
        """The encoder map that is linked to a level; none without linkers."""
        return self.maps[view][LEVELS - 1 - level :][:1] if self.net.config.linkers else []

    def _branch_step(self, level: int, view: View, before: VolumeT, *linked: Tensor) -> VolumeT:
        branch = self.net.branch(view)
        if level == 0:
            x = self.do.up(before, branch.base_up, view)
        else:
            x = self._finish(branch.stage(level - 1), view, before)
        slices = None
        if linked:
            slices = linker_slices(cast("Linker", branch.linkers[LEVELS - 1 - level]), linked[0])
        return self.do.conv([x], branch.stage(level).compress, view, slices)

    def _finish(self, stage: DecoderStage, view: View | None, x: VolumeT) -> VolumeT:
        for block in stage.refine:
            x = self.do.conv([x], cast("ConvNormReLU", block), view)
        return x if stage.up is None else self.do.up(x, stage.up, view)

    def _trunk(self, level: int, fused: VolumeT, trunk: VolumeT) -> VolumeT:
        """The trunk's volume at a level, from the average and the trunk of the level before."""
        return cast("VolumeT", self.do.segment(self._trunk_step, level, fused, trunk))

    def _trunk_step(self, level: int, fused: VolumeT, trunk: VolumeT) -> VolumeT:
        if level == 0:
            return self.do.up(fused, self.net.trunk.base_up, None)
        stage = self.net.trunk.stage(level - 1)
        read = [fused, trunk] if self.net.config.trunk_connection else [trunk]
        return self._finish(stage, None, self.do.conv(read, stage.compress, None))

    def _weights(self, level: int) -> tuple[Tensor | None, Tensor, Tensor]:
        """A rendering head: weights of the average and of the trunk [C], and the bias [1]."""
        assert self.net.trunk.rendering is not None
        head = cast("nn.Conv3d", self.net.trunk.rendering.heads[level])
        assert head.bias is not None
        weight = head.weight.flatten()
        if not self.net.config.head_connection:
            return None, weight, head.bias
        of_fused, of_trunk = weight.chunk(2)
        return of_fused, of_trunk, head.bias

    def _render(self, rendered: Tensor | None, level: int, fused: VolumeT, trunk: VolumeT) -> Tensor | None:
        """The image of the levels so far, refined by this level's head; None without MFusionRen."""
        if self.net.trunk.rendering is None:
            return None
        of_fused, of_trunk, bias = self._weights(level)
        total = self.do.contract(trunk, of_trunk) + bias
        if of_fused is not None:
            total = total + self.do.contract(fused, of_fused)
        return self._joined(rendered, total)

    def _joined(self, rendered: Tensor | None, head: Tensor) -> Tensor:
        kind = self.net.config.activation
        if rendered is None:
            return activate(head, kind) / 2
        doubled = functional.interpolate(rendered, scale_factor=2, mode="trilinear", align_corners=False)
        return (doubled + activate(head, kind)) / 2

    def _finest(self, rendered: Tensor | None, volumes: dict[View, VolumeT], fused: VolumeT, trunk: VolumeT) -> Tensor:
        """The last level is read by its head only: each volume is reduced to one channel before the next is made."""
        of_fused, of_trunk, bias = self._weights(LEVELS - 1)
        total = self.do.segment(self._finest_trunk, of_trunk, fused, trunk) + bias
        if of_fused is not None and not self.uses_views:
            total = total + self.do.contract(fused, of_fused)
        elif of_fused is not None:
            for view in self.views:
                share = of_fused / len(self.views)
                linked = self._map(LEVELS - 1, view)
                total = total + self.do.segment(self._finest_branch, view, share, volumes.pop(view), *linked)
        return activate(self._joined(rendered, total), self.net.config.activation)

    def _finest_trunk(self, weight: Tensor, fused: VolumeT, trunk: VolumeT) -> Tensor:
        return self.do.contract(self._trunk_step(LEVELS - 1, fused, trunk), weight)

    def _finest_branch(self, view: View, weight: Tensor, before: VolumeT, *linked: Tensor) -> Tensor:
        return self.do.contract(self._branch_step(LEVELS - 1, view, before, *linked), weight)

    def _without_rendering(self, fused: VolumeT, trunk: VolumeT) -> Tensor:
        """The trunk's last block and one 7^3 convolution."""
        head = self.net.trunk.head
        assert head is not None
        stage = self.net.trunk.stage(LEVELS - 1)
        read = [fused, trunk] if self.net.config.trunk_connection else [trunk]
        finest = self._finish(stage, None, self.do.conv(read, stage.compress, None))
        assert head.bias is not None
        return activate(one_channel(self.do.leave(finest), head.weight, head.bias), self.net.config.activation)
