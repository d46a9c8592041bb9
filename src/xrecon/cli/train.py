"""`xrecon train`: reconstruction networks (`network`), the anatomical prior
(`priors`), the lung network (`lungs`), the film networks (`films`)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from xrecon.cli.calibrate_films import calibrate_films
from xrecon.cli.common import OverwriteOption, SeedOption, Shell, add_command, example
from xrecon.cli.help_text import command_group
from xrecon.cli.options import SplitOption, chosen_cases
from xrecon.cli.train_network import NAME, TrainGroup, network


class FilmViews(str, Enum):
    """Which films the film networks see."""

    PA = "pa"
    LATERAL = "lateral"
    BOTH = "both"


app = command_group(
    "Train a reconstruction network, the anatomical prior, the lung network or the film networks.\n\n"
    "The word `network` may be left out: `xrecon train CONFIG.yaml` trains a reconstruction network.",
    examples=(
        "xrecon train configs/tiny_cpu.yaml --set data.path=chests-64 -o runs/tiny",
        "xrecon train priors cases -o priors.safetensors",
        "xrecon train lungs cases --split configs/splits/shared-data.yaml -o lungs-run",
        "xrecon train films films -o film-run --fold 0",
        "xrecon train films films -o film-run-pa --fold 0 --views pa --pixel-mm 3",
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
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder with one CT file, or one DICOM folder, per patient.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File of the priors to write, .safetensors; a .json is written beside it.",
        ),
    ],
    split: SplitOption = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Compute coarse statistics in a fraction of the time, only to try things out."),
    ] = False,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Learn the anatomical prior of `reconstruct` from chest CTs: the mean chest, and how chests differ.

    With --split only its train cases are read. Without it all CTs of the folder are used, so test cases must not lie
    there.
    """
    from xrecon.priors.build import BuildSettings, learn_priors

    cases = chosen_cases(folder, split)
    which = "all CTs of the folder (no --split)" if split is None else "the train cases of the split"
    shell.note(f"learning from {len(cases)} cases, {which}: {', '.join(name for name, _ in cases)}")
    settings = BuildSettings.quick(seed=seed) if quick else BuildSettings(seed=seed)
    with shell.progress("learning the priors"):
        file = learn_priors(cases, output, settings=settings, overwrite=overwrite, progress=shell.note)
    shell.print(f"{file}: priors of {len(cases)} cases, {file.stat().st_size / 1e6:.1f} MB ({which})")
    return {
        "priors": file,
        "side_car": file.with_suffix(".json"),
        "cases": [name for name, _ in cases],
        "used": which,
    }


add_command(app, priors, name="priors")


@example(
    "xrecon train lungs cases --split configs/splits/shared-data.yaml -o lungs-run",
    "xrecon train lungs cases --split configs/splits/shared-data.yaml -o lungs-run --resume",
)
def lungs(
    shell: Shell,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder with one CT file, or one DICOM folder, per patient.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the run for cases, state, log and weights.")
    ],
    split: SplitOption = None,
    minutes: Annotated[
        float, typer.Option("--minutes", min=0.01, help="Minutes of training, without the planting of the cases.")
    ] = 40.0,
    rounds: Annotated[
        int,
        typer.Option("--rounds", min=1, max=20, help="How often pneumothoraces of every size are planted in every CT."),
    ] = 1,
    start: Annotated[
        Path | None,
        typer.Option("--start", metavar="DIR", help="Begin with the weights in the folder of an earlier run."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the state in the run folder.")] = False,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Train the network that finds the right and left hemithorax in a CT (`xrecon segment --lung-model net`).

    Pneumothoraces, bullae, stomach gas and skin emphysema are planted in every CT (some 12 volumes each, kept in
    DIR/cases). Every fifth patient is held out and measured. Weights: DIR/model.safetensors and DIR/model.json.
    """
    from xrecon.config import load_config
    from xrecon.data.split import Split
    from xrecon.training.lungs.lung_run import train_lung_network

    cases = chosen_cases(folder, split)
    shell.note(f"cases: {', '.join(name for name, _ in cases)}")
    with shell.progress("training the lung network"):
        run = train_lung_network(
            cases,
            output,
            minutes=minutes,
            rounds=rounds,
            seed=seed,
            start=start,
            split=None if split is None else load_config(Split, split),
            resume=resume,
            overwrite=overwrite,
            progress=shell.note,
        )
    size_mb = run.weights.stat().st_size / 1e6
    shell.print(f"{run.weights}: trained on {run.metrics['training_volumes']} volumes, {size_mb:.1f} MB")
    for name, value in run.metrics.items():
        if isinstance(value, dict):
            shell.print(f"{name}: mean {value['mean']:.3f}, lowest {value['min']:.3f}")
    return {"weights": run.weights, "cases": run.cases, "metrics": run.metrics}


add_command(app, lungs, name="lungs")


@example(
    "xrecon train films films -o film-run --fold 0",
    "xrecon train films films -o film-run-pa --fold 0 --views pa --pixel-mm 3",
    "xrecon train films films -o film-run --resume",
)
def films(
    shell: Shell,
    library: Annotated[Path, typer.Argument(metavar="LIBRARY", help="Folder that `xrecon prepare-films` made.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the run for settings, state and weights.")
    ],
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="YAML with settings that differ from the defaults.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, such as steps=8000.")
    ] = None,
    fold: Annotated[
        int | None, typer.Option("--fold", min=0, help="Leave out this fold of the cases, and measure on it.")
    ] = None,
    views: Annotated[
        FilmViews | None, typer.Option("--views", help="Films that the network sees; default: both.")
    ] = None,
    pixel_mm: Annotated[
        float | None,
        typer.Option("--pixel-mm", help="Pixel pitch of the films: 0.75, 1.5, 3 or 6 mm; default: 1.5."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the folder, or begin it.")] = False,
    start: Annotated[
        Path | None,
        typer.Option("--start", metavar="DIR", help="Begin with the weights of these film networks, not at random."),
    ] = None,
    max_seconds: Annotated[
        float | None, typer.Option("--max-seconds", min=1, help="Stop after so many seconds; --resume goes on.")
    ] = None,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Train the networks that map air and lung along the rays of a PA and a lateral film.

    The library may still grow while they train. Weights: DIR/model.safetensors and DIR/model.json.
    """
    from xrecon.config import load_config
    from xrecon.training.films.film_loop import train_films
    from xrecon.training.films.film_training import FilmTraining

    overrides = list(settings or [])
    if fold is not None:
        overrides.append(f"fold={fold}")
    if views is not None:
        overrides.append(f"network.views={'[pa, lateral]' if views is FilmViews.BOTH else [views.value]}")
    if pixel_mm is not None:
        overrides.append(f"network.pixel_mm={pixel_mm}")
    with shell.progress("training the film networks"):
        outcome = train_films(
            library,
            output,
            settings=load_config(FilmTraining, config, overrides),
            resume=resume,
            overwrite=overwrite,
            start=start,
            max_seconds=max_seconds,
            progress=shell.note,
        )
    state = "finished" if outcome.finished else "not finished; go on with --resume"
    shell.print(f"{output}: step {outcome.step}, {state}")
    return {
        "step": outcome.step,
        "finished": outcome.finished,
        "metrics": outcome.metrics,
        "weights": outcome.weights,
    }


add_command(app, films, name="films")
add_command(app, calibrate_films, name="calibrate-films")
