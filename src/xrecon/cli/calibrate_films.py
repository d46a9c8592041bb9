"""`xrecon train calibrate-films`: what the numbers of film networks mean, on patients they were not trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from xrecon.cli.common import OverwriteOption, Shell, example


@example(
    "xrecon train calibrate-films film-run --library films",
    "xrecon train calibrate-films film-run-all --library films --fold-run film-run-0 --fold-run film-run-1",
)
def calibrate_films(
    shell: Shell,
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of film networks that gets the calibration.")],
    library: Annotated[Path, typer.Option("--library", metavar="DIR", help="Folder of `xrecon prepare-films`.")],
    fold_runs: Annotated[
        list[Path] | None,
        typer.Option(
            "--fold-run",
            metavar="DIR",
            help="Networks of the same kind that were trained without a fold of the cases; default: MODEL itself.",
        ),
    ] = None,
    pairs: Annotated[int, typer.Option("--pairs", min=40, help="Film pairs of left-out cases per run, at most.")] = 400,
    specificity: Annotated[
        float, typer.Option("--specificity", min=0.5, max=0.999, help="Share of healthy pairs below the threshold.")
    ] = 0.95,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Calibrate film networks: probability of free air by side, and an interval for the occupancy.

    Writes MODEL/calibration.json from films of the cases that each run was trained without. Networks that were trained
    on all cases are calibrated with runs of the same settings that left out one fold each (--fold-run).
    """
    from xrecon.errors import OutputExistsError
    from xrecon.evaluation.film_networks import evaluate_films
    from xrecon.films.film_calibration import CALIBRATION_NAME
    from xrecon.models.checkpoint import load_information
    from xrecon.training.films.calibration import calibrate

    if (model / CALIBRATION_NAME).exists() and not overwrite:
        raise OutputExistsError(f"{model / CALIBRATION_NAME}: exists already; give --overwrite to replace it")
    load_information(model)
    scores, digests = [], []
    with shell.progress("measuring the film networks"):
        for run in fold_runs or [model]:
            scores += evaluate_films(run, library, pairs=pairs)[1]
            digests.append(load_information(run).sha256)
            shell.note(f"{run.name}: {len(scores)} film pairs so far")
    calibration = calibrate(scores, networks=digests, specificity=specificity)
    file = calibration.save(model, overwrite=overwrite)
    presence = calibration.presence
    shell.print(f"{file}: {calibration.pairs} film pairs of {', '.join(calibration.cases)}")
    shell.print(f"threshold: probability {presence.threshold:.3f}; occupancy times {calibration.factor:.3f}")
    return {"file": file, **calibration.model_dump(mode="json")}
