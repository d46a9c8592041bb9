"""The generator of X-Recon: two films to one volume. X2CT-GAN and all ablations are the same code.

`Generator.forward_plain` is the readable oracle: it follows the published network step by step and leaves out only what
the result does not depend on. `Generator.forward` takes the fast path (`xrecon.models.fast`) where nobody needs
gradients. Levels are counted from coarse to fine: level 0..3 are the published stages 3..0, level 4 is the published
stage -1, and the published stage 4 is called base.

Source: docs/explanation/published-system.md, "Generator"; X-Recon, arXiv 2407.15356; X2CT-GAN, Ying et al., CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as functional
from jaxtyping import Float
from torch import Tensor, nn

from xrecon.errors import InputError
from xrecon.geometry import View
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
from xrecon.models.config import LEVELS, Activation, GeneratorConfig
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

    def encode(
        self, film: Float[Tensor, "batch 1 size size"]
    ) -> tuple[Float[Tensor, "batch channels base base base"], list[Tensor]]:
        """A film [N, 1, S, S] to its base volume and to the 5 maps that the linkers read, fine to coarse."""
        x = self.stem(film)
        maps = []
        for stage in self.encoder:
            maps.append(x)
            x = stage(x)
        return self.base_link(x), maps

    def compress(
        self, level: int, volume: Float[Tensor, "batch channels n n n"], maps: Sequence[Tensor]
    ) -> Float[Tensor, "batch channels n n n"]:
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

    def forward(self, features: Sequence[Tensor]) -> Float[Tensor, "batch 1 size size size"]:
        """Features [N, c, n, n, n] of the 5 levels, coarse to fine, to the volume [N, 1, S, S, S]."""
        coarsest, *finer = (activate(head(x), self.activation) for head, x in zip(self.heads, features, strict=True))
        volume = coarsest / 2
        for image in finer:
            doubled = functional.interpolate(volume, scale_factor=2, mode="trilinear", align_corners=False)
            volume = (doubled + image) / 2
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


@dataclass(frozen=True, eq=False)
class DecoderState:
    """Where the decoders stand at a level, after the views were averaged and before anything goes on from there.

    Attributes:
        volumes: what each branch goes on from, [N, C, depth, rows, cols] in the axes of its view.
        fused: the average of the views, [N, C, D, H, W].
        trunk: the trunk's volume, [N, C, D, H, W].
    """

    volumes: Mapping[View, Tensor]
    fused: Tensor
    trunk: Tensor


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

    def forward(
        self, pa: Float[Tensor, "batch 1 size size"] | None, lateral: Float[Tensor, "batch 1 size size"] | None
    ) -> Float[Tensor, "batch 1 size size size"]:
        """The volume in the network range, neither bounded above nor exactly below by 0; clip it to 0..1 for use.

        In evaluation mode and without gradients (`torch.no_grad()`, `torch.inference_mode()`, or nothing that requires
        them) this is the fast path: several times faster, in a fraction of the memory, equal to `forward_plain` but for
        rounding. `xrecon.models.fast.applies` states when. In every other case it is `forward_plain`.

        Args:
            pa: [N, 1, S, S] in 0..1: rows along D, columns along W (the patient's right first).
            lateral: [N, 1, S, S] in 0..1: rows along D, columns along H (anterior first).

        Returns: [N, 1, D, H, W]. A network of a single view ignores the other film, which may be None.

        Raises InputError for films of another shape than the network's.
        """
        # The fast path describes this network with its own steps, so it imports this module and not the other way.
        from xrecon.models import fast

        films = self.checked_films(pa, lateral)
        if fast.applies(self, films):
            return fast.volume_without_gradients(self, films)
        return self._plain(films, finish_views=False)[0]

    def forward_plain(
        self, pa: Float[Tensor, "batch 1 size size"] | None, lateral: Float[Tensor, "batch 1 size size"] | None
    ) -> Float[Tensor, "batch 1 size size size"]:
        """`forward` step by step as published, whatever the mode: the reference that the fast path is tested against.

        Arguments, result and errors as for `forward`.
        """
        return self._plain(self.checked_films(pa, lateral), finish_views=False)[0]

    def forward_with_views(
        self, pa: Float[Tensor, "batch 1 size size"] | None, lateral: Float[Tensor, "batch 1 size size"] | None
    ) -> tuple[Tensor, dict[View, Tensor]]:
        """The volume, and the branches' own volumes [N, 1, D, H, W], for an auxiliary loss.

        It computes step by step as `forward_plain`, and two 7^3 convolutions at full resolution more.
        """
        return self._plain(self.checked_films(pa, lateral), finish_views=True)

    def encode(self, films: Mapping[View, Tensor]) -> tuple[DecoderState, dict[View, list[Tensor]]]:
        """Films [N, 1, S, S] to what the decoders start from, and the maps of each view that the linkers read."""
        bases: dict[View, Tensor] = {}
        maps: dict[View, list[Tensor]] = {}
        for view, film in films.items():
            bases[view], maps[view] = self.branch(view).encode(film)
        fused = self._average(bases)
        return DecoderState(self._feed_back(fused, bases), fused, fused), maps

    def next_level(
        self, level: int, state: DecoderState, maps: Mapping[View, Sequence[Tensor]], *, views: bool
    ) -> DecoderState:
        """The decoders at a level, as published, from their state at the level before (of the base for level 0).

        Args:
            level: 0..4, coarse to fine.
            state: is not changed.
            maps: what `encode` returned.
            views: whether the view decoders run.
        """
        volumes, fused = state.volumes, state.fused
        if level == 0:
            trunk = self.trunk.base_up(state.trunk)
        else:
            stage = self.trunk.stage(level - 1)
            trunk = stage([state.fused, state.trunk] if self.config.trunk_connection else [state.trunk])
        if views:
            compressed = {}
            for view, volume in state.volumes.items():
                branch = self.branch(view)
                entering = branch.base_up(volume) if level == 0 else branch.stage(level - 1).finish(volume)
                compressed[view] = branch.compress(level, entering, maps[view])
            fused = self._average(compressed)
            volumes = self._feed_back(fused, compressed)
        return DecoderState(volumes, fused, trunk)

    def _plain(self, films: Mapping[View, Tensor], *, finish_views: bool) -> tuple[Tensor, dict[View, Tensor]]:
        state, maps = self.encode(films)
        features = []
        for level in range(LEVELS):
            state = self.next_level(level, state, maps, views=self.config.uses_view_decoders or finish_views)
            joined = torch.cat([state.fused, state.trunk], dim=1) if self.config.head_connection else state.trunk
            features.append(joined)
        finest = state.trunk
        if self.trunk.rendering is None:
            read = [state.fused, state.trunk] if self.config.trunk_connection else [state.trunk]
            finest = self.trunk.stage(LEVELS - 1)(read)
        ct = self.trunk.render(features, finest)
        if not finish_views:
            return ct, {}
        return ct, {view: self._view_volume(view, volume) for view, volume in state.volumes.items()}

    def _view_volume(self, view: View, volume: Tensor) -> Tensor:
        """The branch's own volume [N, 1, D, H, W], from what it goes on from at the last level."""
        branch = self.branch(view)
        finished = branch.head(branch.stage(LEVELS - 1).finish(volume))
        return to_dhw(activate(finished, self.config.activation), view)

    def _average(self, volumes: Mapping[View, Tensor]) -> Tensor:
        """Average of the branches' volumes in [D, H, W]."""
        turned = [to_dhw(volume, view) for view, volume in volumes.items()]
        return sum(turned[1:], start=turned[0]) / len(turned)

    def _feed_back(self, fused: Tensor, volumes: Mapping[View, Tensor]) -> dict[View, Tensor]:
        """What the branches go on from: the average, or each from its own volume."""
        if not self.config.fusion_feedback:
            return dict(volumes)
        return {view: to_view(fused, view) for view in volumes}

    def checked_films(self, pa: Tensor | None, lateral: Tensor | None) -> dict[View, Tensor]:
        """The films that this network uses, by view. Raises InputError for a film that is missing or does not fit."""
        films_by_view: dict[View, Tensor | None] = {"pa": pa, "lateral": lateral}
        size = self.config.size
        films: dict[View, Tensor] = {}
        for view in self.config.views:
            film = films_by_view[view]
            if film is None or film.dim() != 4 or tuple(film.shape[1:]) != (1, size, size):
                shape = None if film is None else tuple(film.shape)
                raise InputError(
                    f"{view} film: expected the shape [N, 1, {size}, {size}], found {shape}; resample the film, or "
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
