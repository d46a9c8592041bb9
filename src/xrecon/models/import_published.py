"""A published checkpoint as weights that are safe to load: `xrecon models import`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xrecon.config import load_config
from xrecon.io.output.staging import check_outputs
from xrecon.json_text import json_text
from xrecon.models.checkpoint import INFORMATION_NAME, WEIGHTS_NAME, ModelInformation, load_information, save_model
from xrecon.models.published import config_of_published, load_published, read_published
from xrecon.models.registry import build


def import_published(
    checkpoint: Path,
    folder: Path,
    *,
    training_data: str,
    licence: str,
    name: str | None = None,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
) -> ModelInformation:
    """Convert a published generator or discriminator checkpoint to safetensors with a description and a hash.

    No code in the file is run. Size, widths and ablation are read from the weights.

    Args:
        checkpoint: file of `torch.save` with the published names.
        folder: for model.safetensors and model.json.
        training_data: data that it was trained on, with attribution.
        licence: terms of the weights.
        name: name of the model; None: the name of the file.
        overrides: settings that the checkpoint does not hold, such as "activation=relu".
        overwrite: replace a model that the folder holds.

    Raises:
        CheckpointError: not such a checkpoint.
        ConfigError: an override is unknown.
        OutputExistsError: the folder holds a model, and `overwrite` is not given.
    """
    check_outputs(folder, (WEIGHTS_NAME, INFORMATION_NAME), overwrite=overwrite)
    state = read_published(checkpoint)
    config = config_of_published(state, where=checkpoint.name)
    texts = [f"{key}={json_text(value, indent=None)}" for key, value in config.model_dump(mode="json").items()]
    network = build(load_config(type(config), overrides=[*texts, *overrides])).to_empty(device="cpu")
    load_published(network, state, where=checkpoint.name)
    save_model(
        network,
        folder,
        name=name or checkpoint.stem,
        training_data=training_data,
        licence=licence,
        overwrite=overwrite,
    )
    return load_information(folder)
