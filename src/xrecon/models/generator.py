"""The generator of X-Recon: two films to one volume (SPEC 2.2). X2CT-GAN and all ablations are the same code.

This forward is the readable oracle: it follows the published network step by step and leaves out only what the result
does not depend on. Levels are counted from coarse to fine: level 0..3 are the published stages 3..0, level 4 is the
published stage -1, and the published stage 4 is called base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from xrecon.errors import InputError
from xrecon.models.blocks import (
    BaseLink,
    DecoderStage,
    EncoderStage,
    Linker,
    Stem,
    UpBlock,
    activate,
    initialise,
    to_dhw,
    to_view,
)
from xrecon.models.config import LEVELS, Activation, GeneratorConfig, View
from xrecon.models.convolutions import one_channel


class ViewBranch(nn.Module):
    """Encoder and decoder of one film; its volumes have the axes [depth, rows, cols] of the view.

    Attributes:
        stem, encoder: the film to 5 maps; `encoder` holds 5 stages, fine to coarse.
        base_link: the last vector to the base volume.
        linkers: 5 in the order of the maps they read, fine to coarse; empty in the ablation without linkers.
        base_up: base volume to level 0.
        stages: the 5 levels, coarse to fine.
        head: 7^3 convolution to the branch's own volume.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        widths = config.decoder_channels
        self.stem = Stem(config.stem_channels)
        stages, channels = [], [config.stem_channels]
        for k, layers in enumerate(config.dense_layers):
            stage = EncoderStage(
                channels[-1], layers, growth=config.growth, bottleneck=config.bottleneck, last=k == LEVELS - 1
            )
            stages.append(stage)
            channels.append(stage.outputs)
        self.encoder = nn.ModuleList(stages)
        self.base_link = BaseLink(channels[-1], widths[-1], edge=config.base_size, dropout=config.dropout)
        linked = zip(channels[:LEVELS], widths[:LEVELS], strict=True) if config.linkers else ()
        self.linkers = nn.ModuleList(Linker(inputs, outputs) for inputs, outputs in linked)
        self.base_up = UpBlock(widths[5], widths[4])
        joined = 2 if config.linkers else 1
        self.stages = _decoder_stages(widths, joined=joined, blocks=2)
        self.head = nn.Conv3d(widths[0], 1, 7, padding=3)

    def encode(self, film: Tensor) -> tuple[Tensor, list[Tensor]]:
        """A film [N, 1, S, S] to its base volume and to the 5 maps that the linkers read, fine to coarse."""
        x = self.stem(film)
        maps = []
        for stage in self.encoder:
            maps.append(x)
            x = stage(x)
        return self.base_link(x), maps

    def compress(self, level: int, volume: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """The branch's volume at a level, joined with its linker; [N, c, n, n, n] to the same shape."""
        if self.linkers:
            k = LEVELS - 1 - level
            volume = torch.cat([volume, self.linkers[k](maps[k])], dim=1)
        compressed: Tensor = self.stage(level).compress(volume)
        return compressed

    def stage(self, level: int) -> DecoderStage:
        """The decoder stage of a level."""
        return cast("DecoderStage", self.stages[level])


class MFusionRen(nn.Module):
    """Multi-scale fusion rendering: one 1^3 convolution per level, averaged from coarse to fine.

    The weights of the 5 maps are 1/32, 1/16, 1/8, 1/4 and 1/2, coarse to fine. Their sum is 31/32, as published.
    """

    def __init__(self, channels: Sequence[int], activation: Activation) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv3d(inputs, 1, 1) for inputs in channels)
        self.activation: Activation = activation

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Features [N, c, n, n, n] of the 5 levels, coarse to fine, to the volume [N, 1, S, S, S]."""
        first, *finer = (activate(head(one), self.activation) for head, one in zip(self.heads, features, strict=True))
        volume = first / 2
        for rendered in finer:
            doubled = functional.interpolate(volume, scale_factor=2, mode="trilinear", align_corners=False)
            volume = (doubled + rendered) / 2
        return activate(volume, self.activation)


class FusionTrunk(nn.Module):
    """The decoder in [D, H, W] that collects the fused averages.

    Attributes:
        base_up: fused base volume to level 0.
        stages: the 5 levels, coarse to fine. With MFusionRen the last one is never used; published weights hold it.
        rendering: MFusionRen, or None.
        head: 7^3 convolution that ends the network without MFusionRen, or None.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        widths = config.decoder_channels
        self.base_up = UpBlock(widths[5], widths[4])
        self.stages = _decoder_stages(widths, joined=2 if config.trunk_connection else 1, blocks=1)
        self.rendering: MFusionRen | None = None
        self.head: nn.Conv3d | None = None
        if config.mfusionren:
            read = 2 if config.head_connection else 1
            self.rendering = MFusionRen([read * c for c in _level_channels(widths)], config.activation)
        else:
            self.head = nn.Conv3d(widths[0], 1, 7, padding=3)
        self.activation: Activation = config.activation

    def render(self, features: Sequence[Tensor], finest: Tensor) -> Tensor:
        """The volume [N, 1, S, S, S] by MFusionRen from the features of the levels, else from the last block alone."""
        if self.head is not None:
            assert self.head.bias is not None
            return activate(one_channel(finest, self.head.weight, self.head.bias), self.activation)
        assert self.rendering is not None
        volume: Tensor = self.rendering(features)
        return volume

    def stage(self, level: int) -> DecoderStage:
        """The decoder stage of a level."""
        return cast("DecoderStage", self.stages[level])


class Generator(nn.Module):
    """Two films to a volume: `net(pa, lateral)`.

    Args:
        config: the architecture.
        rng: source of the initial weights; None for a generator with the seed 0, so that equal settings give equal
            networks. On the meta device nothing is drawn.

    Attributes:
        branches: one `ViewBranch` per film used, by view.
        trunk: the `FusionTrunk`.

    Example:
        >>> net = Generator(GeneratorConfig(size=128))
        >>> ct = net(pa, lateral)  # two [N, 1, 128, 128] in 0..1 -> [N, 1, 128, 128, 128]
    """

    def __init__(self, config: GeneratorConfig, *, rng: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.branches = nn.ModuleDict({view: ViewBranch(config) for view in config.views})
        self.trunk = FusionTrunk(config)
        initialise(self, rng if rng is not None else torch.Generator().manual_seed(0))

    def branch(self, view: View) -> ViewBranch:
        """The branch of a view."""
        return cast("ViewBranch", self.branches[view])

    def forward(self, pa: Tensor | None, lateral: Tensor | None) -> Tensor:
        """The volume in the network range, neither bounded above nor exactly below by 0; clip it to 0..1 for use.

        Args:
            pa: [N, 1, S, S] in 0..1: rows along D, columns along W (the patient's right first).
            lateral: [N, 1, S, S] in 0..1: rows along D, columns along H (anterior first).

        Returns: [N, 1, D, H, W]. A network of a single view ignores the other film, which may be None.

        Raises InputError for films of another shape than the network's.
        """
        return self._run(pa, lateral, finish_views=False)[0]

    def forward_with_views(self, pa: Tensor | None, lateral: Tensor | None) -> tuple[Tensor, dict[View, Tensor]]:
        """The volume, and the branches' own volumes [N, 1, D, H, W], for an auxiliary loss.

        Costs two 7^3 convolutions at full resolution more than `forward`.
        """
        return self._run(pa, lateral, finish_views=True)

    def _run(
        self, pa: Tensor | None, lateral: Tensor | None, *, finish_views: bool
    ) -> tuple[Tensor, dict[View, Tensor]]:
        films = self._checked(pa, lateral)
        use_views = self.config.uses_view_decoders or finish_views
        volumes: dict[View, Tensor] = {}
        maps: dict[View, list[Tensor]] = {}
        for view, film in films.items():
            volumes[view], maps[view] = self.branch(view).encode(film)

        fused = self._fuse(volumes)
        trunk = self.trunk.base_up(fused)
        if use_views:
            volumes = {view: self.branch(view).base_up(one) for view, one in self._feed_back(fused, volumes).items()}

        features = []
        for level in range(LEVELS):
            last = level == LEVELS - 1
            if use_views:
                volumes = {view: self.branch(view).compress(level, volumes[view], maps[view]) for view in films}
                fused = self._fuse(volumes)
                volumes = self._feed_back(fused, volumes)
                if finish_views or not last:
                    volumes = {view: self.branch(view).stage(level).finish(volumes[view]) for view in films}
            features.append(torch.cat([fused, trunk], dim=1) if self.config.head_connection else trunk)
            if self.trunk.rendering is None or not last:
                trunk = self.trunk.stage(level)([fused, trunk] if self.config.trunk_connection else [trunk])

        ct = self.trunk.render(features, trunk)
        own: dict[View, Tensor] = {}
        if finish_views:
            own = {v: to_dhw(activate(self.branch(v).head(volumes[v]), self.config.activation), v) for v in films}
        return ct, own

    def _fuse(self, volumes: Mapping[View, Tensor]) -> Tensor:
        """Average of the branches' volumes in [D, H, W]."""
        turned = [to_dhw(volume, view) for view, volume in volumes.items()]
        return sum(turned[1:], start=turned[0]) / len(turned)

    def _feed_back(self, fused: Tensor, volumes: Mapping[View, Tensor]) -> dict[View, Tensor]:
        """What the branches go on from: the average, or each from its own volume."""
        if not self.config.fusion_feedback:
            return dict(volumes)
        return {view: to_view(fused, view) for view in volumes}

    def _checked(self, pa: Tensor | None, lateral: Tensor | None) -> dict[View, Tensor]:
        """The films that this network uses, by view."""
        given: dict[View, Tensor | None] = {"pa": pa, "lateral": lateral}
        size = self.config.size
        films: dict[View, Tensor] = {}
        for view in self.config.views:
            film = given[view]
            if film is None or film.dim() != 4 or tuple(film.shape[1:]) != (1, size, size):
                found = None if film is None else tuple(film.shape)
                raise InputError(
                    f"{view} film: expected the shape [N, 1, {size}, {size}], found {found}; resample the film, or "
                    f"create the network with its size"
                )
            films[view] = film
        counts = {film.shape[0] for film in films.values()}
        if len(counts) > 1:
            raise InputError(f"the two films have different batch sizes {sorted(counts)}; give as many of each")
        return films

    def dead_parameter_names(self) -> frozenset[str]:
        """Names of the parameters that `forward` never reads: published weights hold them, no gradient reaches them.

        45,602 values in X-Recon's own settings. Distributed training must leave them out of its reduction.
        """
        dead = [f"branches.{view}.stages.{LEVELS - 1}.refine." for view in self.config.views]
        dead += [f"branches.{view}.head." for view in self.config.views]
        if self.trunk.rendering is not None:
            dead.append(f"trunk.stages.{LEVELS - 1}.")
        if not self.config.uses_view_decoders:
            parts = ("linkers.", "base_up.", "stages.")
            dead += [f"branches.{view}.{part}" for view in self.config.views for part in parts]
        return frozenset(name for name, _ in self.named_parameters() if name.startswith(tuple(dead)))


def _level_channels(widths: Sequence[int]) -> list[int]:
    """Channels of the 5 levels, coarse to fine: 128, 64, 32, 16, 16 as published."""
    return list(reversed(widths[:LEVELS]))


def _decoder_stages(widths: Sequence[int], *, joined: int, blocks: int) -> nn.ModuleList:
    """The 5 levels of a decoder whose compression reads `joined` volumes; the last level has one block and no `up`."""
    channels = _level_channels(widths)
    stages = []
    for level, count in enumerate(channels):
        outputs = channels[level + 1] if level + 1 < LEVELS else None
        stages.append(DecoderStage(joined * count, count, outputs, blocks=1 if outputs is None else blocks))
    return nn.ModuleList(stages)
