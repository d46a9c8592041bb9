"""A pair of 2D networks, one per film, that map free pleural air and lung along every ray, by side.

Each is a residual U-Net on local contrast, folded to half the resolution. Both films show the patient's long axis along
their rows: at the two coarsest levels the mean over each row of one film is added to the same row of the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from xrecon.config import Config
from xrecon.films.local_contrast import CHANNELS

_FOLD = 2
_OUTPUTS = 6
"""Per view: logit of air (right, left), mm of air (right, left), mm of lung (right, left)."""
LENGTH_SCALE_MM = 20.0
"""Unit of the lengths inside the network."""
_GROUP = 8


class FilmNetConfig(Config):
    """Settings of the film networks."""

    channels: tuple[int, ...] = Field(
        default=(24, 40, 64, 96, 128), min_length=3, max_length=7, description="Of the levels, fine to coarse."
    )
    pixel_mm: float = Field(default=1.5, gt=0, description="Pixel pitch at the isocentre, mm.")
    views: tuple[str, ...] = Field(
        default=("pa", "lateral"), min_length=1, max_length=2, description="Films that the network sees."
    )

    @property
    def multiple(self) -> int:
        """Edges of the films are multiples of this."""
        return int(_FOLD * 2 ** (len(self.channels) - 1))


@dataclass(frozen=True, eq=False)
class FilmMaps:
    """What the networks say of a batch.

    Attributes:
        air_logit: [N, 2 views, 2 sides, rows, cols]; sides right, left.
        air_mm: the same shape, length of air along the ray where there is air, mm.
        lung_mm: the same shape, length of lung, mm.
    """

    air_logit: Float[Tensor, "batch views sides rows cols"]
    air_mm: Float[Tensor, "batch views sides rows cols"]
    lung_mm: Float[Tensor, "batch views sides rows cols"]

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

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        folded = CHANNELS * _FOLD**2
        self.encoder = nn.ModuleList(_ResidualBlock(i, o) for i, o in zip((folded, *channels), channels, strict=False))
        pairs = [(channels[i], channels[i - 1]) for i in range(len(channels) - 1, 0, -1)]
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for coarse, fine in pairs)
        self.decoder = nn.ModuleList(_ResidualBlock(2 * fine, fine) for _, fine in pairs)
        self.head = nn.Conv2d(channels[0] + folded, _OUTPUTS * _FOLD**2, 3, padding=1)

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
        return functional.pixel_shuffle(self.head(torch.cat([x, folded], dim=1)), _FOLD)


class FilmNet(nn.Module):
    """Both film networks.

    Args:
        config: settings.
    """

    def __init__(self, config: FilmNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or FilmNetConfig()
        channels = self.config.channels
        self.branches = nn.ModuleList(_FilmBranch(channels) for _ in self.config.views)
        levels = (len(channels) - 2, len(channels) - 1) if len(self.config.views) == 2 else ()
        self.exchange = nn.ModuleDict({f"{level}": _FilmExchange(channels[level]) for level in levels})

    def forward(self, contrast: Float[Tensor, "batch views 2 rows cols"]) -> FilmMaps:
        """Local contrast [N, views, 2, rows, cols] of the films, in the order of `config.views`, to their maps."""
        branches: list[_FilmBranch] = list(self.branches)  # type: ignore[arg-type]
        folded = [functional.pixel_unshuffle(contrast[:, k], _FOLD) for k in range(len(branches))]
        films = list(folded)
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
        outputs = torch.stack(
            [branch.decode(kept, base) for branch, kept, base in zip(branches, features, folded, strict=True)],
            dim=1,
        ).float()
        lengths = functional.softplus(outputs[:, :, 2:]) * LENGTH_SCALE_MM
        return FilmMaps(outputs[:, :, :2], lengths[:, :, :2], lengths[:, :, 2:])
