"""`xrecon phantom`: an artificial chest CT as a file, so that everything can be tried without patient data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from xrecon.cli.common import OverwriteOption, SeedOption, Shell, example


class Side(str, Enum):
    """The patient's side of a pneumothorax."""

    RIGHT = "right"
    LEFT = "left"


@example(
    "xrecon phantom -o phantom.nii.gz --size 128",
    "xrecon phantom -o sick.nii.gz --pneumothorax-side right --pneumothorax-ml 600 --labels truth.nii.gz",
)
def phantom(
    shell: Shell,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="CT to write: .nii or .nii.gz.")],
    size: Annotated[int, typer.Option("--size", min=32, max=512, help="Voxels per edge.")] = 128,
    spacing_mm: Annotated[
        float | None,
        typer.Option("--spacing-mm", min=0.5, max=12.0, help="Voxel pitch, mm; default 384 mm / size."),
    ] = None,
    pneumothorax_side: Annotated[
        Side | None, typer.Option("--pneumothorax-side", help="The patient's side with free pleural air.")
    ] = None,
    pneumothorax_ml: Annotated[
        float, typer.Option("--pneumothorax-ml", min=0.0, help="Volume of the free pleural air, mL.")
    ] = 0.0,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="FILE", help="Also write the true labels on the same grid."),
    ] = None,
    random: Annotated[
        bool, typer.Option("--random", help="A random plausible adult, drawn by --seed, not the standard one.")
    ] = False,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Write an artificial chest CT with lungs, heart, bones and, on request, a pneumothorax.

    The labels are 1 right lung, 2 left lung, 3 free pleural air.
    """
    import numpy as np

    from xrecon.data.phantom import ThoraxParameters, thorax_phantom
    from xrecon.errors import InputError, OutputExistsError
    from xrecon.geometry import FRAME_MM
    from xrecon.io.nifti import write_nifti
    from xrecon.volume import RESEARCH_NOTICE

    if labels is not None and labels.exists() and not overwrite:  # before the CT is written, not after
        raise OutputExistsError(f"{labels} exists already; choose another name or give --overwrite")
    if labels is not None and labels.resolve() == output.resolve():
        raise InputError(f"{output}: the CT and the labels need two different files")
    side = cast("Literal['right', 'left'] | None", pneumothorax_side and pneumothorax_side.value)
    habitus = ThoraxParameters.sample(np.random.default_rng(seed)) if random else ThoraxParameters(seed=seed)
    parameters = replace(habitus, pneumothorax_side=side, pneumothorax_ml=pneumothorax_ml)
    spacing = FRAME_MM / size if spacing_mm is None else spacing_mm
    with shell.progress("computing the phantom"):
        made = thorax_phantom(size=size, spacing_mm=spacing, parameters=parameters)
        ct = made.volume.save(output, overwrite=overwrite)
        if labels is not None:
            write_nifti(labels, made.labels, made.volume.affine, description=RESEARCH_NOTICE, overwrite=overwrite)
    shell.print(f"{ct}: {made.volume!r}")
    if labels is not None:
        shell.print(f"{labels}: labels")
    return {
        "ct": ct,
        "labels": labels,
        "shape": made.volume.shape,
        "spacing_mm": made.volume.spacing_mm,
        "parameters": asdict(parameters),
    }
