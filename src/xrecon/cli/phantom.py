"""`xrecon phantom`: an artificial chest CT as a file, or a population, to try everything without patient data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from xrecon.cli.common import OverwriteOption, SeedOption, Shell, example

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xrecon.volume import Volume


_PNEUMOTHORAX_SHARE = 0.4
"""Share of a population with a pneumothorax, where none is asked for."""


class PneumothoraxSide(str, Enum):
    """The patient's side of a pneumothorax."""

    RIGHT = "right"
    LEFT = "left"


@example(
    "xrecon phantom -o phantom.nii.gz --size 128",
    "xrecon phantom -o sick.nii.gz --pneumothorax-side right --pneumothorax-ml 600 --labels truth.nii.gz",
    "xrecon phantom -o population --count 200 --seed 1",
    "xrecon phantom -o nurbs.nii.gz --nurbs gecatsim --size 224",
)
def phantom(
    shell: Shell,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="CT to write (.nii, .nii.gz); with --count a folder.")
    ],
    size: Annotated[int, typer.Option("--size", min=32, max=512, help="Voxels per edge.")] = 128,
    spacing_mm: Annotated[
        float | None,
        typer.Option("--spacing-mm", min=0.5, max=12.0, help="Voxel pitch, mm; default: 384 mm / size."),
    ] = None,
    pneumothorax_side: Annotated[
        PneumothoraxSide | None, typer.Option("--pneumothorax-side", help="The patient's side with free pleural air.")
    ] = None,
    pneumothorax_ml: Annotated[
        float, typer.Option("--pneumothorax-ml", min=0.0, help="Volume of the free pleural air, mL.")
    ] = 0.0,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="FILE", help="Also write the true labels on the same grid."),
    ] = None,
    random: Annotated[
        bool, typer.Option("--random", help="Draw a random plausible adult by --seed instead of the standard one.")
    ] = False,
    count: Annotated[
        int | None,
        typer.Option("--count", min=1, help="Write a population of this many adults of any habitus, some ill."),
    ] = None,
    pneumothorax_share: Annotated[
        float | None,
        typer.Option(
            "--pneumothorax-share",
            min=0.0,
            max=1.0,
            help="With --count: share of the adults with a pneumothorax; default 0.4.",
        ),
    ] = None,
    nurbs: Annotated[
        str | None,
        typer.Option(
            "--nurbs", metavar="FILE", help="Draw the NURBS surfaces of a .nrb file, or of the package 'gecatsim'."
        ),
    ] = None,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Write an artificial chest CT with lungs, heart, bones and, on request, a pneumothorax.

    The labels are 1 right lung, 2 left lung, 3 free pleural air. With --count the folder gets ct/, labels/ and
    population.json, which holds habitus and disease (pneumothorax, bulla, subcutaneous emphysema) of each adult;
    `xrecon prepare` takes its ct folder. With --nurbs the shapes come from a file in the format of XCAT; `gecatsim`
    names the chest that the package of this name ships (body, lungs and sternum only).
    """
    from xrecon.errors import InputError
    from xrecon.geometry import FRAME_MM

    spacing = FRAME_MM / size if spacing_mm is None else spacing_mm
    if count is not None:
        if labels is not None or random or pneumothorax_side is not None:
            raise InputError(
                "--count draws habitus, disease and labels itself; leave out --labels, --random and --pneumothorax-side"
            )
        return _population(
            shell,
            output,
            count=count,
            seed=seed,
            size=size,
            spacing_mm=spacing,
            pneumothorax_share=_PNEUMOTHORAX_SHARE if pneumothorax_share is None else pneumothorax_share,
            overwrite=overwrite,
        )
    if pneumothorax_share is not None:
        raise InputError("--pneumothorax-share is for a population: give --count, or --pneumothorax-ml for one adult")
    if nurbs is not None:
        if random or pneumothorax_side is not None:
            raise InputError("--nurbs draws what the file holds; leave out --random and --pneumothorax-side")
        return _nurbs(shell, output, labels, nurbs, size=size, spacing_mm=spacing, overwrite=overwrite)
    return _single(
        shell,
        output,
        labels,
        size=size,
        spacing_mm=spacing,
        side=cast("Literal['right', 'left'] | None", pneumothorax_side and pneumothorax_side.value),
        pneumothorax_ml=pneumothorax_ml,
        random=random,
        seed=seed,
        overwrite=overwrite,
    )


def _single(
    shell: Shell,
    output: Path,
    labels: Path | None,
    *,
    size: int,
    spacing_mm: float,
    side: Literal["right", "left"] | None,
    pneumothorax_ml: float,
    random: bool,
    seed: int,
    overwrite: bool,
) -> Mapping[str, Any]:
    import numpy as np

    from xrecon.phantoms.thorax import ThoraxParameters, thorax_phantom

    _check_labels(output, labels, overwrite=overwrite)
    habitus = ThoraxParameters.sample(np.random.default_rng(seed)) if random else ThoraxParameters(seed=seed)
    parameters = replace(habitus, pneumothorax_side=side, pneumothorax_ml=pneumothorax_ml)
    with shell.progress("computing the phantom"):
        thorax = thorax_phantom(size=size, spacing_mm=spacing_mm, parameters=parameters)
        written = _write(shell, output, labels, thorax.volume, thorax.labels, overwrite=overwrite)
    return {**written, "parameters": asdict(parameters)}


def _nurbs(
    shell: Shell,
    output: Path,
    labels: Path | None,
    source: str,
    *,
    size: int,
    spacing_mm: float,
    overwrite: bool,
) -> Mapping[str, Any]:
    from xrecon.phantoms.nurbs_thorax import nurbs_phantom

    _check_labels(output, labels, overwrite=overwrite)
    with shell.progress("drawing the surfaces"):
        chest = nurbs_phantom(source, size=size, spacing_mm=spacing_mm)
        written = _write(shell, output, labels, chest.volume, chest.labels, overwrite=overwrite)
    return {**written, "surfaces": chest.names}


def _check_labels(output: Path, labels: Path | None, *, overwrite: bool) -> None:
    from xrecon.errors import InputError, OutputExistsError

    if labels is not None and labels.exists() and not overwrite:  # before the CT is written, not after
        raise OutputExistsError(f"{labels} exists already; choose another name or give --overwrite")
    if labels is not None and labels.resolve() == output.resolve():
        raise InputError(f"{output}: the CT and the labels need two different files")


def _write(
    shell: Shell, output: Path, labels: Path | None, volume: Volume, truth: NDArray[np.uint8], *, overwrite: bool
) -> dict[str, Any]:
    from xrecon.io.nifti import write_nifti
    from xrecon.volume import RESEARCH_NOTICE

    ct = volume.save(output, overwrite=overwrite)
    shell.print(f"{ct}: {volume!r}")
    if labels is not None:
        write_nifti(labels, truth, volume.affine, description=RESEARCH_NOTICE, overwrite=overwrite)
        shell.print(f"{labels}: labels")
    return {"ct": ct, "labels": labels, "shape": volume.shape, "spacing_mm": volume.spacing_mm}


def _population(
    shell: Shell,
    output: Path,
    *,
    count: int,
    seed: int,
    size: int,
    spacing_mm: float,
    pneumothorax_share: float,
    overwrite: bool,
) -> Mapping[str, Any]:
    from xrecon.planting.population import Disease
    from xrecon.planting.population_folder import write_population

    with shell.progress("computing the population", total=count) as advance:
        members = write_population(
            output,
            count,
            size=size,
            spacing_mm=spacing_mm,
            seed=seed,
            disease=Disease(pneumothorax=pneumothorax_share),
            overwrite=overwrite,
            advance=advance,
        )
    ill = sum(bool(member["disease_ml"]) for member in members.values())
    shell.print(f"{output}: {count} artificial chest CTs in ct/ ({ill} ill), true labels in labels/, population.json")
    return {"folder": output, "count": count, "ill": ill, "members": members}
