"""`xrecon prepare`: a training data set from anybody's chest CTs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xrecon.cli.common import OverwriteOption, SeedOption, Shell, example

if TYPE_CHECKING:
    from xrecon.preparation.sources import Source


class FilmGeometryName(str, Enum):
    """Presets whose films show the whole frame."""

    CHEST = "chest"
    X2CT = "x2ct"


class Films(str, Enum):
    """Where the films come from."""

    SIMULATE = "simulate"
    GIVEN = "given"


class Centre(str, Enum):
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
        typer.Argument(metavar="INPUT...", help="Files, folders or URLs: NIfTI, DICOM, zip, MHA, NRRD, X2CT h5."),
    ],
    output: Annotated[str, typer.Option("--output", "-o", metavar="DATASET", help="Folder or URL to write to.")],
    size: Annotated[int, typer.Option("--size", min=16, max=512, help="Voxels and pixels per edge.")] = 96,
    geometry: Annotated[
        FilmGeometryName, typer.Option("--geometry", help="Distances of the simulated films.")
    ] = FilmGeometryName.CHEST,
    split: Annotated[
        Path | None,
        typer.Option("--split", metavar="FILE", help="YAML with the lists train, test and aux of names or folders."),
    ] = None,
    test_share: Annotated[
        float, typer.Option("--test-share", min=0.0, max=0.9, help="Share of the patients that test, without --split.")
    ] = 0.2,
    folds: Annotated[int, typer.Option("--folds", min=0, max=50, help="Folds of the training patients; 0: none.")] = 0,
    seed: SeedOption = 0,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes here; default: by cores and memory.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", metavar="ADDRESS", help="Dask scheduler to compute on instead.")
    ] = None,
    salt: Annotated[
        str | None,
        typer.Option("--salt", envvar="XRECON_SALT", help="Secret of the pseudonyms; default: made and kept here."),
    ] = None,
    keep_names: Annotated[
        bool, typer.Option("--keep-names", help="Call cases like their files: the names are pseudonyms already.")
    ] = False,
    patient_from: Annotated[
        str | None,
        typer.Option("--patient-from", metavar="REGEX", help="Finds the patient in a file's path; its first group."),
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(
            "--names", metavar="FILE", help="Also write a CSV of pseudonyms and files, for your own safe place."
        ),
    ] = None,
    films: Annotated[
        Films, typer.Option("--films", help="given: your own PA and lateral film beside each CT.")
    ] = Films.SIMULATE,
    centre: Annotated[
        Centre, typer.Option("--centre", help="What lies in the middle of frame and films.")
    ] = Centre.LUNGS,
    lung_model: Annotated[str, typer.Option("--lung-model", metavar="NAME", help="Who finds the lungs.")] = "auto",
    every_series: Annotated[
        bool, typer.Option("--every-series", help="All axial CT series of a DICOM study, not only the largest.")
    ] = False,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Take scans that miss a part of the lungs, with a warning.")
    ] = False,
    source: Annotated[str, typer.Option("--source", help="Where the CTs come from, for model cards.")] = "",
    licence: Annotated[str, typer.Option("--licence", help="Their licence, for model cards.")] = "",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with an error if any CT was refused.")] = False,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Turn CTs into a training data set: checked, centred, resampled, with films and lung masks, split by patient.

    Writes one safetensors file per case, dataset.json and qc.html (look at it). Run it again to go on after an
    interruption or to add inputs; what is done stays. No identifier of a patient is stored.
    """
    from xrecon.config import load_config
    from xrecon.data.split import Split
    from xrecon.errors import InputError
    from xrecon.preparation.request import Request
    from xrecon.preparation.run import names_table, prepare_dataset, thumbnails
    from xrecon.preparation.settings import PrepareSettings
    from xrecon.preparation.storage import Store
    from xrecon.report.quality import render_quality_page

    folder = Store(output).folder
    if names is not None and folder is not None and folder.resolve() in names.resolve().parents:
        raise InputError(f"{names}: the table of names must not lie inside the data set; choose another place")
    settings = PrepareSettings(
        size=size,
        geometry=geometry.value,
        lung_model=lung_model,
        centre=centre.value,
        films=films.value,
        allow_partial=allow_partial,
    )
    request = Request(
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
        overwrite=overwrite,
    )

    def keep_names_table(sources: Sequence[Source]) -> None:
        if names is not None:
            _write_names(names, names_table(sources), overwrite=overwrite)

    with shell.progress("preparing", total=100) as advance:
        report = prepare_dataset(request, note=shell.note, advance=_percent(advance), found_sources=keep_names_table)
    store = Store(output)
    store.write("qc.html", render_quality_page(report.manifest, thumbnails(store, report.manifest)).encode())
    manifest = report.manifest
    counts = {name: len(manifest.of_subset(name)) for name in ("train", "test", "aux")}
    warned = sum(bool(case.warnings) for case in manifest.cases)
    shell.print(
        f"{output}: {len(manifest.cases)} cases ({', '.join(f'{n} {name}' for name, n in counts.items() if n)}), "
        f"{report.reused} done before, {report.prepared} now in {report.seconds:.0f} s; {warned} with warnings, "
        f"{len(manifest.rejected)} inputs refused or left out: look at qc.html"
    )
    for one in manifest.rejected:
        shell.print(f"  not used: {one.source}: {one.reason}")
    refused = [one for one in manifest.rejected if not one.source.endswith("other files")]
    if strict and refused:
        raise InputError(f"--strict: {len(refused)} inputs were refused (the data set holds the others): see qc.html")
    return {
        "dataset": output,
        "cases": {case.name: case.subset for case in manifest.cases},
        "warnings": {case.name: case.warnings for case in manifest.cases if case.warnings},
        "rejected": [one.model_dump() for one in manifest.rejected],
        "prepared": report.prepared,
        "reused": report.reused,
        "seconds": round(report.seconds, 2),
    }


def _percent(advance: Callable[[int], None]) -> Callable[[int, int], None]:
    """A bar of 100 steps from (done, total)."""
    shown = 0

    def tell(done: int, total: int) -> None:
        nonlocal shown
        now = round(100 * done / max(total, 1))
        advance(now - shown)
        shown = now

    return tell


def _write_names(path: Path, table: str, *, overwrite: bool) -> None:
    from xrecon.io.output.atomic import write_text_atomic

    write_text_atomic(path, table, overwrite=overwrite)
    path.chmod(0o600)
