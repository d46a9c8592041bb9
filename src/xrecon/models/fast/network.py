"""The generator's forward pass by operations that are left open: one description, two sets of operations.

`run_network` computes the volume of a `Generator`. docs/networks.md derives every step; in short: linkers are
two-dimensional (`linker`), a convolution of joined volumes is a sum of convolutions, kernels are turned instead of
volumes, biases ahead of a normalisation are left out, and the finest level is reduced to one channel view by view.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar, cast

import torch.nn.functional as functional
from torch import Tensor, nn

from xrecon.geometry import View
from xrecon.models.blocks import ConvNormReLU, DecoderStage, Linker, UpBlock, activate
from xrecon.models.config import LEVELS
from xrecon.models.convolutions import one_channel
from xrecon.models.fast.linker import linker_slices
from xrecon.models.generator import Generator

VolumeT = TypeVar("VolumeT")


class Operations(Protocol[VolumeT]):
    """What `run_network` needs; a volume is in [D, H, W] whatever its branch, `view` names the axes of a kernel."""

    def segment(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """`function(*arguments)`; the inner volumes need not be kept for the backward pass."""

    def enter(self, volume: Tensor, view: View | None) -> VolumeT:
        """A volume without negative values: [N, C, depth, rows, cols] of a view, or [N, C, D, H, W] for None."""

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


def run_network(
    net: Generator, films: Mapping[View, Tensor], operations: Operations[VolumeT], *, published_levels: int = 0
) -> Tensor:
    """The generator by the given operations: films [N, 1, S, S] of its views to the volume [N, 1, S, S, S].

    Args:
        net: the network.
        films: those of its views.
        operations: how volumes are held and convolved.
        published_levels: so many of the coarse levels, at most 4, are computed step by step as published.
    """
    return ForwardPass(net, films, operations).volume(published_levels)


class ForwardPass(Generic[VolumeT]):
    """One forward pass of a generator.

    At every level, coarse to fine, there are what each branch goes on from (`volumes`), their average (`fused`), the
    trunk's volume (`trunk`), and the image of one channel that the rendering heads have made so far (`rendered`).

    Args:
        net: the network.
        films: [N, 1, S, S], those of its views.
        operations: how volumes are held and convolved.
    """

    def __init__(self, net: Generator, films: Mapping[View, Tensor], operations: Operations[VolumeT]) -> None:
        self.net, self.films, self.operations = net, films, operations
        self.views = tuple(films)
        self.uses_views = net.config.uses_view_decoders
        self.maps: dict[View, list[Tensor]] = {}

    def volume(self, published_levels: int = 0) -> Tensor:
        """[N, 1, S, S, S], with so many coarse levels computed step by step as published."""
        if published_levels:
            volumes, fused, trunk, rendered = self._published(published_levels)
        else:
            volumes, fused = self._bases()
            trunk, rendered = fused, None
        for level in range(published_levels, LEVELS):
            if self.net.trunk.rendering is not None and level == LEVELS - 1:
                return self._finest(rendered, volumes, fused, trunk)
            if self.uses_views:
                volumes = {view: self._branch(level, view, volumes.pop(view)) for view in self.views}
            # The trunk still needs the average of the level before.
            trunk = self._trunk(level, fused, trunk)
            if self.uses_views:
                fused = self.operations.average(list(volumes.values()))
                volumes = self._feed_back(fused, volumes)
            rendered = self._render(rendered, level, fused, trunk)
        return self._without_rendering(fused, trunk)

    def _bases(self) -> tuple[dict[View, VolumeT], VolumeT]:
        """What the branches start from, and the average of the base volumes."""
        bases: dict[View, VolumeT] = {}
        for view, film in self.films.items():
            base, self.maps[view] = self.operations.segment(self.net.branch(view).encode, film)
            bases[view] = self.operations.enter(base, view)
        fused = self.operations.average(list(bases.values()))
        return self._feed_back(fused, bases), fused

    def _published(self, levels: int) -> tuple[dict[View, VolumeT], VolumeT, VolumeT, Tensor | None]:
        """Volumes, average, trunk and image after the first levels, which the network's own modules compute."""
        state, self.maps = self.net.encode(self.films)
        rendered: Tensor | None = None
        for level in range(levels):
            state = self.net.next_level(level, state, self.maps, views=self.uses_views)
            # The average of one volume is the volume, marked as read by several.
            fused = self.operations.average([self.operations.enter(state.fused, None)])
            trunk = self.operations.enter(state.trunk, None)
            rendered = self._render(rendered, level, fused, trunk)
        if self.net.config.fusion_feedback:
            return dict.fromkeys(self.views, fused), fused, trunk, rendered
        volumes = {view: self.operations.enter(volume, view) for view, volume in state.volumes.items()}
        return volumes, fused, trunk, rendered

    def _feed_back(self, fused: VolumeT, volumes: Mapping[View, VolumeT]) -> dict[View, VolumeT]:
        """What the branches go on from: the average, or each from its own volume."""
        if self.net.config.fusion_feedback or len(volumes) == 1:
            return dict.fromkeys(volumes, fused)
        return dict(volumes)

    def _branch(self, level: int, view: View, before: VolumeT) -> VolumeT:
        """The compressed volume of a branch at a level, from what it goes on from at the level before."""
        return cast("VolumeT", self.operations.segment(self._branch_step, level, view, before, *self._map(level, view)))

    def _map(self, level: int, view: View) -> list[Tensor]:
        """The encoder map that is linked to a level; none without linkers."""
        return self.maps[view][LEVELS - 1 - level :][:1] if self.net.config.linkers else []

    def _branch_step(self, level: int, view: View, before: VolumeT, *linked: Tensor) -> VolumeT:
        branch = self.net.branch(view)
        if level == 0:
            x = self.operations.up(before, branch.base_up, view)
        else:
            x = self._finish(branch.stage(level - 1), view, before)
        slices = None
        if linked:
            slices = linker_slices(cast("Linker", branch.linkers[LEVELS - 1 - level]), linked[0])
        return self.operations.conv([x], branch.stage(level).compress, view, slices)

    def _finish(self, stage: DecoderStage, view: View | None, x: VolumeT) -> VolumeT:
        for block in stage.refine:
            x = self.operations.conv([x], cast("ConvNormReLU", block), view)
        return x if stage.up is None else self.operations.up(x, stage.up, view)

    def _trunk(self, level: int, fused: VolumeT, trunk: VolumeT) -> VolumeT:
        """The trunk's volume at a level, from the average and the trunk of the level before."""
        return cast("VolumeT", self.operations.segment(self._trunk_step, level, fused, trunk))

    def _trunk_step(self, level: int, fused: VolumeT, trunk: VolumeT) -> VolumeT:
        if level == 0:
            return self.operations.up(fused, self.net.trunk.base_up, None)
        stage = self.net.trunk.stage(level - 1)
        read = [fused, trunk] if self.net.config.trunk_connection else [trunk]
        return self._finish(stage, None, self.operations.conv(read, stage.compress, None))

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
        total = self.operations.contract(trunk, of_trunk) + bias
        if of_fused is not None:
            total = total + self.operations.contract(fused, of_fused)
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
        total = self.operations.segment(self._finest_trunk, of_trunk, fused, trunk) + bias
        if of_fused is not None and not self.uses_views:
            total = total + self.operations.contract(fused, of_fused)
        elif of_fused is not None:
            for view in self.views:
                share = of_fused / len(self.views)
                linked = self._map(LEVELS - 1, view)
                total = total + self.operations.segment(self._finest_branch, view, share, volumes.pop(view), *linked)
        return activate(self._joined(rendered, total), self.net.config.activation)

    def _finest_trunk(self, weight: Tensor, fused: VolumeT, trunk: VolumeT) -> Tensor:
        return self.operations.contract(self._trunk_step(LEVELS - 1, fused, trunk), weight)

    def _finest_branch(self, view: View, weight: Tensor, before: VolumeT, *linked: Tensor) -> Tensor:
        return self.operations.contract(self._branch_step(LEVELS - 1, view, before, *linked), weight)

    def _without_rendering(self, fused: VolumeT, trunk: VolumeT) -> Tensor:
        """The trunk's last block and one 7^3 convolution."""
        head = self.net.trunk.head
        assert head is not None
        stage = self.net.trunk.stage(LEVELS - 1)
        read = [fused, trunk] if self.net.config.trunk_connection else [trunk]
        finest = self._finish(stage, None, self.operations.conv(read, stage.compress, None))
        assert head.bias is not None
        return activate(one_channel(self.operations.leave(finest), head.weight, head.bias), self.net.config.activation)
