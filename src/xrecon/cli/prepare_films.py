"""`xrecon prepare-films`: a library of simulated films with exact thickness maps, for the film networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from xrecon.cli.common import SeedOption, Shell, example
from xrecon.cli.options import ClusterOption, ProcessesOption


@example(
    "xrecon prepare-films cts -o films --split split.yaml --anatomies 50",
    "xrecon prepare-films cts -o films --split split.yaml --shapes shapes --anatomies 1500 --workers 2",
)
def prepare_films(
    shell: Shell,
    cts: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder with one healthy chest CT per case.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="LIBRARY", help="Folder to write to.")],
    split: Annotated[
        Path, typer.Option("--split", metavar="FILE", help="YAML with the lists train and test; only train is used.")
    ],
    shapes: Annotated[
        Path | None,
        typer.Option("--shapes", metavar="FOLDER", help="Folder with lung shapes of other patients (lungs_4mm.npz)."),
    ] = None,
    anatomies: Annotated[int, typer.Option("--anatomies", min=1, help="Number of anatomies in the end.")] = 1500,
    plants: Annotated[int, typer.Option("--plants", min=0, max=8, help="Film pairs with a pneumothorax each.")] = 2,
    healthy: Annotated[
        int,
        typer.Option("--healthy", min=1, max=8, help="Film pairs without; all but the first with other air."),
    ] = 2,
    size: Annotated[int, typer.Option("--size", min=32, max=1024, help="Pixels per edge of 384 mm.")] = 512,
    seed: SeedOption = 0,
    workers: ProcessesOption = None,
    scheduler: ClusterOption = None,
) -> Mapping[str, Any]:
    """Make film pairs of endless anatomies, sick and healthy, with exact maps of air and lung along every ray.

    Each anatomy is a train CT deformed to another patient's lungs, breath, size and posture. Run the same command again
    to go on after an interruption; finished anatomies stay. No identifier of a patient is stored.
    """
    from xrecon.config import load_config
    from xrecon.data.split import Split
    from xrecon.preparation.film_library.library_run import FilmLibraryRequest, prepare_film_library
    from xrecon.preparation.film_library.library_settings import FilmLibrarySettings

    settings = FilmLibrarySettings(size=size, plants=plants, healthy=healthy, seed=seed)
    with shell.steps("films", total=anatomies) as tell:
        result = prepare_film_library(
            FilmLibraryRequest(
                cts,
                load_config(Split, split),
                output,
                anatomies,
                shapes=shapes,
                settings=settings,
                workers=workers,
                scheduler=scheduler,
                progress=lambda done, total, text: tell(f"{done} of {total}: {text}"),
            )
        )
    shell.print(f"{output}: {result.anatomies} anatomies, {result.samples} film pairs ({result.made} new anatomies)")
    for line in result.failures:
        shell.note(line)
    return {
        "library": output,
        "anatomies": result.anatomies,
        "film_pairs": result.samples,
        "new": result.made,
        "failures": result.failures,
        "seconds": round(result.seconds, 1),
    }
