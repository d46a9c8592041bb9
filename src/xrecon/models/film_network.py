"""A pair of 2D networks, one per film, that map free pleural air and lung along every ray, by side.

Each is a residual U-Net on local contrast, folded to a coarser grid. Both films show the patient's long axis along
their rows: at the two coarsest levels what one film shows in a row is added to the same row of the other. A head on
both films can say per side whether there is free air at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor, nn

from xrecon.config import Config
from xrecon.errors import InputError
from xrecon.films.local_contrast import SCALES_MM
from xrecon.geometry import VIEWS

_OUTPUTS = 6
"""Per view: logit of air (right, left), mm of air (right, left), mm of lung (right, left)."""
LENGTH_SCALE_MM = 20.0
"""Unit of the lengths inside the network."""
_GROUP = 8
"""Channels per group of the normalisation."""
_HIDDEN = 64
"""Width of the head that says whether there is air."""


class FilmNetConfig(Config):
    """Settings of the film networks."""

    channels: tuple[int, ...] = Field(
        default=(48, 64, 96, 128), min_length=3, max_length=7, description="Of the levels, fine to coarse."
    )
    fold: int = Field(
        default=4, ge=1, le=8, description="Pixels per edge that the finest level takes together as channels."
    )
    pixel_mm: float = Field(default=1.5, gt=0, description="Pixel pitch at the isocentre, mm.")
    scales_mm: tuple[tuple[float, float], ...] = Field(
        default=SCALES_MM, min_length=1, max_length=6, description="Scales of the local contrast, see there."
    )
    views: tuple[str, ...] = Field(
        default=VIEWS, min_length=1, max_length=2, description="Films that the network sees."
    )
    presence: bool = Field(default=False, description="A head on both films that says per side whether there is air.")

    @field_validator("channels")
    @classmethod
    def _whole_groups(cls, channels: tuple[int, ...]) -> tuple[int, ...]:
        if any(count < _GROUP or count % _GROUP for count in channels):
            raise ValueError(f"channels must be multiples of {_GROUP}, got {channels}")
        return channels

    @field_validator("views")
    @classmethod
    def _known_views(cls, views: tuple[str, ...]) -> tuple[str, ...]:
        if views != tuple(view for view in VIEWS if view in views):
            raise ValueError(f"views must be {VIEWS} or one of these, got {views}")
        return views

    @property
    def multiple(self) -> int:
        """Edges of the films are multiples of this."""
        return int(self.fold * 2 ** (len(self.channels) - 1))


@dataclass(frozen=True, eq=False)
class FilmMaps:
    """What the networks say of a batch.

    Attributes:
        air_logit: [N, 2 views, 2 sides, rows, cols]; sides right, left.
        air_mm: the same shape, length of air along the ray where there is air, mm.
        lung_mm: the same shape, length of lung, mm.
        presence_logit: [N, 2 sides], whether the side holds free air; None for networks without that head.
    """

    air_logit: Float[Tensor, "batch views sides rows cols"]
    air_mm: Float[Tensor, "batch views sides rows cols"]
    lung_mm: Float[Tensor, "batch views sides rows cols"]
    presence_logit: Float[Tensor, "batch sides"] | None = None

    @property
    def expected_air_mm(self) -> Float[Tensor, "batch views sides rows cols"]:
        """Length of air times its probability, mm."""
        return self.air_mm * self.air_logit.sigmoid()


class _ResidualBlock(nn.Module):
    """Two convolutions with group normalisation and a short cut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.first_norm = nn.GroupNorm(outputs // _GROUP, outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.GroupNorm(outputs // _GROUP, outputs)
        self.short = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, x: Float[Tensor, "batch inputs rows cols"]) -> Float[Tensor, "batch outputs rows cols"]:
        y = functional.silu(self.first_norm(self.first(x)))
        total: Tensor = self.second_norm(self.second(y)) + self.short(x)
        return functional.silu(total)


class _RowExchange(nn.Module):
    """Adds to every row of a film what the other film shows in that row."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv1d(2 * channels, channels, 5, padding=2)

    def forward(
        self, here: Float[Tensor, "batch channels rows cols"], there: Float[Tensor, "batch channels rows cols_there"]
    ) -> Float[Tensor, "batch channels rows cols"]:
        rows = torch.cat([there.mean(dim=-1), there.amax(dim=-1)], dim=1)
        mixed: Tensor = self.mix(rows)
        return here + mixed[..., None]


class _FilmExchange(nn.Module):
    """The exchange between PA and lateral film at one level, both ways."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_pa, self.to_lateral = _RowExchange(channels), _RowExchange(channels)

    def forward(self, films: list[Tensor]) -> list[Tensor]:
        pa, lateral = films
        return [self.to_pa(pa, lateral), self.to_lateral(lateral, pa)]


class _FilmBranch(nn.Module):
    """The U-Net of one film, in pieces, so that the films can exchange what they see between its levels."""

    def __init__(self, channels: tuple[int, ...], *, scales: int, fold: int) -> None:
        super().__init__()
        folded = scales * fold**2
        self.fold = fold
        self.encoder = nn.ModuleList(_ResidualBlock(i, o) for i, o in zip((folded, *channels), channels, strict=False))
        pairs = [(channels[i], channels[i - 1]) for i in range(len(channels) - 1, 0, -1)]
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for coarse, fine in pairs)
        self.decoder = nn.ModuleList(_ResidualBlock(2 * fine, fine) for _, fine in pairs)
        self.head = nn.Conv2d(channels[0] + folded, _OUTPUTS * fold**2, 3, padding=1)

    def encode(self, level: int, x: Float[Tensor, "batch inputs rows cols"]) -> Float[Tensor, "batch outputs r c"]:
        """The features of one level from those of the level before."""
        block: _ResidualBlock = self.encoder[level]  # type: ignore[assignment]
        out: Tensor = block(x)
        return out

    def decode(
        self, features: list[Tensor], folded: Float[Tensor, "batch folded rows cols"]
    ) -> Float[Tensor, "batch outputs rows_full cols_full"]:
        """Outputs at full resolution from the features of all levels."""
        x = features[-1]
        for up, block, skip in zip(self.up, self.decoder, reversed(features[:-1]), strict=True):
            x = block(torch.cat([functional.interpolate(up(x), scale_factor=2.0, mode="nearest"), skip], dim=1))
        return functional.pixel_shuffle(self.head(torch.cat([x, folded], dim=1)), self.fold)


class FilmNet(nn.Module):
    """Both film networks.

    Args:
        config: settings.
    """

    def __init__(self, config: FilmNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or FilmNetConfig()
        channels, views = self.config.channels, self.config.views
        scales = len(self.config.scales_mm)
        self.branches = nn.ModuleList(_FilmBranch(channels, scales=scales, fold=self.config.fold) for _ in views)
        levels = (len(channels) - 2, len(channels) - 1) if len(views) == 2 else ()
        self.exchange = nn.ModuleDict({f"{level}": _FilmExchange(channels[level]) for level in levels})
        self.presence: nn.Module | None = None
        if self.config.presence:
            inputs = 2 * channels[-1] * len(views)
            self.presence = nn.Sequential(nn.Linear(inputs, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, 2))

    def forward(self, contrast: Float[Tensor, "batch views scales rows cols"]) -> FilmMaps:
        """Local contrast [N, views, scales, rows, cols] of the films, in the order of `config.views`, to their maps.

        Raises:
            InputError: other views or scales than configured, or edges that are no multiple of `config.multiple`.
        """
        self._check(contrast)
        branches: list[_FilmBranch] = list(self.branches)  # type: ignore[arg-type]
        folded = [functional.pixel_unshuffle(contrast[:, k], self.config.fold) for k in range(len(branches))]
        features = self._encoded(branches, folded)
        outputs = torch.stack(
            [branch.decode(kept, base) for branch, kept, base in zip(branches, features, folded, strict=True)],
            dim=1,
        ).float()
        lengths = functional.softplus(outputs[:, :, 2:]) * LENGTH_SCALE_MM
        presence = None
        if self.presence is not None:
            coarse = [kept[-1].flatten(2) for kept in features]
            pooled = torch.cat([pool for film in coarse for pool in (film.mean(dim=-1), film.amax(dim=-1))], dim=1)
            presence = self.presence(pooled).float()
        return FilmMaps(outputs[:, :, :2], lengths[:, :, :2], lengths[:, :, 2:], presence)

    def _encoded(self, branches: list[_FilmBranch], films: list[Tensor]) -> list[list[Tensor]]:
        """Features per view and level, fine to coarse, from the folded films."""
        features: list[list[Tensor]] = [[] for _ in films]
        for level in range(len(self.config.channels)):
            films = [
                branch.encode(level, film if level == 0 else functional.avg_pool2d(film, 2))
                for branch, film in zip(branches, films, strict=True)
            ]
            if f"{level}" in self.exchange:
                films = self.exchange[f"{level}"](films)
            for kept, film in zip(features, films, strict=True):
                kept.append(film)
        return features

    def _check(self, contrast: Tensor) -> None:
        config = self.config
        views, scales = len(config.views), len(config.scales_mm)
        if contrast.ndim != 5 or tuple(contrast.shape[1:3]) != (views, scales):
            raise InputError(
                f"the film networks take local contrast [N, {views} views, {scales} scales, rows, cols], got "
                f"{tuple(contrast.shape)}"
            )
        if any(edge % config.multiple for edge in contrast.shape[-2:]):
            raise InputError(
                f"films of {tuple(contrast.shape[-2:])} pixels: edges must be multiples of {config.multiple}; pad them"
            )
