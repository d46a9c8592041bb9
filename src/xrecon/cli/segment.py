"""`xrecon segment`: find and measure the lungs and the free pleural air of a chest CT."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xrecon.cli.common import OverwriteOption, Shell, example
from xrecon.cli.options import LungModelOption, OutputFolderOption

if TYPE_CHECKING:
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
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Find and measure a pneumothorax in a chest CT, measured or reconstructed.

    Writes labels.nii.gz (1 right lung, 2 left lung, 3 free pleural air), air_side.nii.gz (1 right, 2 left),
    findings.json (occupancy, volumes, depths, indices with their formulas), preview.png and report.html. The labels
    lie on the axes of the input, voxel for voxel; for DICOM on column, row, and slice by position.
    """
    from xrecon.io.output.staging import check_outputs

    check_outputs(output, _NAMES, overwrite=overwrite)
    volume = _load_ct(ct, series)
    from xrecon.ptxseg.pipeline import segment as find_pneumothorax

    with shell.progress("segmenting", total=_STEPS) as advance:
        segmentation = find_pneumothorax(volume, lung_model=lung_model, progress=_step_by_share(advance))
    findings = _write(output, volume, segmentation, _record(ct, lung_model, series), overwrite=overwrite)
    _print_findings(shell, findings)
    return {**findings.model_dump(mode="json", by_alias=True), "files": [output / name for name in _NAMES]}


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


def _write(
    output: Path, volume: Volume, segmentation: Segmentation, record: Mapping[str, Any], *, overwrite: bool
) -> Findings:
    """Write all files, the images in a thread beside the measuring; returns the measures."""
    from xrecon.io.output.staging import staged_outputs
    from xrecon.quantify.findings import build_findings
    from xrecon.report.findings import render_findings
    from xrecon.report.parts.figures import save_figure
    from xrecon.report.parts.findings_figures import preview_figure
    from xrecon.report.parts.page import write_report

    labels, air_side, findings_json, preview, report = _NAMES
    with staged_outputs(output, _NAMES, overwrite=overwrite) as stage:

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
