"""`xrecon prepare`: a training data set from anybody's chest CTs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xrecon.cli.common import OverwriteOption, SeedOption, Shell, example
from xrecon.cli.options import ClusterOption, LungModelOption, ProcessesOption

if TYPE_CHECKING:
    from xrecon.preparation.run import PrepareReport


_SHOWN_CASES = 20
"""Cases whose warnings are printed; the page qc.html shows all."""


class FilmGeometryName(str, Enum):
    """Presets whose films show the whole frame."""

    CHEST = "chest"
    X2CT = "x2ct"


class FilmSource(str, Enum):
    """Where the films come from."""

    SIMULATE = "simulate"
    GIVEN = "given"


class FrameCentre(str, Enum):
    """What lies at the isocentre."""

    LUNGS = "lungs"
    VOLUME = "volume"


@example(
    "xrecon prepare cts -o chests-96 --size 96 --folds 5",
    "xrecon prepare /archive/dicom more.zip -o chests-128 --size 128 --geometry chest --workers 8",
    "xrecon prepare s3://bucket/cts -o s3://bucket/chests-224 --size 224 --scheduler tcp://10.0.0.5:8786 --salt SECRET",
)
def prepare(
    shell: Shell,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", help="Files, folders or URLs of CTs: NIfTI, DICOM, zip, MHA, NRRD, X2CT h5."
        ),
    ],
    output: Annotated[str, typer.Option("--output", "-o", metavar="DATASET", help="Folder or URL to write to.")],
    size: Annotated[int, typer.Option("--size", min=16, max=512, help="Voxels and pixels per edge.")] = 96,
    geometry: Annotated[
        FilmGeometryName, typer.Option("--geometry", help="Preset of the distances of the simulated films.")
    ] = FilmGeometryName.CHEST,
    split: Annotated[
        Path | None,
        typer.Option(
            "--split",
            metavar="FILE",
            help="YAML with the lists train, test and aux, of CT files without suffix, DICOM folders or patient IDs.",
        ),
    ] = None,
    test_share: Annotated[
        float,
        typer.Option(
            "--test-share", min=0.0, max=0.9, help="Share of the patients in the test subset, without --split."
        ),
    ] = 0.2,
    folds: Annotated[
        int, typer.Option("--folds", min=0, max=50, help="Number of folds of the training patients; 0: none.")
    ] = 0,
    seed: SeedOption = 0,
    workers: ProcessesOption = None,
    scheduler: ClusterOption = None,
    salt: Annotated[
        str | None,
        typer.Option(
            "--salt",
            envvar="XRECON_SALT",
            help="Secret of the pseudonyms; default: a random one, kept in the data set.",
        ),
    ] = None,
    keep_names: Annotated[
        bool,
        typer.Option("--keep-names", help="Name the cases after their files, whose names must be pseudonyms already."),
    ] = False,
    patient_from: Annotated[
        str | None,
        typer.Option(
            "--patient-from",
            metavar="REGEX",
            help="Regular expression whose first group is the patient in a file's path.",
        ),
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(
            "--names",
            metavar="FILE",
            help="Also write a CSV of pseudonyms and files; keep it in a safe place outside the data set.",
        ),
    ] = None,
    films: Annotated[
        FilmSource,
        typer.Option(
            "--films", help="Simulate the films from the CT, or take the given PA and lateral film beside each CT."
        ),
    ] = FilmSource.SIMULATE,
    centre: Annotated[
        FrameCentre,
        typer.Option("--centre", help="What lies in the middle of the frame and of the films: lungs or file's grid."),
    ] = FrameCentre.LUNGS,
    lung_model: LungModelOption = "auto",
    every_series: Annotated[
        bool, typer.Option("--every-series", help="Take all axial CT series of a DICOM study, not only the largest.")
    ] = False,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Take scans that miss a part of the lungs, with a warning.")
    ] = False,
    source: Annotated[str, typer.Option("--source", help="Origin of the CTs, for model cards.")] = "",
    licence: Annotated[str, typer.Option("--licence", help="Licence of the CTs, for model cards.")] = "",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with an error if any CT was refused.")] = False,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Turn CTs into a training data set: checked, centred, resampled, with films and lung masks, split by patient.

    Writes one safetensors file per case, dataset.json, and the page qc.html, which should be looked at. Run it again to
    go on after an interruption or to add inputs; finished cases stay. No identifier of a patient is stored.
    """
    from xrecon.config import load_config
    from xrecon.data.split import Split
    from xrecon.errors import InputError
    from xrecon.preparation.request import PrepareRequest
    from xrecon.preparation.run import prepare_dataset
    from xrecon.preparation.settings import PrepareSettings

    settings = PrepareSettings(
        size=size,
        geometry=geometry.value,
        lung_model=lung_model,
        centre=centre.value,
        films=films.value,
        allow_partial=allow_partial,
    )
    request = PrepareRequest(
        inputs=tuple(inputs),
        output=output,
        settings=settings,
        split=None if split is None else load_config(Split, split),
        test_share=test_share,
        folds=folds,
        seed=seed,
        salt=salt,
        keep_names=keep_names,
        patient_pattern=patient_from,
        every_series=every_series,
        workers=workers,
        scheduler=scheduler,
        source=source,
        licence=licence,
        names_table=names,
        overwrite=overwrite,
    )
    with shell.progress("preparing", total=100) as advance:
        report = prepare_dataset(request, note=shell.note, advance=_percent(advance))
    _write_quality_page(output, report)
    _print_report(shell, output, report)
    if strict and report.refused:
        raise InputError(
            f"--strict: {len(report.refused)} inputs were refused (the data set holds the others): see qc.html"
        )
    return {
        "dataset": output,
        "cases": {case.name: case.subset for case in report.manifest.cases},
        "warnings": {case.name: case.warnings for case in report.with_warnings},
        "rejected": [item.model_dump() for item in report.manifest.rejected],
        "prepared": report.prepared,
        "reused": report.reused,
        "seconds": round(report.seconds, 2),
    }


def _write_quality_page(output: str, report: PrepareReport) -> None:
    """Write qc.html into the data set: every case with its pictures, every refusal with its reason."""
    from xrecon.preparation.run import thumbnails
    from xrecon.preparation.storage import Store
    from xrecon.report.quality import render_quality_page

    store = Store(output)
    store.write("qc.html", render_quality_page(report.manifest, thumbnails(store, report.manifest)).encode())


def _print_report(shell: Shell, output: str, report: PrepareReport) -> None:
    rejected = report.manifest.rejected
    counts = ", ".join(f"{number} {subset}" for subset, number in report.counts().items())
    shell.print(
        f"{output}: {len(report.manifest.cases)} cases ({counts}), "
        f"{report.reused} done before, {report.prepared} now in {report.seconds:.0f} s; {len(report.with_warnings)} "
        f"with warnings, {len(rejected)} inputs refused or left out: look at qc.html"
    )
    for item in rejected:
        shell.print(f"  not used: {item.source}: {item.reason}")
    for case in report.with_warnings[:_SHOWN_CASES]:
        for text in case.warnings:
            shell.print(f"  warning: {case.name}: {text}")
    hidden = len(report.with_warnings) - _SHOWN_CASES
    if hidden > 0:
        shell.print(f"  and {hidden} more cases with warnings: see qc.html")


def _percent(advance: Callable[[int], None]) -> Callable[[int, int], None]:
    """Turns (cases done, cases in all) into the steps of a bar of 100."""
    position = 0

    def to_position(done: int, total: int) -> None:
        nonlocal position
        percent = round(100 * done / max(total, 1))
        advance(percent - position)
        position = percent

    return to_position
