"""`xrecon segment`: lungs and free pleural air of a chest CT, measured."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer

from xrecon.cli.common import OverwriteOption, Shell, example
from xrecon.cli.options import OutputFolderOption

_NAMES = ("labels.nii.gz", "air_side.nii.gz", "findings.json", "preview.png", "report.html")
_STEPS = 100


@example("xrecon segment ct.nii.gz -o out", "xrecon segment dicom_folder -o out --series 3 --overwrite")
def segment(
    shell: Shell,
    ct: Annotated[Path, typer.Argument(metavar="CT", help="Chest CT: NIfTI, DICOM folder or zip, MHA, NRRD.")],
    output: OutputFolderOption,
    lung_model: Annotated[
        str, typer.Option("--lung-model", metavar="NAME", help="Who finds the lungs; auto takes the most accurate.")
    ] = "auto",
    series: Annotated[
        str | None, typer.Option("--series", help="DICOM series: UID, number or description; default the largest.")
    ] = None,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Find and measure a pneumothorax in a chest CT, measured or reconstructed.

    Writes labels.nii.gz (1 right lung, 2 left lung, 3 free pleural air), air_side.nii.gz (1 right, 2 left),
    findings.json (occupancy, volumes, depths, indices with their formulas), preview.png and report.html.
    """
    from xrecon.io.nifti import write_nifti
    from xrecon.io.output.staging import check_outputs, staged_outputs
    from xrecon.volume import RESEARCH_NOTICE, load_ct

    check_outputs(output, _NAMES, overwrite=overwrite)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(load_ct, ct, series=series)
        # Unpacking leaves the interpreter free, so that the rest of the package loads meanwhile.
        from xrecon.ptxseg.pipeline import segment as run
        from xrecon.quantify.findings import build_findings
        from xrecon.records import RunRecord
        from xrecon.report.findings import headline, mediastinum_in_words, not_counted, render_findings
        from xrecon.report.parts.figures import save_figure
        from xrecon.report.parts.findings_figures import preview_figure
        from xrecon.report.parts.page import write_report

        volume = reading.result()
    with shell.progress("segmenting", total=_STEPS) as advance:
        done = 0

        def tell(_step: str, share: float) -> None:
            nonlocal done
            now = round(share * _STEPS)
            advance(now - done)
            done = now

        found = run(volume, lung_model=lung_model, progress=tell)
    settings = {"lung_model": lung_model, "series": series}
    record = RunRecord.of_files("xrecon segment", seed=None, files={"ct": ct}, settings=settings).to_dict()
    with staged_outputs(output, _NAMES, overwrite=overwrite) as stage:

        def write_files() -> None:
            save_figure(preview_figure(volume, found), stage / _NAMES[3])
            write_nifti(stage / _NAMES[1], found.air_side, found.affine, description=RESEARCH_NOTICE)
            found.save(stage / _NAMES[0])

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write_files)
            findings = build_findings(found, provenance=record)
            writing.result()
        (stage / _NAMES[2]).write_text(findings.to_json(), encoding="utf-8")
        preview = (stage / _NAMES[3]).read_bytes()
        write_report(stage / _NAMES[4], render_findings(volume, found, findings, preview_png=preview))
    shell.print(f"{headline(findings)} {not_counted(findings)}".rstrip())
    shell.print(mediastinum_in_words(findings.mediastinum))
    shell.print(findings.detection_limit.statement)
    for note in findings.notes:
        shell.note(note)
    return {**findings.model_dump(mode="json", by_alias=True), "files": [output / name for name in _NAMES]}
