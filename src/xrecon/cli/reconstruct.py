"""`xrecon reconstruct`: a CT from a PA and a lateral film."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xrecon.cli.common import OverwriteOption, SeedOption, Shell, example
from xrecon.cli.options import (
    MODEL_HELP,
    AssetsOption,
    BurnInOption,
    DeviceOption,
    DicomChoice,
    DicomOption,
    FilmNetworksOption,
    ForceOption,
    GeometryName,
    GeometryOption,
    InvertOption,
    KeepIdentityOption,
    LateralFilmOption,
    MirrorLateralOption,
    MirrorPaOption,
    OutputFolderOption,
    PaFilmOption,
    PixelOption,
    SizeOption,
    SplitOption,
    chosen_cases,
    dicom_choice,
)
from xrecon.inference.device import usable_device
from xrecon.inference.models import DEFAULT_MODEL
from xrecon.json_text import json_text

if TYPE_CHECKING:
    from xrecon.dicom_output.study import StudyContext
    from xrecon.volume import Volume


class PrecisionName(str, Enum):
    """`xrecon.models.precision.PRECISIONS` for the command line."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    OPENVINO = "openvino"


@example(
    "xrecon reconstruct --pa films/pa.tiff --lateral films/lateral.tiff -o out --report",
    "xrecon reconstruct --pa pa.png --lateral lateral.png -o out --pixel-mm 0.4 --mirror-lateral",
)
def reconstruct(
    shell: Shell,
    pa: PaFilmOption,
    lateral: LateralFilmOption,
    output: OutputFolderOption,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="NAME|DIR",
            help=f"{MODEL_HELP}. deform+bank needs --bank.",
            show_default=DEFAULT_MODEL,
        ),
    ] = "default",
    size: SizeOption = 224,
    geometry: GeometryOption = GeometryName.CHEST,
    pixel_mm: PixelOption = None,
    invert: InvertOption = None,
    mirror_pa: MirrorPaOption = False,
    mirror_lateral: MirrorLateralOption = False,
    force: ForceOption = False,
    refine: Annotated[
        bool, typer.Option("--refine/--no-refine", help="End with a sweep that matches the films more closely.")
    ] = True,
    bank: Annotated[
        Path | None,
        typer.Option(
            "--bank",
            metavar="FOLDER",
            help="Folder of CTs of other patients, each of which is fitted to the films, too (deform+bank).",
        ),
    ] = None,
    split: SplitOption = None,
    assets: AssetsOption = None,
    film_networks: FilmNetworksOption = None,
    report: Annotated[bool, typer.Option("--report", help="Also write report.html.")] = False,
    dicom: DicomOption = False,
    keep_identity: KeepIdentityOption = False,
    burn_in: BurnInOption = False,
    device: DeviceOption = "cpu",
    precision: Annotated[
        PrecisionName,
        typer.Option("--precision", help="Arithmetic of a network; docs/networks.md lists time and error."),
    ] = PrecisionName.FLOAT32,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Reconstruct a synthetic chest CT from two films.

    Writes ct.nii.gz (HU, true voxel size), preview.png (films beside re-projections, three planes) and
    reconstruction.json (model, geometry, residuals, assumptions). What the films do not fix comes from the prior.
    With --dicom also the CT as a series and the preview as a secondary capture.
    """
    from xrecon.errors import InputError
    from xrecon.inference.bank_files import bank_files
    from xrecon.inference.models import find_model
    from xrecon.inference.reconstruct import reconstruct as run
    from xrecon.io.output.staging import check_outputs, staged_outputs
    from xrecon.radiograph import VIEWS, load_radiograph
    from xrecon.records import RunRecord
    from xrecon.report.parts.figures import reconstruction_preview, save_figure
    from xrecon.report.parts.page import write_report
    from xrecon.report.reconstruction import render_report

    names = ["ct.nii.gz", "preview.png", "reconstruction.json", *(["report.html"] if report else [])]
    choice = dicom_choice(dicom, keep_identity=keep_identity, burn_in=burn_in, segments=False)
    check_outputs(output, names, overwrite=overwrite, subfolder=choice.subfolder)
    if split is not None and bank is None:
        raise InputError(f"--split {split} chooses the train cases of a bank: give --bank FOLDER, or leave it out")
    find_model(model, has_bank=bank is not None)  # a model that has no use for the bank is refused before it is read
    films = [
        load_radiograph(path, view, geometry=geometry.value, pixel_mm=pixel_mm, invert=invert, mirror=mirror)
        for path, view, mirror in zip((pa, lateral), VIEWS, (mirror_pa, mirror_lateral), strict=True)
    ]
    for path, film in zip((pa, lateral), films, strict=True):
        shell.file_notes(path, film.notes)
    usable_device(device)
    others = None if bank is None else bank_files(chosen_cases(bank, split), (pa, lateral))
    for name in others.left_out if others else ():
        shell.note(f"{name} is left out of the bank: the films were simulated from it")
    record = RunRecord.of_files(
        "xrecon reconstruct",
        seed=seed,
        files={"pa": pa, "lateral": lateral, **dict(others.cases if others else ())},
        settings={
            "geometry": geometry.value, "pixel_mm": pixel_mm, "invert": invert, "mirror_pa": mirror_pa,
            "mirror_lateral": mirror_lateral, "force": force, "refine": refine, "precision": precision.value,
            "film_networks": film_networks if film_networks in (None, "none", "default") else "a folder",
        },
    ).to_dict()  # fmt: skip
    study = _dicom_study(choice, (pa, lateral), record)
    with shell.progress("reconstructing"):
        result = run(
            films[0],
            films[1],
            model=model,
            size=size,
            bank=others.load() if others else None,
            refine=refine,
            assets=assets,
            device=device,
            precision=precision.value,
            seed=seed,
            force=force,
            film_networks=film_networks,
            progress=shell.note,
        )
    summary = {**record, **result.summary()}
    with staged_outputs(output, names, overwrite=overwrite, subfolder=choice.subfolder) as stage:
        result.volume.save(stage / "ct.nii.gz")
        save_figure(reconstruction_preview(result), stage / "preview.png")
        (stage / "reconstruction.json").write_text(json_text(summary) + "\n", encoding="utf-8")
        if report:
            page = render_report(title="CT from two films", reconstruction=result, environment=record["environment"])
            write_report(stage / "report.html", page)
        if study is not None:
            _write_dicom(stage, result.volume, study, choice)
    shell.print(f"{output / 'ct.nii.gz'}: {result.volume!r}")
    for view, residual in result.residual.items():
        shell.print(f"{view} film: residual {residual.before:.1%} before, {residual.after:.1%} after the fit")
    return {**summary, "files": [output / name for name in names], **choice.summary(output)}


def _dicom_study(choice: DicomChoice, films: tuple[Path, Path], record: Mapping[str, Any]) -> StudyContext | None:
    """The study that the DICOM files belong to; None where none are written. Raises InputError."""
    if not choice.subfolder:
        return None
    from xrecon.dicom_output.origin import films_origin
    from xrecon.dicom_output.study import joint_digest, study_context

    origin = films_origin(films, same_patient=choice.keep_identity)
    digest = joint_digest([record["inputs"][view]["sha256"] for view in ("pa", "lateral")])
    return study_context(origin, digest=digest, keep_identity=choice.keep_identity)


def _write_dicom(stage: Path, volume: Volume, study: StudyContext, choice: DicomChoice) -> None:
    from xrecon.dicom_output.capture import picture_pixels
    from xrecon.dicom_output.result import dicom_result

    preview = picture_pixels(stage / "preview.png")
    result = dicom_result(volume, study, description="CT from two films", preview=preview, burn_in=choice.burn_in)
    result.write(stage / choice.subfolder)
