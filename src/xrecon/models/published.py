"""Checkpoints with the published names of X-Recon, loaded into our modules and written from them.

One walk over a network pairs every published entry with the module that holds it; loading, export and the reading of
an architecture from a checkpoint all go by this pairing. The names of the full generator and of the CoordConv
discriminator are known; those of the ablations and of X2CT-GAN follow by the same rules.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xrecon.config import Config, validated
from xrecon.errors import CheckpointError, InputError
from xrecon.geometry import VIEWS, View
from xrecon.io.guards.files import check_file
from xrecon.models.blocks import ConvNormReLU, EncoderStage, Linker, UpBlock
from xrecon.models.checkpoint import check_entries
from xrecon.models.config import LEVELS, DiscriminatorConfig, GeneratorConfig
from xrecon.models.discriminator import Discriminator
from xrecon.models.generator import FusionTrunk, Generator, ViewBranch

_PREFIX = "module."
_BRANCH_NAMES: dict[View, str] = {"pa": "view1Model", "lateral": "view2Model"}
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
Pair = tuple[str, nn.Module]
"""A published prefix (`tohu_layer0.0`) and the convolution, linear layer or normalisation that it names."""


def load_published(
    network: nn.Module, checkpoint: str | os.PathLike[str] | Mapping[str, Any], *, where: str | None = None
) -> None:
    """Load a published checkpoint into a `Generator` or `Discriminator` of the same size; strict, in place.

    Args:
        network: changed only if the whole checkpoint fits.
        checkpoint: a file of torch.save (read without unpickling code), its dictionary with the key `state_dict`, or
            the bare state dict. A leading `module.` is stripped. Running statistics are accepted and not used:
            instance statistics always hold.
        where: what error messages call the checkpoint; None for the file name.

    Raises:
        CheckpointError: naming every missing, extra or misshapen entry; also a file that is not a checkpoint.
        InputError: no such file.
    """
    if isinstance(checkpoint, Mapping):
        state, source = state_of(checkpoint, where=where or "checkpoint"), where or "checkpoint"
    else:
        source = where or Path(checkpoint).name
        state = read_published(checkpoint)
    pairs = list(_pairs(network))
    expected = _expected(pairs)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    # A checkpoint of the parameters alone is complete, one with a part of its statistics is not.
    for statistic in _STATISTICS:
        if not any(name.endswith(f".{statistic}") for name in shapes):
            expected = {name: shape for name, shape in expected.items() if not name.endswith(f".{statistic}")}
    check_entries(expected, shapes, where=source)
    _check_values(state, source)
    with torch.no_grad():
        for name, parameter in _parameters(pairs):
            parameter.copy_(state[name])


def export_published(network: nn.Module) -> dict[str, Tensor]:
    """The weights of a `Generator` or `Discriminator` under the published names, in their order, as copies.

    Running statistics are those of a network that never updated them (mean 0, variance 1).
    """
    state: dict[str, Tensor] = {}
    for prefix, module in _pairs(network):
        if isinstance(module, (nn.InstanceNorm2d, nn.InstanceNorm3d)):
            state[f"{prefix}.running_mean"] = torch.zeros(module.num_features)
            state[f"{prefix}.running_var"] = torch.ones(module.num_features)
            state[f"{prefix}.num_batches_tracked"] = torch.tensor(0)
        else:
            for name, parameter in module.named_parameters():
                state[f"{prefix}.{name}"] = parameter.detach().clone()
    return state


def read_published(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The state dict of a file written by torch.save, `module.` stripped; no code of the file is run.

    Raises CheckpointError if the file is damaged, holds other objects than tensors, or no state dict.
    """
    file = check_file(Path(path))
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler fail in any way, with IndexError for one
        raise CheckpointError(
            f"{file.name}: cannot be read as a PyTorch checkpoint of plain tensors ({_first_line(error)}); copy it "
            f"again, or save its state dict alone"
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{file.name}: expected a state dict, found {type(content).__name__}")
    return state_of(content, where=file.name)


def state_of(content: Mapping[str, Any], *, where: str) -> dict[str, Tensor]:
    """The state dict in a checkpoint dictionary (or itself), `module.` stripped.

    Raises CheckpointError for entries that are not tensors and for names that differ by `module.` only.
    """
    entries = content.get("state_dict", content)
    if not isinstance(entries, Mapping) or not entries:
        raise CheckpointError(f"{where}: state_dict is empty or no mapping of names to tensors")
    odd = [str(name) for name, entry in entries.items() if not (isinstance(name, str) and isinstance(entry, Tensor))]
    if odd:
        raise CheckpointError(f"{where}: expected a state dict of tensors; these entries are none: {', '.join(odd)}")
    state = {name.removeprefix(_PREFIX): tensor for name, tensor in entries.items()}
    if len(state) < len(entries):
        raise CheckpointError(f"{where}: some names occur twice, with and without {_PREFIX!r}")
    return state


def config_of_published(state: Mapping[str, Tensor], *, where: str) -> Config:
    """The settings of the network that a published state dict belongs to, read from its names and shapes.

    The activation is no part of a checkpoint: LeakyReLU with MFusionRen (X-Recon), ReLU without (X2CT-GAN).

    Raises CheckpointError if the names are not those of a generator or discriminator of this line.
    """
    try:
        if any(name.startswith("model.0.") for name in state):
            return _discriminator_config(state)
        return validated(GeneratorConfig, _generator_settings(state), where=where, error=CheckpointError)
    except (KeyError, IndexError) as error:
        raise CheckpointError(
            f"{where}: neither a generator nor a discriminator with the published names; it has no {error} and "
            f"starts with {', '.join(list(state)[:3])}"
        ) from None


def _generator_settings(state: Mapping[str, Tensor]) -> dict[str, Any]:
    views = [view for view in VIEWS if any(name.startswith(_BRANCH_NAMES[view]) for name in state)]
    branch = _BRANCH_NAMES[views[0]]
    layers = [
        len({m[1] for name in state if (m := re.match(rf"{branch}\.encoder_layer{k}\.3\.conv_block\.(\d+)\.", name))})
        for k in range(LEVELS)
    ]
    first = f"{branch}.encoder_layer0.3.conv_block.0."
    growth, middle = state[first + "conv2.weight"].shape[:2]
    ups = ["decoder_layer4.0", *(f"decoder_layer{i}.6" for i in (3, 2, 1, 0))]
    up_shapes = [state[f"{up}.block.block.0.weight"].shape for up in ups]
    base = up_shapes[0][0]
    edge = round((state[f"{branch}.base_link.0.weight"].shape[0] / base) ** (1 / 3))
    joined = state["decoder_layer3.0.weight"].shape
    mfusionren = "tohu_layer3.0.weight" in state
    return {
        "size": edge * 2**LEVELS,
        "views": views,
        "dense_layers": layers,
        "stem_channels": state[f"{branch}.encoder_layer.1.weight"].shape[0],
        "growth": growth,
        "bottleneck": middle // growth,
        "decoder_channels": [*reversed([shape[1] for shape in up_shapes]), base],
        "mfusionren": mfusionren,
        "linkers": f"{branch}.linker_layer0.0.compress_block.0.weight" in state,
        "trunk_connection": joined[1] == 2 * joined[0],
        "head_connection": not mfusionren or state["tohu_layer3.0.weight"].shape[1] == 2 * joined[0],
        "activation": "leaky_relu" if mfusionren else "relu",
    }


def _discriminator_config(state: Mapping[str, Tensor]) -> DiscriminatorConfig:
    coordinates = "model.0.conv.weight" in state
    first = state["model.0.conv.weight" if coordinates else "model.0.weight"]
    convolutions = sum(name.endswith(".weight") for name in state)
    return DiscriminatorConfig(coordinates=coordinates, base_channels=first.shape[0], layers=convolutions - 2)


# --- the pairing, in the order of the published state dicts ----------------------------------------------------------


def _pairs(network: nn.Module) -> Iterator[Pair]:
    if isinstance(network, Generator):
        for view in network.config.views:
            yield from _under(_BRANCH_NAMES[view], _branch_pairs(network.branch(view)))
        yield from _trunk_pairs(network.trunk)
    elif isinstance(network, Discriminator) and len(network.scales) == 1:
        yield from _discriminator_pairs(network)
    else:
        raise InputError(f"{type(network).__name__}: no checkpoint of this network was published")


def _branch_pairs(branch: ViewBranch) -> Iterator[Pair]:
    yield from (("encoder_layer.1", branch.stem.conv), ("encoder_layer.2", branch.stem.norm))
    for k, stage in enumerate(branch.encoder):
        assert isinstance(stage, EncoderStage)
        yield from _under(f"encoder_layer{k}", _encoder_pairs(stage))
    yield "base_link.0", branch.base_link.linear
    for k, linker in enumerate(branch.linkers):
        assert isinstance(linker, Linker)
        yield from _under(f"linker_layer{k}.0", _conv_pairs(linker.compress, "compress_block.0", "compress_block.1"))
        yield from _under(f"linker_layer{k}.0", _conv_pairs(linker.conv, "conv_block.0", "conv_block.1"))
    for i in range(LEVELS - 1):
        stage = branch.stage(LEVELS - 2 - i)
        yield from _conv_pairs(stage.compress, f"decoder_compress_layer{i}.0", f"decoder_compress_layer{i}.1")
        yield from _under(f"decoder_layer{i}", _block_pairs([*stage.refine], stage.up))
    yield from _under("decoder_layer4", _block_pairs([], branch.base_up))
    last = branch.stage(LEVELS - 1)
    yield from _conv_pairs(last.compress, "decoder_compress_layer-1.0", "decoder_compress_layer-1.1")
    yield from _under("decoder_layer-1", _block_pairs([*last.refine], None))
    yield "decoder_layer.0", branch.head


def _encoder_pairs(stage: EncoderStage) -> Iterator[Pair]:
    yield from (("0", stage.down_norm), ("2", stage.down_conv))
    for k, layer in enumerate(stage.dense):
        for name in ("norm1", "conv1", "norm2", "conv2"):
            yield f"3.conv_block.{k}.{name}", layer.get_submodule(name)
    if stage.squeeze_norm is not None and stage.squeeze_conv is not None:
        yield from (("4", stage.squeeze_norm), ("6", stage.squeeze_conv))


def _trunk_pairs(trunk: FusionTrunk) -> Iterator[Pair]:
    """The trunk's compressing convolution is the first of its `decoder_layer`, unlike that of the views."""
    for i in (*range(LEVELS - 1), LEVELS - 1, -1):
        if i == LEVELS - 1:
            yield from _under("decoder_layer4", _block_pairs([], trunk.base_up))
            continue
        level = LEVELS - 2 - i
        stage = trunk.stage(level)
        blocks = list(_under(f"decoder_layer{i}", _block_pairs([stage.compress, *stage.refine], stage.up)))
        heads = [] if trunk.rendering is None else [(f"tohu_layer{i}.0", trunk.rendering.heads[level])]
        yield from blocks + heads if i == -1 else heads + blocks
    if trunk.head is not None:
        yield "decoder_layer.0", trunk.head


def _block_pairs(blocks: list[nn.Module], up: UpBlock | None) -> Iterator[Pair]:
    """A sequence of convolution, normalisation, ReLU (three places each), ended by a transposed block."""
    for k, block in enumerate(blocks):
        yield from _conv_pairs(block, str(3 * k), str(3 * k + 1))
    if up is not None:
        place = f"{3 * len(blocks)}.block.block"
        yield from _conv_pairs(up, f"{place}.0", f"{place}.1")


def _conv_pairs(block: nn.Module, conv_name: str, norm_name: str) -> Iterator[Pair]:
    assert isinstance(block, (ConvNormReLU, UpBlock))
    yield from ((conv_name, block.conv), (norm_name, block.norm))


def _discriminator_pairs(network: Discriminator) -> Iterator[Pair]:
    """Layers stand at 0, 2, 5, 8, 11: a LeakyReLU follows the first, normalisation and LeakyReLU each inner one."""
    place = 0
    for k, layer in enumerate(network.scales.get_submodule("0.layers").children()):
        yield f"model.{place}{'.conv' if k == 0 and network.config.coordinates else ''}", layer.get_submodule("conv")
        if isinstance(norm := layer.norm, nn.InstanceNorm3d):
            yield f"model.{place + 1}", norm
        place += 2 if k == 0 else 3


def _under(prefix: str, pairs: Iterator[Pair]) -> Iterator[Pair]:
    for name, module in pairs:
        yield f"{prefix}.{name}", module


def _parameters(pairs: list[Pair]) -> Iterator[tuple[str, nn.Parameter]]:
    for prefix, module in pairs:
        for name, parameter in module.named_parameters():
            yield f"{prefix}.{name}", parameter


def _expected(pairs: list[Pair]) -> dict[str, tuple[int, ...]]:
    """Shape of every entry of the published state dict, running statistics included."""
    shapes = {name: tuple(parameter.shape) for name, parameter in _parameters(pairs)}
    for prefix, module in pairs:
        if isinstance(module, (nn.InstanceNorm2d, nn.InstanceNorm3d)):
            for statistic in _STATISTICS:
                shapes[f"{prefix}.{statistic}"] = () if statistic == _STATISTICS[2] else (module.num_features,)
    return shapes


def _check_values(state: Mapping[str, Tensor], where: str) -> None:
    """Weights must be finite floating-point numbers; a diverged training leaves NaN behind."""
    weights = {name: tensor for name, tensor in state.items() if not name.endswith(_STATISTICS)}
    whole = [f"{name} ({tensor.dtype})" for name, tensor in weights.items() if not tensor.is_floating_point()]
    if whole:
        raise CheckpointError(f"{where}: expected floating-point weights, found {', '.join(whole)}")
    odd = [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]
    if odd:
        raise CheckpointError(f"{where}: NaN or infinite values in {', '.join(odd)}; use an earlier checkpoint")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
