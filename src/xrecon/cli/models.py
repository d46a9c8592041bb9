"""`xrecon models`: list models and networks, and convert published checkpoints into weights that are safe to load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from xrecon.cli.common import OverwriteOption, SetOption, Shell, add_command, example
from xrecon.cli.help_text import command_group

app = command_group(
    "List models and networks, and convert published checkpoints into weights that are safe to load.",
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
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CKPT", help="Checkpoint of `torch.save` with the published names.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for model.safetensors and model.json.")
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the model; default: the name of the file.")
    ] = None,
    training_data: Annotated[
        str, typer.Option("--training-data", help="Data that it was trained on, with attribution.")
    ] = _UNSTATED,
    licence: Annotated[str, typer.Option("--licence", help="Terms of the weights.")] = _UNSTATED,
    overrides: SetOption = None,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Convert a published generator or discriminator checkpoint to safetensors with a description and a hash.

    Size, widths and ablation are read from the checkpoint, which does not hold the output activation: LeakyReLU is
    assumed with MFusionRen and ReLU without it, and --set activation=relu states another. No code in the file is run.
    """
    from xrecon.models.import_published import import_published

    with shell.progress("converting the checkpoint"):
        information = import_published(
            checkpoint,
            output,
            name=name,
            training_data=training_data,
            licence=licence,
            overrides=overrides or (),
            overwrite=overwrite,
        )
    shell.print(f"{output}: {information.family}, {information.parameters:,} parameters, {information.inputs}")
    if _UNSTATED in (training_data, licence):
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

    networks = [
        {
            "name": name,
            "kind": kind,
            "size": entry.config.model_dump(mode="json").get("size"),
            "parameters": parameter_count(build(entry.config)),
            "summary": entry.summary,
            "settings": entry.config.model_dump(mode="json"),
        }
        for kind, table in (("generator", GENERATORS), ("discriminator", DISCRIMINATORS))
        for name, entry in table.items()
    ]
    rows = [
        (str(net["name"]), str(net["kind"]), str(net["size"] or "any"), f"{net['parameters']:,}", str(net["summary"]))
        for net in networks
    ]
    shell.table(("name", "kind", "size", "parameters", ""), rows, title="Networks")
    reconstruction = [
        {"name": entry.name, "needs": entry.needs.in_words(), "summary": entry.summary} for entry in TABLE
    ]
    shell.table(("name", "needs", ""), [tuple(entry.values()) for entry in reconstruction], title="Models for --model")
    return {"networks": networks, "reconstruction_models": reconstruction}


add_command(app, import_, name="import")
add_command(app, list_, name="list")
