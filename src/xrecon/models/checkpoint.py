"""Weights on disk: `model.safetensors`, and beside it `model.json` that says what they are and guards them by hash."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, Field, JsonValue
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from xrecon.config import Config, validated
from xrecon.environment import run_environment
from xrecon.errors import CheckpointError, InputError
from xrecon.geometry import FRAME_MM
from xrecon.io.guards.files import read_text_capped, sha256_of
from xrecon.io.output.atomic import write_text_atomic
from xrecon.io.output.staging import staged_outputs
from xrecon.models.registry import FAMILIES, build, family_of, parameter_count
from xrecon.volume import RESEARCH_NOTICE

SCHEMA = "xrecon-model"
SCHEMA_VERSION = 1
WEIGHTS_NAME = "model.safetensors"
INFORMATION_NAME = "model.json"
_PICKLES = (b"PK\x03\x04", b"\x80")
"""First bytes of files of torch.save: a zip, or a bare pickle."""


def _is_sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError("expected 64 hexadecimal digits")
    return text


class ModelInformation(Config):
    """What `model.json` holds."""

    schema_name: str = f"{SCHEMA}/{SCHEMA_VERSION}"
    """Layout of this file and its version."""
    notice: str = RESEARCH_NOTICE
    """What the weights may be used for."""
    name: str = Field(min_length=1, max_length=200)
    """What people call the model."""
    family: str
    """Network class: a key of `registry.FAMILIES`."""
    architecture: dict[str, JsonValue]
    """Every setting of the network."""
    parameters: int = Field(ge=1)
    """Number of values."""
    inputs: str
    """Shapes and meaning of what goes in."""
    output: str
    """Shape and meaning of what comes out."""
    frame_mm: float = Field(default=FRAME_MM, gt=0)
    """Edge of the reconstruction cube and width of the films at the isocentre plane, mm."""
    value_range: str
    """What network values mean."""
    training_data: str
    """What the weights were trained on, with its attribution."""
    licence: str
    """Terms of the weights."""
    metrics: dict[str, JsonValue] = Field(default_factory=dict)
    """Measured figures, each with its data, split and convention in its name or value."""
    sha256: Annotated[str, AfterValidator(_is_sha256)]
    """Of the weights file."""
    bytes: int = Field(ge=1)
    """Size of the weights file."""
    made: str
    """Date, UTC."""
    environment: dict[str, JsonValue] = Field(default_factory=dict)
    """Versions of the software that wrote the file."""


def save_model(
    network: nn.Module,
    folder: str | os.PathLike[str],
    *,
    name: str,
    training_data: str,
    licence: str,
    metrics: Mapping[str, Any] | None = None,
    frame_mm: float = FRAME_MM,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> Path:
    """Write `model.safetensors` and `model.json` into `folder`; both appear complete or not at all.

    Args:
        network: with a `config` of a known family.
        folder: created where absent.
        name: what people call the model.
        training_data: what it was trained on, with attribution.
        licence: terms of the weights.
        metrics: JSON-ready figures, each named with its data, split and convention.
        frame_mm: edge of the reconstruction cube, mm.
        dtype: of the stored weights; None for that of the network.
        overwrite: replace an earlier model.

    Returns: the folder.

    Raises OutputExistsError, InputError (place not writable, metrics not JSON), ConfigError (unknown network).
    """
    config = getattr(network, "config", None)
    if not isinstance(config, Config):
        raise InputError(f"{type(network).__name__}: cannot be saved, its settings are no Config")
    final = Path(folder)
    family = family_of(config)
    inputs, output = FAMILIES[family].shapes(config)
    with staged_outputs(final, (WEIGHTS_NAME, INFORMATION_NAME), overwrite=overwrite) as stage:
        weights = stage / WEIGHTS_NAME
        tensors = {key: value.detach().to("cpu", dtype).contiguous() for key, value in network.state_dict().items()}
        # One metadata key: safetensors writes several in random order, and equal weights should be equal files.
        save_file(tensors, weights, metadata={"notice": RESEARCH_NOTICE})
        values = {
            "name": name,
            "family": family,
            "architecture": config.model_dump(mode="json"),
            "parameters": parameter_count(network),
            "inputs": inputs,
            "output": output,
            "frame_mm": frame_mm,
            "value_range": FAMILIES[family].value_range,
            "training_data": training_data,
            "licence": licence,
            "metrics": dict(metrics or {}),
            "sha256": sha256_of(weights),
            "bytes": weights.stat().st_size,
            "made": datetime.now(timezone.utc).date().isoformat(),
            "environment": run_environment(),
        }
        information = validated(ModelInformation, values, where=INFORMATION_NAME, error=InputError)
        write_text_atomic(stage / INFORMATION_NAME, information.model_dump_json(indent=2) + "\n")
        # safetensors makes files that only their owner may read.
        weights.chmod(stat.S_IMODE((stage / INFORMATION_NAME).stat().st_mode))
    return final


def load_information(path: str | os.PathLike[str]) -> ModelInformation:
    """Read `model.json`; `path` is the model's folder or one of its two files.

    Raises CheckpointError: absent, not JSON, of another or a newer schema, or with wrong contents.
    """
    file = _folder(path) / INFORMATION_NAME
    if not file.is_file():
        raise CheckpointError(
            f"{file}: does not exist; weights are a pair of {WEIGHTS_NAME} and {INFORMATION_NAME}, copy both. A "
            f"published checkpoint becomes such a pair by `xrecon models import`"
        )
    try:
        values = json.loads(read_text_capped(file))
        schema = _schema_of(values)
    except (InputError, ValueError) as error:
        raise CheckpointError(f"{file}: not a model description in JSON ({error}); copy the model again") from None
    _check_schema(schema, file)
    return validated(ModelInformation, values, where=str(file), error=CheckpointError)


def load_model(
    path: str | os.PathLike[str], *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> tuple[nn.Module, ModelInformation]:
    """The network in evaluation mode with its weights, and what is known of it.

    Args:
        path: the model's folder or one of its two files.
        device: where the weights go.
        dtype: of the weights; None for that of the file.

    Raises CheckpointError, naming the reason: the pair is incomplete, a byte changed, the file is a pickle, the schema
    is newer, an entry is missing, extra or of another shape.
    """
    information = load_information(path)
    weights = _folder(path) / WEIGHTS_NAME
    _check_weights_file(weights, information)
    network = _network_of(information, weights)
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    try:
        with safe_open(weights, framework="pt", device="cpu") as opened:
            names = list(opened.keys())
            stored = {name: tuple(opened.get_slice(name).get_shape()) for name in names}
            check_entries(expected, stored, where=str(weights))
            # Assigned, not copied: the meta network holds no memory, so the peak is one copy of the weights.
            network.load_state_dict({name: opened.get_tensor(name) for name in names}, assign=True)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{weights}: not a readable safetensors file ({error}); copy the model again") from error
    return network.to(device=device, dtype=dtype).eval(), information


def check_entries(
    expected: Mapping[str, tuple[int, ...]], stored: Mapping[str, tuple[int, ...]], *, where: str
) -> None:
    """Raises CheckpointError that names every missing, extra and misshapen entry; silent if all fit."""
    lines = [f"missing {name} {expected[name]}" for name in expected if name not in stored]
    lines += [f"extra {name} {stored[name]}" for name in stored if name not in expected]
    lines += [
        f"{name} has the shape {stored[name]}, the network {expected[name]}"
        for name in expected
        if name in stored and stored[name] != expected[name]
    ]
    if lines:
        raise CheckpointError(
            f"{where}: the weights do not fit the network ({len(lines)} entries); use a network of the same size and "
            f"settings:\n  " + "\n  ".join(lines)
        )


def _folder(path: str | os.PathLike[str]) -> Path:
    place = Path(path)
    if place.suffix in (".pt", ".pth", ".ckpt", ".pkl", ".bin"):
        raise CheckpointError(
            f"{place}: a PyTorch checkpoint, which can run code when it is read; convert it by `xrecon models import`"
        )
    return place.parent if place.name in (WEIGHTS_NAME, INFORMATION_NAME) else place


def _schema_of(values: Any) -> str:
    if not isinstance(values, dict):
        raise ValueError(f"expected a mapping, found {type(values).__name__}")
    return str(values.get("schema_name"))


def _check_schema(schema: str, file: Path) -> None:
    match = re.fullmatch(rf"{SCHEMA}/(\d+)", schema)
    if match is None:
        raise CheckpointError(f"{file}: expected the schema {SCHEMA}/{SCHEMA_VERSION}, found {schema!r}")
    if int(match[1]) > SCHEMA_VERSION:
        raise CheckpointError(
            f"{file}: written by a newer xrecon (schema {schema}, this one reads up to {SCHEMA_VERSION}); update xrecon"
        )
    if int(match[1]) < 1:
        raise CheckpointError(f"{file}: there is no schema {schema}; the first is {SCHEMA}/1")


def _check_weights_file(weights: Path, information: ModelInformation) -> None:
    if not weights.is_file():
        raise CheckpointError(f"{weights}: does not exist, though {INFORMATION_NAME} lies there; copy both files")
    with weights.open("rb") as stream:
        head = stream.read(4)
    # A safetensors file starts with the length of its header in 8 bytes, which can begin like a pickle, too: only a
    # wrong hash makes it one.
    digest = sha256_of(weights)
    if digest != information.sha256 and head.startswith(_PICKLES):
        raise CheckpointError(
            f"{weights}: a pickle (PyTorch) file, which can run code when it is read; convert it by `xrecon models "
            f"import`"
        )
    if digest != information.sha256:
        raise CheckpointError(
            f"{weights}: damaged or changed: sha256 {digest[:12]}..., {INFORMATION_NAME} says "
            f"{information.sha256[:12]}...; copy or convert it again"
        )


def _network_of(information: ModelInformation, weights: Path) -> nn.Module:
    place = weights.with_name(INFORMATION_NAME)
    family = FAMILIES.get(information.family)
    if family is None:
        raise CheckpointError(
            f"{place}: unknown network family {information.family!r}; known: {', '.join(FAMILIES)}; update xrecon"
        )
    return build(validated(family.settings, information.architecture, where=str(place), error=CheckpointError))
