"""`xrecon segment`: find and measure the lungs and the free pleural air of a chest CT."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xrecon.cli.common import OverwriteOption, Shell, example
from xrecon.cli.options import (
    BurnInOption,
    DicomChoice,
    DicomOption,
    KeepIdentityOption,
    LungModelOption,
    OutputFolderOption,
    dicom_choice,
)

if TYPE_CHECKING:
    from xrecon.dicom_output.origin import Origin
    from xrecon.dicom_output.study import StudyContext
    from xrecon.quantify.findings import Findings
    from xrecon.segmentation import Segmentation
    from xrecon.volume import Volume

_NAMES = ("labels.nii.gz", "air_side.nii.gz", "findings.json", "preview.png", "report.html")
_STEPS = 100


@example("xrecon segment ct.nii.gz -o out", "xrecon segment dicom_folder -o out --series 3 --overwrite")
def segment(
    shell: Shell,
    ct: Annotated[Path, typer.Argument(metavar="CT", help="Chest CT: NIfTI, DICOM folder or zip, MHA, NRRD.")],
    output: OutputFolderOption,
    lung_model: LungModelOption = "auto",
    series: Annotated[
        str | None,
        typer.Option(
            "--series",
            help="DICOM series: number, UID (or its end), description, #K or NUMBER@ACQUISITION; default: the best.",
        ),
    ] = None,
    dicom: DicomOption = False,
    keep_identity: KeepIdentityOption = False,
    burn_in: BurnInOption = False,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Find and measure a pneumothorax in a chest CT, measured or reconstructed.

    Writes labels.nii.gz (1 right lung, 2 left lung, 3 free pleural air), air_side.nii.gz (1 right, 2 left),
    findings.json (occupancy, volumes, depths, indices with their formulas), preview.png and report.html. The labels
    lie on the axes of the input, voxel for voxel; for DICOM on column, row, and slice by position. With --dicom also
    the labels as a segmentation, the measures as a structured report, the preview, and the CT that they refer to; with
    --keep-identity they refer to the slices of the DICOM input.
    """
    from xrecon.io.output.staging import check_outputs

    choice = dicom_choice(dicom, keep_identity=keep_identity, burn_in=burn_in, segments=True)
    check_outputs(output, _NAMES, overwrite=overwrite, subfolder=choice.subfolder)
    volume = _load_ct(ct, series)
    record = _record(ct, lung_model, series)
    target = _dicom_target(choice, ct, series, record)
    from xrecon.ptxseg.pipeline import segment as find_pneumothorax

    with shell.progress("segmenting", total=_STEPS) as advance:
        segmentation = find_pneumothorax(volume, lung_model=lung_model, progress=_step_by_share(advance))
    findings = _write(shell, output, volume, segmentation, record, target, overwrite=overwrite)
    _print_findings(shell, findings)
    files = [output / name for name in _NAMES]
    return {**findings.model_dump(mode="json", by_alias=True), "files": files, **choice.summary(output)}


def _load_ct(path: Path, series: str | None) -> Volume:
    """The CT. Unpacking it leaves the interpreter free, so that the rest of the package loads meanwhile."""
    from xrecon.volume import load_ct

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(load_ct, path, series=series)
        for module in ("ptxseg.pipeline", "quantify.findings", "report.findings", "report.parts.findings_figures"):
            importlib.import_module(f"xrecon.{module}")
        return reading.result()


def _step_by_share(advance: Callable[[int], None]) -> Callable[[str, float], None]:
    """Turns (step, share of the work that is done) into the steps of a bar."""
    position = 0

    def to_share(_step: str, share: float) -> None:
        nonlocal position
        target = round(share * _STEPS)
        advance(target - position)
        position = target

    return to_share


def _record(ct: Path, lung_model: str, series: str | None) -> dict[str, Any]:
    from xrecon.records import RunRecord

    settings = {"lung_model": lung_model, "series": series}
    return RunRecord.of_files("xrecon segment", seed=None, files={"ct": ct}, settings=settings).to_dict()


@dataclass(frozen=True)
class _DicomTarget:
    """Where the DICOM files go, and the study that they belong to."""

    choice: DicomChoice
    origin: Origin | None
    study: StudyContext


def _dicom_target(choice: DicomChoice, ct: Path, series: str | None, record: Mapping[str, Any]) -> _DicomTarget | None:
    """None where no DICOM is written. Raises InputError where an identity is to be kept and there is none."""
    if not choice.subfolder:
        return None
    from xrecon.dicom_output.origin import ct_origin
    from xrecon.dicom_output.study import study_context

    origin = ct_origin(ct, series=series)
    digest = record["inputs"]["ct"]["sha256"]
    return _DicomTarget(choice, origin, study_context(origin, digest=digest, keep_identity=choice.keep_identity))


def _write_dicom(
    stage: Path, volume: Volume, segmentation: Segmentation, findings: Findings, target: _DicomTarget
) -> tuple[str, ...]:
    """Write the DICOM files; returns what was decided."""
    from xrecon.dicom_output.capture import picture_pixels
    from xrecon.dicom_output.result import Measured, dicom_result

    result = dicom_result(
        volume,
        target.study,
        description="CT from two films" if volume.synthetic else "CT",
        measured=Measured(segmentation, findings),
        preview=picture_pixels(stage / "preview.png"),
        source_slices=() if target.origin is None else target.origin.ct_headers,
        burn_in=target.choice.burn_in,
    )
    result.write(stage / target.choice.subfolder)
    return result.notes


def _write(
    shell: Shell,
    output: Path,
    volume: Volume,
    segmentation: Segmentation,
    record: Mapping[str, Any],
    target: _DicomTarget | None,
    *,
    overwrite: bool,
) -> Findings:
    """Write all files, the images in a thread beside the measuring; returns the measures."""
    from xrecon.io.output.staging import staged_outputs
    from xrecon.quantify.findings import build_findings
    from xrecon.report.findings import render_findings
    from xrecon.report.parts.figures import save_figure
    from xrecon.report.parts.findings_figures import preview_figure
    from xrecon.report.parts.page import write_report

    labels, air_side, findings_json, preview, report = _NAMES
    subfolder = "" if target is None else target.choice.subfolder
    with staged_outputs(output, _NAMES, overwrite=overwrite, subfolder=subfolder) as stage:

        def write_images() -> None:
            save_figure(preview_figure(volume, segmentation), stage / preview)
            segmentation.save_air_side(stage / air_side)
            segmentation.save(stage / labels)

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write_images)
            findings = build_findings(segmentation, provenance=record)
            writing.result()
        (stage / findings_json).write_text(findings.to_json(), encoding="utf-8")
        preview_png = (stage / preview).read_bytes()
        write_report(stage / report, render_findings(volume, segmentation, findings, preview_png=preview_png))
        for note in () if target is None else _write_dicom(stage, volume, segmentation, findings, target):
            shell.note(note)
    return findings


def _print_findings(shell: Shell, findings: Findings) -> None:
    from xrecon.report.findings import headline, mediastinum_in_words, not_counted

    for warning in findings.warnings:
        warnings.warn(warning, stacklevel=2)
    shell.print(f"{headline(findings)} {not_counted(findings)}".rstrip())
    shell.print(mediastinum_in_words(findings.mediastinum))
    shell.print(findings.detection_limit.statement)
    for note in findings.notes:
        shell.note(note)
