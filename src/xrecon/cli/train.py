"""`xrecon train`: what is learned from CTs. `priors`: the statistical chest; `lungs`: the network of PTX-Seg."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from xrecon.cli.common import OverwriteOption, SeedOption, Shell, add_command, example
from xrecon.cli.help_text import command_group
from xrecon.cli.options import SplitOption, chosen_cases
from xrecon.cli.train_network import NAME, TrainGroup, network

app = command_group(
    "Train a reconstruction network, the anatomical prior or the lung network.\n\n"
    "The word `network` may be left out: `xrecon train CONFIG.yaml` trains a reconstruction network.",
    examples=(
        "xrecon train configs/tiny_cpu.yaml --set data.path=chests-64 -o runs/tiny",
        "xrecon train priors cases -o priors.safetensors",
        "xrecon train lungs cases --split configs/splits/shared-data.yaml -o lungs-run",
    ),
    cls=TrainGroup,
)

add_command(app, network, name=NAME)


@example(
    "xrecon train priors cases -o priors.safetensors",
    "xrecon train priors cases -o priors.safetensors --split configs/splits/shared-data.yaml",
)
def priors(
    shell: Shell,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="One CT file, or DICOM folder, per patient.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Priors to write: .safetensors, and .json beside it.")
    ],
    split: SplitOption = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Coarse statistics in a fraction of the time, only to try things out.")
    ] = False,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Learn the anatomical prior of `reconstruct` from chest CTs: mean chest, and how chests differ.

    With --split only its train cases are read. Without it all CTs of the folder are used: keep test cases elsewhere.
    """
    from xrecon.errors import InputError
    from xrecon.io.output.staging import check_outputs
    from xrecon.priors.build import BuildSettings, build_priors
    from xrecon.volume import load_ct

    if output.suffix != ".safetensors":
        raise InputError(f"{output}: priors are written as safetensors; choose a name that ends in .safetensors")
    side_car = output.with_suffix(".json")
    check_outputs(output.parent, [output.name, side_car.name], overwrite=overwrite)
    cases = chosen_cases(folder, split)
    which = "all CTs of the folder (no --split)" if split is None else "the train cases of the split"
    shell.note(f"learning from {len(cases)} cases, {which}: {', '.join(name for name, _ in cases)}")
    with shell.progress("learning the priors"):
        volumes = [(name, load_ct(path)) for name, path in cases]
        settings = BuildSettings(seed=seed)
        if quick:
            settings = replace(settings, rounds=((20, 3e-4),), inverse_steps=20, draws_per_case=4, modes=16)
        asset = build_priors(volumes, settings=settings, progress=shell.note)
        asset.save(output, overwrite=overwrite)
    shell.print(f"{output}: priors of {len(cases)} cases, {output.stat().st_size / 1e6:.1f} MB ({which})")
    return {"priors": output, "side_car": side_car, "cases": [name for name, _ in cases], "used": which}


add_command(app, priors, name="priors")


@example(
    "xrecon train lungs cases --split configs/splits/shared-data.yaml -o lungs-run",
    "xrecon train lungs cases --split configs/splits/shared-data.yaml -o lungs-run --resume",
)
def lungs(
    shell: Shell,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="One CT file, or DICOM folder, per patient.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Run folder: cases, state, log and weights.")
    ],
    split: SplitOption = None,
    minutes: Annotated[float, typer.Option("--minutes", min=0.01, help="Time to train, without making cases.")] = 40.0,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, max=20, help="Plant pneumothoraces of every size this often in every CT.")
    ] = 1,
    start: Annotated[
        Path | None, typer.Option("--start", metavar="DIR", help="Begin with the weights of an earlier run's folder.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the state in the run folder.")] = False,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Train the network that finds right and left hemithorax in a CT (`xrecon segment --lung-model net`).

    Pneumothoraces, bullae, stomach gas and skin emphysema are planted in every CT (some 12 volumes each, kept in
    DIR/cases). Every fifth patient is held out and measured. Weights: DIR/model.safetensors and DIR/model.json.
    """
    import torch

    from xrecon.config import load_config
    from xrecon.data.split import Split
    from xrecon.errors import InputError
    from xrecon.io.output.staging import check_outputs
    from xrecon.models.checkpoint import INFORMATION_NAME, WEIGHTS_NAME, save_model
    from xrecon.models.lung_network import LungNetConfig
    from xrecon.ptxseg.hemithoraces.net_lungs import NetLungs
    from xrecon.training.lungs.loop import CONTINUED_RATE, LungTraining, train_lungs
    from xrecon.training.lungs.planted_cases import make_cases

    check_outputs(output, (WEIGHTS_NAME, INFORMATION_NAME), overwrite=overwrite or resume)
    cases = chosen_cases(folder, split)
    shell.note(f"cases: {', '.join(name for name, _ in cases)}")
    if start is not None and not (start / WEIGHTS_NAME).is_file():
        raise InputError(f"{start}: holds no {WEIGHTS_NAME}; give the folder of an earlier `xrecon train lungs`")
    earlier = NetLungs(start) if start is not None else None
    begun = earlier.network if earlier is not None else None
    network = LungNetConfig() if begun is None else begun.config
    with shell.progress("training the lung network"):
        volumes = make_cases(
            cases, output / "cases", pitch_mm=network.pitch_mm, seed=seed, rounds=rounds, progress=shell.note
        )
        settings = LungTraining(minutes=minutes, seed=seed)
        if begun is not None:
            settings = settings.model_copy(update={"learning_rate": CONTINUED_RATE})
        trained, measured = train_lungs(
            volumes, output, settings=settings, network=network, start=begun, resume=resume, progress=shell.note
        )
    metrics = measured.to_dict()
    source = load_config(Split, split) if split is not None else None
    if earlier is not None:
        metrics = {**metrics, "begun_with_sha256": earlier.information.sha256}
    save_model(
        trained,
        output,
        name="lungs",
        training_data=f"{len(cases) - len(metrics['held_out_patients'])} chest CTs with planted air "
        f"({metrics['training_volumes']} volumes). {source.source if source else 'A folder of CTs, no split.'}",
        licence=f"Apache-2.0; training data {source.licence if source else 'of the user'}",
        metrics=metrics,
        dtype=torch.float16,
        overwrite=overwrite or resume,
    )
    weights = output / WEIGHTS_NAME
    shell.print(f"{weights}: trained on {metrics['training_volumes']} volumes, {weights.stat().st_size / 1e6:.1f} MB")
    for name, value in metrics.items():
        if isinstance(value, dict):
            shell.print(f"{name}: mean {value['mean']:.3f}, lowest {value['min']:.3f}")
    return {"weights": weights, "cases": [name for name, _ in cases], "metrics": metrics}


add_command(app, lungs, name="lungs")
