"""`xrecon simulate`: the PA and lateral film that the patient of a CT would have had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xrecon.cli.common import OverwriteOption, SeedOption, SetOption, Shell, example
from xrecon.cli.options import DeviceOption, GeometryName, OutputFolderOption, PhysicsName, SimulatedGeometryOption
from xrecon.inference.device import usable_device

if TYPE_CHECKING:
    from xrecon.projector.physics import FilmPhysics
    from xrecon.radiograph import Radiograph

_NAMES = ("pa.tiff", "pa.png", "pa.json", "lateral.tiff", "lateral.png", "lateral.json")


@example(
    "xrecon simulate chest.nii.gz -o films",
    "xrecon simulate dicom-folder -o films --size 512 --geometry x2ct --keep-table",
    "xrecon simulate chest.nii.gz -o films --size 1024 --physics clinical --set beam.kvp=110 --seed 1",
)
def simulate(
    shell: Shell,
    ct: Annotated[Path, typer.Argument(metavar="CT", help="Chest CT: NIfTI, DICOM folder or zip, MHA, NRRD.")],
    output: OutputFolderOption,
    size: Annotated[int, typer.Option("--size", min=32, max=4096, help="Pixels per edge of the detector.")] = 224,
    geometry: SimulatedGeometryOption = GeometryName.CHEST,
    energy_kev: Annotated[
        float | None,
        typer.Option(
            "--energy-kev", min=20.0, max=150.0, help="Effective energy of the beam, keV; default: a chest beam."
        ),
    ] = None,
    keep_table: Annotated[
        bool, typer.Option("--keep-table", help="Also project the table and all else outside the body.")
    ] = False,
    series: Annotated[
        str | None,
        typer.Option(
            "--series",
            help="DICOM series: number, UID (or its end), description, #K or NUMBER@ACQUISITION; default: the best.",
        ),
    ] = None,
    device: DeviceOption = "cpu",
    physics: Annotated[
        PhysicsName,
        typer.Option(
            "--physics",
            help="linear gives line integrals; clinical adds spectrum, scatter, noise, blur and grey values.",
        ),
    ] = PhysicsName.LINEAR,
    overrides: SetOption = None,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Compute the PA and lateral radiograph of a chest CT.

    Each film is written to three files: pa.tiff holds line integrals as 32-bit floats and is what `reconstruct` should
    get, pa.png is a picture of 16 bits for people, and pa.json says how the film was made. The isocentre is the middle
    of both lungs.

    With --physics clinical the films look like those of a real stand, and both pictures hold grey values. --set changes
    a part (beam.kvp=110, noise.exposure=1.25) or switches it off (noise=null; display=null for line integrals); with
    --physics linear it switches single parts on. --seed determines the noise.
    """
    import torch

    from xrecon.anatomy.frame import thorax_centre
    from xrecon.anatomy.orientation import with_orientation_notes
    from xrecon.films.simulation import simulate as make_films
    from xrecon.io.output.staging import check_outputs
    from xrecon.projector.attenuation import FILM_ENERGY_KEV
    from xrecon.records import RunRecord
    from xrecon.volume import load_ct

    check_outputs(output, _NAMES, overwrite=overwrite)
    usable_device(device)
    energy = FILM_ENERGY_KEV if energy_kev is None else energy_kev
    chain = _chain(physics, overrides or (), energy_kev)
    with shell.progress("reading and projecting the CT"):
        loaded = load_ct(ct, series=series)
        shell.file_notes(ct, loaded.notes)
        volume = with_orientation_notes(loaded, ct)
        centre = thorax_centre(volume)
        films = make_films(
            volume,
            size=size,
            geometry=geometry.value,
            keep_table=keep_table,
            centre_mm=centre,
            energy_kev=energy,
            device=device,
            physics=chain,
            generator=torch.Generator().manual_seed(seed),
        )
    settings: dict[str, Any] = {"size": size, "geometry": geometry.value, "keep_table": keep_table}
    if chain is None or chain.beam is None:
        settings["energy_kev"] = energy
    if chain is not None:
        settings["physics"] = {"preset": physics.value, **chain.model_dump(mode="json")}
    is_random = chain is not None and chain.noise is not None
    record = RunRecord.of_files(
        "xrecon simulate", seed=seed if is_random else None, files={"ct": ct}, settings=settings
    ).to_dict()
    record["source"] = {
        "shape": volume.shape,
        "spacing_mm": volume.spacing_mm,
        "isocentre_lps_mm": [float(coordinate) for coordinate in centre],
    }
    files = _write_films(output, films, record, overwrite=overwrite)
    for film in films:
        shell.print(f"{files[film.view]}: {film!r}")
    return {
        "films": files,
        "geometry": {film.view: film.geometry.to_dict() for film in films},
        "range": {film.view: [film.image.min(), film.image.max()] for film in films},
        "notes": films[0].notes,
        "settings": settings,
    }


def _write_films(
    output: Path, films: Sequence[Radiograph], record: Mapping[str, Any], *, overwrite: bool
) -> dict[str, Path]:
    """Write three files per film; returns view -> TIFF, the file that `reconstruct` should get."""
    from xrecon.io.film_file import write_film
    from xrecon.io.output.staging import staged_outputs
    from xrecon.volume import RESEARCH_NOTICE

    with staged_outputs(output, _NAMES, overwrite=overwrite) as stage:
        for film in films:
            write_film(
                stage / film.view,
                film.image,
                view=film.view,
                geometry=film.geometry,
                notice=RESEARCH_NOTICE,
                quantity=film.quantity,
                notes=film.notes,
                extra=record,
            )
    return {film.view: output / f"{film.view}.tiff" for film in films}


def _chain(preset: PhysicsName, overrides: Sequence[str], energy_kev: float | None) -> FilmPhysics | None:
    """The film physics of the preset and the overrides; None for plain line integrals."""
    from xrecon.errors import InputError
    from xrecon.projector.physics import film_physics

    if preset is PhysicsName.LINEAR and not overrides:
        return None
    chain = film_physics(preset.value, overrides)
    if chain.beam is not None and energy_kev is not None:
        raise InputError(
            f"--energy-kev {energy_kev:g} has no effect on a polychromatic beam ({chain.beam.kvp:g} kVp); leave it "
            "out, choose --set beam.kvp=..., or switch the beam off with --set beam=null"
        )
    return chain
