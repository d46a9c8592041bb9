"""The work on one source, on any machine: fetch, read, prepare, store. Runs in a process of its own."""

from __future__ import annotations

import hashlib
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xrecon.data.case_file import case_bytes
from xrecon.data.manifest import CASES_FOLDER
from xrecon.environment import one_thread
from xrecon.errors import InputError, XReconError
from xrecon.geometry import VIEWS
from xrecon.io.guards.archives import open_zip, read_member, zip_members
from xrecon.json_text import json_text
from xrecon.preparation.case import prepare_volume
from xrecon.preparation.naming import scrub
from xrecon.preparation.settings import PrepareSettings
from xrecon.preparation.sources import Source, fetch
from xrecon.preparation.storage import Store
from xrecon.preparation.thumbnail import thumbnail
from xrecon.radiograph import Radiograph, load_radiograph
from xrecon.volume import Volume, load_ct

WORK_FOLDER = ".prepare"
"""State of a run inside the data set: what is done already. Not part of the data set; may be deleted."""


@dataclass(frozen=True)
class Job:
    """One source to prepare into a store."""

    source: Source
    settings: PrepareSettings
    place: str


@dataclass(frozen=True)
class SourceResult:
    """The result of one source: a case, or the reason why it was refused.

    Attributes:
        case: pseudonym of the source.
        fields: the fields of its `CaseRecord`, without subset and fold; None where it was refused.
        reason: why it was refused, without paths.
        seconds: wall time of the work.
    """

    case: str
    fields: dict[str, Any] | None
    reason: str
    seconds: float


def state_name(case: str) -> str:
    """Where the state of a case lies in the store."""
    return f"{WORK_FOLDER}/{case}.json"


def thumbnail_name(case: str) -> str:
    """Where the picture of a case lies in the store."""
    return f"{WORK_FOLDER}/{case}.jpg"


def prepare_source(job: Job) -> SourceResult:
    """Prepare one source and store its file, picture and state, in this order: a state means that all is there.

    Errors of the input come back as a result with a reason; those of the store (disk full, no access) are raised.
    """
    started = time.monotonic()
    source = job.source
    with one_thread(), tempfile.TemporaryDirectory(prefix="xrecon-") as folder:
        try:
            ct, films = read_source(source, job.settings, Path(folder))
            # CTs of the X2CT layout have no table, and their films were taken round the middle of the grid.
            x2ct = source.kind == "h5"
            centre = ct.centre_mm if x2ct and films is not None else None
            prepared = prepare_volume(ct, job.settings, films=films, centre_mm=centre, has_table=not x2ct)
        except XReconError as error:
            reason = scrub(str(error), [*source.files, *(source.films or ()), folder], source.label)
            return SourceResult(source.case, None, reason, time.monotonic() - started)
        except MemoryError:
            reason = "not enough memory for this CT; give fewer --workers, or crop it"
            return SourceResult(source.case, None, reason, time.monotonic() - started)
    content = case_bytes(prepared.case)
    facts = prepared.facts()
    for key in ("warnings", "notes"):
        facts[key] = [scrub(text, [*source.files, folder], source.label) for text in facts[key]]
    facts["warnings"] += source.warnings
    fields = {
        "name": source.case,
        "patient": source.patient,
        "sha256": hashlib.sha256(content).hexdigest(),
        "source": source.source,
        "licence": source.licence,
        **facts,
    }
    store = Store(job.place)
    store.write(f"{CASES_FOLDER}/{source.case}.safetensors", content)
    store.write(thumbnail_name(source.case), thumbnail(prepared.case))
    state = {"stamp": source.stamp, "settings": job.settings.digest(), "fields": fields}
    store.write(state_name(source.case), json_text(state, indent=None).encode())
    return SourceResult(source.case, fields, "", time.monotonic() - started)


def read_source(
    source: Source, settings: PrepareSettings, folder: Path
) -> tuple[Volume, tuple[Radiograph, Radiograph] | None]:
    """The CT, and the user's films where they are asked for. `folder` takes what must be copied.

    Raises:
        InputError: as `load_ct` and `load_radiograph`.
        MissingPartError: a format needs a package that is not installed.
    """
    if source.kind == "h5":
        from xrecon.data.interchange_x2ct import read_x2ct

        sample = read_x2ct(fetch(source.files[0], folder))
        return sample.ct, (sample.pa, sample.lateral) if settings.films == "given" else None
    if source.kind == "dicom":
        ct = load_ct(_staged(source, folder))
    elif source.kind == "zip" and source.series is None:
        ct = load_ct(_member(fetch(source.files[0], folder), source.files[1], folder))
    else:
        path = fetch(source.files[0], folder)
        _fetch_raw_part(source.files[0], path, folder)
        ct = load_ct(path, series=source.series)
    if source.films is None:
        return ct, None
    pa, lateral = (
        load_radiograph(fetch(place, folder), view, geometry=settings.geometry)
        for place, view in zip(source.films, VIEWS, strict=True)
    )
    return ct, (pa, lateral)


def _staged(source: Source, folder: Path) -> Path:
    """A folder with just the slices of one series, under neutral names."""
    stage = folder / "series"
    stage.mkdir()
    for number, place in enumerate(source.files):
        fetched = fetch(place, folder)
        target = stage / f"{number:05d}.dcm"
        if fetched.parent == folder:
            fetched.rename(target)
        else:
            target.symlink_to(fetched.resolve())
    return stage


def _member(archive: Path, name: str, folder: Path) -> Path:
    """A volume inside a zip, unpacked under a neutral name after all guards."""
    with open_zip(archive) as opened:
        member: zipfile.ZipInfo | None = next((m for m in zip_members(opened, archive) if m.filename == name), None)
        if member is None:
            raise InputError(f"{archive}: the member {name!r} is gone; pack the zip again")
        target = folder / f"member{''.join(Path(name).suffixes[-2:])}"
        target.write_bytes(read_member(opened, member, archive))
    return target


def _fetch_raw_part(place: str, path: Path, folder: Path) -> None:
    """The pixel file beside a remote .mhd header."""
    if path.parent != folder or path.suffix.lower() != ".mhd":
        return
    for line in path.read_text(encoding="latin-1").splitlines():
        key, _, value = line.partition("=")
        name = value.strip()
        if key.strip() == "ElementDataFile" and name.upper() != "LOCAL" and "/" not in name:
            fetch(f"{place.rpartition('/')[0]}/{name}", folder)
