"""`xrecon plant`: a pneumothorax in a healthy chest CT, with its true labels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xrecon.cli.common import OverwriteOption, SeedOption, Shell, example
from xrecon.cli.options import BurnInOption, DicomOption, dicom_choice
from xrecon.json_text import json_text
from xrecon.planting.pattern import MECHANISMS, PATTERN_NAMES

if TYPE_CHECKING:
    from xrecon.planting.truth import Truth
    from xrecon.volume import Volume

_CT, _LABELS, _TRUTH = _NAMES = ("ct.nii.gz", "labels.nii.gz", "truth.json")


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
    dicom: DicomOption = False,
    burn_in: BurnInOption = False,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Plant a pneumothorax in a healthy chest CT, and write the CT, its true labels and its measures.

    Writes ct.nii.gz, labels.nii.gz (1 right lung, 2 left lung, 3 free air) and truth.json. The lung collapses smoothly
    towards its root and keeps its mass; the pocket has the scan's own noise. Research only. With --dicom also as CT
    series, segmentation and structured report, always under a pseudonym: a planted disease bears no patient's name.
    """
    from xrecon.anatomy.orientation import with_orientation_notes
    from xrecon.io.output.staging import check_outputs, staged_outputs
    from xrecon.planting.pneumothorax import plant_pneumothorax
    from xrecon.volume import load_ct

    choice = dicom_choice(dicom, keep_identity=False, burn_in=burn_in, segments=True)
    check_outputs(output, _NAMES, overwrite=overwrite, subfolder=choice.subfolder)  # before the work, not after
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
        with staged_outputs(output, _NAMES, overwrite=overwrite, subfolder=choice.subfolder) as stage:
            sick.save(stage / _CT)
            truth.save(stage / _LABELS)
            (stage / _TRUTH).write_text(json_text(truth.to_dict()) + "\n", encoding="utf-8")
            if choice.subfolder:
                _write_dicom(stage / choice.subfolder, sick, truth, ct, burn_in=burn_in)
    air_ml, of_side = truth.volumes_ml.air, truth.occupancy.of(side.value)
    shell.print(f"{output}: {side.value} pneumothorax, {air_ml:.0f} mL of air, {of_side:.1%} of its side")
    shell.print(f"{truth.occupancy.whole_chest:.1%} of the whole chest; largest depth {truth.max_depth_mm:.0f} mm")
    files = {name: output / name for name in _NAMES}
    return {"files": files, "findings": truth.to_dict(), **choice.summary(output)}


def _write_dicom(folder: Path, sick: Volume, truth: Truth, source: Path, *, burn_in: bool) -> None:
    from xrecon.data.ct_folder import content_sha256
    from xrecon.dicom_output.origin import ct_origin
    from xrecon.dicom_output.result import Measured, dicom_result
    from xrecon.dicom_output.study import joint_digest, study_context
    from xrecon.quantify.findings import build_findings

    digest = joint_digest([content_sha256(source), hashlib.sha256(json_text(truth.to_dict()).encode()).hexdigest()])
    study = study_context(ct_origin(source), digest=digest)
    measured = Measured(truth, build_findings(truth), algorithm="xrecon plant (planted)")
    dicom_result(sick, study, description="Planted air", measured=measured, burn_in=burn_in).write(folder)
