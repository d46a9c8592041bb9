"""`xrecon models`: the networks by name, and published checkpoints made into weights that are safe to load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from xrecon.cli.common import OverwriteOption, SetOption, Shell, add_command, example
from xrecon.cli.help_text import command_group
from xrecon.json_text import json_text

app = command_group(
    "List the networks, and convert published checkpoints into weights that are safe to load.",
    examples=(
        "xrecon models list",
        "xrecon models import 200_net_G.pth -o models/xrecon",
    ),
)
_UNSTATED = "not stated in the checkpoint"


@example(
    "xrecon models import 200_net_G.pth -o models/xrecon",
    "xrecon models import 100_net_G.pth -o models/x2ct --training-data 'LIDC-IDRI' --licence 'CC BY 3.0'",
)
def import_(
    shell: Shell,
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", help="File of torch.save with the published names.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for model.safetensors and model.json.")
    ],
    name: Annotated[str | None, typer.Option("--name", help="Name of the model; default: that of the file.")] = None,
    training_data: Annotated[
        str, typer.Option("--training-data", help="What it was trained on, with attribution.")
    ] = _UNSTATED,
    licence: Annotated[str, typer.Option("--licence", help="Terms of the weights.")] = _UNSTATED,
    overrides: SetOption = None,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Convert a published generator or discriminator checkpoint to safetensors with a description and a hash.

    Size, widths and ablation are read from the checkpoint. Its output activation is not in it: LeakyReLU is taken with
    MFusionRen, ReLU without; --set activation=relu states another. No code in the file is run.
    """
    from xrecon.config import load_config
    from xrecon.io.output.staging import check_outputs
    from xrecon.models.checkpoint import INFORMATION_NAME, WEIGHTS_NAME, load_information, save_model
    from xrecon.models.published import config_of_published, load_published, read_published
    from xrecon.models.registry import build

    check_outputs(output, (WEIGHTS_NAME, INFORMATION_NAME), overwrite=overwrite)
    with shell.progress("converting the checkpoint"):
        state = read_published(checkpoint)
        found = config_of_published(state, where=checkpoint.name)
        texts = [f"{key}={json_text(value, indent=None)}" for key, value in found.model_dump(mode="json").items()]
        network = build(load_config(type(found), overrides=[*texts, *(overrides or [])])).to_empty(device="cpu")
        load_published(network, state, where=checkpoint.name)
        save_model(
            network,
            output,
            name=name or checkpoint.stem,
            training_data=training_data,
            licence=licence,
            overwrite=overwrite,
        )
    information = load_information(output)
    shell.print(f"{output}: {information.family}, {information.parameters:,} parameters, {information.inputs}")
    if training_data == _UNSTATED or licence == _UNSTATED:
        shell.note("training data or licence are not stated; give --training-data and --licence where you know them")
    return {"folder": output, **information.model_dump(mode="json")}


@example("xrecon models list", "xrecon models list --json")
def list_(shell: Shell) -> Mapping[str, Any]:
    """List the models that reconstruct a CT, and the networks that can be created by name.

    The reconstruction models are what `--model` of `xrecon reconstruct`, `evaluate` and `study` takes; a trained
    network is named by its folder. The networks are generators with their ablations, and discriminators.
    """
    from xrecon.inference.models import TABLE
    from xrecon.models.registry import DISCRIMINATORS, GENERATORS, build, parameter_count

    networks = []
    for kind, table in (("generator", GENERATORS), ("discriminator", DISCRIMINATORS)):
        for name, one in table.items():
            settings = one.config.model_dump(mode="json")
            networks.append(
                {
                    "name": name,
                    "kind": kind,
                    "size": settings.get("size"),
                    "parameters": parameter_count(build(one.config)),
                    "summary": one.summary,
                    "settings": settings,
                }
            )
    rows = [
        (str(one["name"]), str(one["kind"]), str(one["size"] or "any"), f"{one['parameters']:,}", str(one["summary"]))
        for one in networks
    ]
    shell.table(("name", "kind", "size", "parameters", ""), rows, title="Networks")
    reconstruction = [
        {"name": entry.name, "needs": entry.needs.in_words(), "summary": entry.summary} for entry in TABLE
    ]
    shell.table(("name", "needs", ""), [tuple(entry.values()) for entry in reconstruction], title="Models for --model")
    return {"networks": networks, "reconstruction_models": reconstruction}


add_command(app, import_, name="import")
add_command(app, list_, name="list")
