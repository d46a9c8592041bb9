"""Networks by name: what `create("xrecon", size=128)` builds, and which class belongs to which settings."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from xrecon.config import Config, validated
from xrecon.errors import ConfigError
from xrecon.models.blocks import initialise
from xrecon.models.config import HU_OFFSET, HU_SCALE, DiscriminatorConfig, GeneratorConfig
from xrecon.models.discriminator import Discriminator
from xrecon.models.film_network import FilmNet, FilmNetConfig
from xrecon.models.generator import Generator
from xrecon.models.lung_network import WINDOWS_HU, LungNet, LungNetConfig


@dataclass(frozen=True)
class Family:
    """A network class and its settings; `model.json` names the family of its weights.

    Attributes:
        settings: class of the settings.
        network: makes the network of such settings.
        shapes: inputs and output in words, for people who read `model.json`.
        value_range: what network values mean, in words.
    """

    settings: type[Config]
    network: Callable[[Any], nn.Module]
    shapes: Callable[[Any], tuple[str, str]]
    value_range: str


@dataclass(frozen=True)
class Architecture:
    """A named point in the settings of a family."""

    family: str
    config: Config
    summary: str


def _films_and_ct(size: object) -> tuple[str, str]:
    axes = "axes D (head to feet), H (front to back), W (patient's right to left)"
    return f"pa and lateral [N, 1, {size}, {size}]", f"[N, 1, {size}, {size}, {size}], {axes}"


def _generator_shapes(config: GeneratorConfig) -> tuple[str, str]:
    films, volume = _films_and_ct(config.size)
    return f"{films}: rows along D; columns along W (PA), along H (lateral)", f"ct {volume}"


def _discriminator_shapes(_config: DiscriminatorConfig) -> tuple[str, str]:
    films, volume = _films_and_ct("S")
    return f"ct {volume}; {films}", "patch scores [N, 1, n, n, n]: 1 real, 0 synthetic"


def _lung_shapes(_config: LungNetConfig) -> tuple[str, str]:
    return (
        f"CT [N, {len(WINDOWS_HU)}, D, H, W] as xrecon.models.lung_network.network_input makes it; axes as of every CT",
        "logits [N, 3, D, H, W]: background, right, left hemithorax (lung and free air, no airways)",
    )


def _film_maps_shapes(config: FilmNetConfig) -> tuple[str, str]:
    films = f"{len(config.views)} views ({', '.join(config.views)}), {len(config.scales_mm)} scales"
    inputs = (
        f"local contrast [N, {films}, rows, cols] as xrecon.films.local_contrast makes it, pixels of "
        f"{config.pixel_mm:g} mm at the isocentre; rows from head to feet"
    )
    return inputs, "per view and side (right, left): logit of free pleural air, mm of it and mm of lung along each ray"


_NETWORK_RANGE = f"(HU + {HU_OFFSET:g}) / {HU_SCALE:g}, clipped to 0..1; films 0..1"

FAMILIES: Mapping[str, Family] = {
    "generator": Family(GeneratorConfig, Generator, _generator_shapes, _NETWORK_RANGE),
    "discriminator": Family(DiscriminatorConfig, Discriminator, _discriminator_shapes, _NETWORK_RANGE),
    "lungs": Family(
        LungNetConfig,
        LungNet,
        _lung_shapes,
        f"windows {WINDOWS_HU} HU, each scaled to -1..1",
    ),
    "films": Family(FilmNetConfig, FilmNet, _film_maps_shapes, "local contrast -6..6, lengths in mm"),
}
_X2CT_GAN = GeneratorConfig(size=128, dense_layers=(6, 12, 24, 16, 6), mfusionren=False, activation="relu")


def _generator(summary: str, **settings: Any) -> Architecture:
    return Architecture("generator", GeneratorConfig(**settings), summary)


GENERATORS: Mapping[str, Architecture] = {
    "xrecon": _generator("X-Recon as published"),
    "x2ct-gan": Architecture("generator", _X2CT_GAN, "X2CT-GAN: deeper encoders, no MFusionRen, ReLU"),
    "xrecon-without-mfusionren": _generator("one 7^3 convolution instead of the rendering heads", mfusionren=False),
    "xrecon-without-feedback": _generator("view decoders do not receive the fused average", fusion_feedback=False),
    "xrecon-without-linkers": _generator("view decoders see the base volume only", linkers=False),
    "xrecon-without-connection": _generator(
        "trunk and heads see the base volume only", trunk_connection=False, head_connection=False
    ),
    "xrecon-without-connection-and-linkers": _generator(
        "no linkers; the heads see the fused average, the trunk does not", linkers=False, trunk_connection=False
    ),
    "xrecon-pa-only": _generator("the PA film alone", views=("pa",)),
    "xrecon-lateral-only": _generator("the lateral film alone", views=("lateral",)),
}
"""Generators by name: the paper's network, its baseline and its ablations (docs/explanation/published-system.md)."""

DISCRIMINATORS: Mapping[str, Architecture] = {
    "coordconv": Architecture("discriminator", DiscriminatorConfig(), "X-Recon as published: coordinate channels"),
    "plain": Architecture("discriminator", DiscriminatorConfig(coordinates=False), "no coordinates, as in X2CT-GAN"),
    "coordconv-same": Architecture("discriminator", DiscriminatorConfig(same_padding=True), "padding keeps the size"),
    "multiscale": Architecture("discriminator", DiscriminatorConfig(scales=2), "on the volume and on its half"),
}
"""Discriminators by name: the published one, that of X2CT-GAN and variants."""


def create(
    name: str,
    *,
    size: int | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    rng: torch.Generator | None = None,
    **settings: Any,
) -> nn.Module:
    """A generator with fresh weights: `net(pa, lateral)` gives [N, 1, D, H, W] from two films [N, 1, S, S].

    Args:
        name: one of `GENERATORS`.
        size: pixels per film edge and voxels per volume edge, a multiple of 32 from 64; None for the named default.
        device: where the weights live. On "meta" nothing is allocated and nothing drawn.
        dtype: of the weights.
        rng: CPU generator of the initial weights; None for the seed 0, the same network each time.
        settings: further fields of `GeneratorConfig` to change, e.g. `mfusionren=False`.

    Raises ConfigError for an unknown name, an unknown setting or a value out of range.

    Example:
        >>> net = create("xrecon", size=128, device="cuda")
    """
    if size is not None:
        settings["size"] = size
    return _create(GENERATORS, name, settings, device=device, dtype=dtype, rng=rng)


def create_discriminator(
    name: str = "coordconv",
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    rng: torch.Generator | None = None,
    **settings: Any,
) -> nn.Module:
    """A discriminator with fresh weights: `net(ct, pa, lateral)` gives patch scores. It fits every volume size.

    Arguments and errors as for `create`; names are those of `DISCRIMINATORS`, settings those of `DiscriminatorConfig`.
    """
    return _create(DISCRIMINATORS, name, settings, device=device, dtype=dtype, rng=rng)


def build(config: Config) -> nn.Module:
    """The network of these settings on the meta device: names and shapes without memory."""
    with torch.device("meta"):
        return FAMILIES[family_of(config)].network(config)


def family_of(config: Config) -> str:
    """The name of the family whose settings these are. Raises ConfigError for any other object."""
    for name, family in FAMILIES.items():
        if type(config) is family.settings:
            return name
    raise ConfigError(f"{type(config).__name__}: no network is made of these settings; known: {', '.join(FAMILIES)}")


def parameter_count(network: nn.Module) -> int:
    """Number of trainable values."""
    return sum(parameter.numel() for parameter in network.parameters())


def _create(
    table: Mapping[str, Architecture],
    name: str,
    settings: Mapping[str, Any],
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    rng: torch.Generator | None,
) -> nn.Module:
    if name not in table:
        close = difflib.get_close_matches(name, table, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(table)}"
        raise ConfigError(f"no network is called {name!r}; {hint}")
    chosen = table[name].config
    config = validated(type(chosen), {**chosen.model_dump(), **settings}, where=f"network {name!r}")
    network = build(config)
    if torch.device(device).type == "meta":
        return network.to(dtype)
    # Drawn on the CPU in float32, so that a seed gives the same network on every device.
    network = network.to_empty(device="cpu")
    initialise(network, rng if rng is not None else torch.Generator().manual_seed(0))
    return network.to(device=device, dtype=dtype)
