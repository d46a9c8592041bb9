"""`xrecon plant`: a pneumothorax in a healthy chest CT, with its true labels."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from xrecon.cli.common import OverwriteOption, SeedOption, Shell, example
from xrecon.json_text import json_text
from xrecon.planting.pattern import MECHANISMS, PATTERN_NAMES


class PlantSide(str, Enum):
    """The patient's side."""

    RIGHT = "right"
    LEFT = "left"


Pattern = Enum("Pattern", [(name.upper(), name) for name in PATTERN_NAMES], type=str)  # type: ignore[misc]
"""Where the air collects: every entry of the table `xrecon.planting.pattern.PATTERNS`."""
Mechanism = Enum("Mechanism", [(name.upper(), name) for name in MECHANISMS], type=str)  # type: ignore[misc]
"""How the air gets its shape."""


@example(
    "xrecon plant ct.nii.gz --side right --occupancy 0.25 -o planted",
    "xrecon plant ct.nii.gz --side left --occupancy 0.6 --pattern upright --tension 1 --effusion-ml 200 -o planted",
)
def plant(
    shell: Shell,
    ct: Annotated[Path, typer.Argument(metavar="CT", help="Healthy chest CT: NIfTI, DICOM folder or zip, MHA, NRRD.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write to; made if absent.")],
    side: Annotated[PlantSide, typer.Option("--side", help="The patient's side.")] = PlantSide.RIGHT,
    occupancy: Annotated[
        float,
        typer.Option("--occupancy", help="Share of that side that the air fills, air / (air + lung), 0.01 to 0.90."),
    ] = 0.25,
    pattern: Annotated[Pattern, typer.Option("--pattern", help="Place where the air collects.")] = Pattern(
        PATTERN_NAMES[0]
    ),
    tension: Annotated[
        float, typer.Option("--tension", help="Shift of the mediastinum, from 0 (none) to 1 (20 mm).")
    ] = 0.0,
    effusion_ml: Annotated[
        float, typer.Option("--effusion-ml", help="Volume of pleural fluid with a flat level, mL.")
    ] = 0.0,
    pleura_mm: Annotated[
        float, typer.Option("--pleura-mm", help="Thickness of the pleural line between lung and air, 0.1 to 3 mm.")
    ] = 0.9,
    mechanism: Annotated[
        Mechanism,
        typer.Option(
            "--mechanism", help="Collapse of the lung in a smooth flow, or offset of its surface from the wall."
        ),
    ] = Mechanism(MECHANISMS[0]),
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Plant a pneumothorax in a healthy chest CT, and write the CT, its true labels and its measures.

    Writes ct.nii.gz, labels.nii.gz (1 right lung, 2 left lung, 3 free air) and truth.json. The lung collapses smoothly
    towards its root and keeps its mass; the pocket has the scan's own noise. Research only.
    """
    from xrecon.anatomy.orientation import with_orientation_notes
    from xrecon.errors import OutputExistsError
    from xrecon.io.output.atomic import write_text_atomic
    from xrecon.planting.pneumothorax import plant_pneumothorax
    from xrecon.volume import load_ct

    files = {name: output / name for name in ("ct.nii.gz", "labels.nii.gz", "truth.json")}
    for path in files.values():  # before the work, not after
        if path.exists() and not overwrite:
            raise OutputExistsError(f"{path} exists already; choose another folder or give --overwrite")
    with shell.progress("planting"):
        loaded = load_ct(ct)
        shell.file_notes(ct, loaded.notes)
        sick, truth = plant_pneumothorax(
            with_orientation_notes(loaded, ct),
            side=side.value,
            occupancy=occupancy,
            seed=seed,
            pattern=pattern.value,
            tension=tension,
            effusion_ml=effusion_ml,
            pleura_mm=pleura_mm,
            mechanism=mechanism.value,
        )
        sick.save(files["ct.nii.gz"], overwrite=overwrite)
        truth.save(files["labels.nii.gz"], overwrite=overwrite)
        write_text_atomic(files["truth.json"], json_text(truth.to_dict()) + "\n", overwrite=overwrite)
    air_ml, of_side = truth.volumes_ml.air, truth.occupancy.of(side.value)
    shell.print(f"{output}: {side.value} pneumothorax, {air_ml:.0f} mL of air, {of_side:.1%} of its side")
    shell.print(f"{truth.occupancy.whole_chest:.1%} of the whole chest; largest depth {truth.max_depth_mm:.0f} mm")
    return {"files": dict(files), "findings": truth.to_dict()}
