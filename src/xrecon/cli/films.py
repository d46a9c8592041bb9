"""`xrecon films`: free pleural air on a PA and a lateral film, without a reconstruction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from xrecon.cli.common import OverwriteOption, Shell, example
from xrecon.cli.options import (
    ForceOption,
    GeometryName,
    GeometryOption,
    InvertOption,
    LateralFilmOption,
    MirrorLateralOption,
    MirrorPaOption,
    OutputFolderOption,
    PaFilmOption,
    PixelOption,
)


@example(
    "xrecon films --pa films/pa.tiff --lateral films/lateral.tiff -o findings",
    "xrecon films --pa pa.png --lateral lateral.png -o findings --pixel-mm 0.4 --film-networks film-run",
)
def films(
    shell: Shell,
    pa: PaFilmOption,
    lateral: LateralFilmOption,
    output: OutputFolderOption,
    networks: Annotated[
        str,
        typer.Option(
            "--film-networks", metavar="DIR", help="Folder of `xrecon train films`; default: the shipped ones."
        ),
    ] = "default",
    geometry: GeometryOption = GeometryName.CHEST,
    pixel_mm: PixelOption = None,
    invert: InvertOption = None,
    mirror_pa: MirrorPaOption = False,
    mirror_lateral: MirrorLateralOption = False,
    force: ForceOption = False,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Say whether two films show free pleural air, on which side, and how much. No CT is reconstructed.

    Writes film-findings.json (probability by side, volumes, occupancy with its interval), maps.npz (mm of free air and
    of lung along every ray, by side) and preview.png.
    """
    import numpy as np

    from xrecon.inference.film_answer import film_answer
    from xrecon.io.output.staging import check_outputs, staged_outputs
    from xrecon.json_text import json_text
    from xrecon.radiograph import VIEWS, load_radiograph
    from xrecon.records import RunRecord
    from xrecon.report.films import film_findings_figure
    from xrecon.report.parts.figures import save_figure
    from xrecon.volume import RESEARCH_NOTICE

    names = ["film-findings.json", "maps.npz", "preview.png"]
    check_outputs(output, names, overwrite=overwrite)
    paths = (pa, lateral)
    pair = [
        load_radiograph(path, view, geometry=geometry.value, pixel_mm=pixel_mm, invert=invert, mirror=mirror)
        for path, view, mirror in zip(paths, VIEWS, (mirror_pa, mirror_lateral), strict=True)
    ]
    for path, film in zip(paths, pair, strict=True):
        shell.file_notes(path, film.notes)
    record = RunRecord.of_files(
        "xrecon films",
        seed=0,
        files={"pa": pa, "lateral": lateral},
        settings={
            "geometry": geometry.value, "pixel_mm": pixel_mm, "invert": invert, "mirror_pa": mirror_pa,
            "mirror_lateral": mirror_lateral, "force": force,
        },
    ).to_dict()  # fmt: skip
    with shell.progress("looking for free air"):
        answer = film_answer(pair[0], pair[1], networks=networks, force=force)
    for note in answer.notes:
        shell.note(note)
    summary = {**record, **answer.to_dict()}
    with staged_outputs(output, names, overwrite=overwrite) as stage:
        findings = answer.findings
        np.savez_compressed(
            stage / "maps.npz",
            notice=np.array(RESEARCH_NOTICE),
            views=np.array(findings.views),
            air_probability=findings.air_probability.astype(np.float16),
            air_mm=findings.air_mm.astype(np.float16),
            lung_mm=findings.lung_mm.astype(np.float16),
        )
        save_figure(film_findings_figure(answer.films, findings, answer.assessment), stage / "preview.png")
        (stage / "film-findings.json").write_text(json_text(summary) + "\n", encoding="utf-8")
    shell.print(answer.assessment.statement)
    for name, side in answer.assessment.sides.items():
        shell.print(f"{name}: {side.air_ml:.0f} mL of free air, {side.occupancy:.1f} % of the side")
    return {**summary, "files": [output / name for name in names]}
