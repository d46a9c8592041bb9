"""Turns the files below the inputs into sources: one per CT, with a pseudonym for the scan and one for the patient."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from xrecon.data.manifest import Rejection
from xrecon.errors import InputError
from xrecon.geometry import VIEWS
from xrecon.io.dicom.grouping import Stack
from xrecon.io.dicom.unused import UnusedFile, unused_notes
from xrecon.jobs import run_jobs
from xrecon.preparation.dicom_index import DicomIndex, SeriesChoice, choose_series, index_files, index_zip
from xrecon.preparation.listing import InputFile, find_files
from xrecon.preparation.naming import Naming, file_title, scrub, stem_of
from xrecon.preparation.pull import RECORD_NAME, read_record
from xrecon.preparation.storage import file_system, is_remote

SourceKind = Literal["ct", "dicom", "zip", "h5"]
_FILM_ENDINGS = {"pa": ("pa", "frontal", "ap"), "lateral": ("lateral", "lat")}
_CHUNK = 2000
_MANY_CHUNKS = 4
_MEMBER_CT = (".nii.gz", ".nii", ".mha", ".nrrd")


@dataclass(frozen=True)
class Source:
    """One CT to prepare. Paths, UIDs and aliases stay in memory; what is written are `case` and `patient`.

    Attributes:
        kind: how to read it.
        files: the CT, or the slices; local paths or URLs.
        stamp: changes when the files do.
        case: pseudonym (or name) of the scan.
        patient: pseudonym (or name) of the patient.
        label: what messages call it.
        aliases: names under which a split file may list it.
        films: places of the user's (PA, lateral) films, if any.
        series: DICOM SeriesInstanceUID.
        source, licence: of its collection, as far as stated.
        warnings: what a user should know of the files beside it.
    """

    kind: SourceKind
    files: tuple[str, ...]
    stamp: str
    case: str
    patient: str
    label: str
    aliases: tuple[str, ...] = ()
    films: tuple[str, str] | None = None
    series: str | None = None
    source: str = ""
    licence: str = ""
    warnings: tuple[str, ...] = ()


@dataclass
class Discovery:
    """The content of the inputs.

    Attributes:
        sources: CTs to be prepared, in a fixed order.
        rejected: files and series that become no case, with the reason.
    """

    sources: list[Source] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)


def discover(
    inputs: Sequence[str],
    naming: Naming,
    *,
    every_series: bool = False,
    given_films: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
) -> Discovery:
    """Find every CT at or below the inputs. `workers` and `scheduler` as in `run_jobs`, for large DICOM trees.

    Raises:
        InputError: an input does not exist, or cannot be listed.
        MissingPartError: a URL needs a package that is not installed.
    """
    files: list[InputFile] = []
    for place in inputs:
        files += find_files(place)
    out = Discovery()
    _note_others(files, out, naming, given_films=given_films)
    _add_files([f for f in files if f.kind in ("ct", "h5")], files, out, naming, given_films=given_films)
    for file in files:
        if file.kind == "zip":
            _add_zip(file, out, naming, every=every_series)
    index = _index_slices([f for f in files if f.kind == "dicom"], workers=workers, scheduler=scheduler)
    index.unused = [
        UnusedFile(file.place.rpartition("/")[0], file.name, "empty" if file.kind == "damaged" else "not DICOM")
        for file in files
        if file.kind in ("damaged", "other")
    ]
    _add_series(index, out, naming, every=every_series, places={f.place: f for f in files if f.kind == "dicom"})
    licences = _licences(files)
    out.sources = sorted((_licensed(source, licences) for source in out.sources), key=lambda source: source.case)
    return out


def _licences(files: Sequence[InputFile]) -> dict[str, dict[str, Any]]:
    """Series UID -> what `xrecon pull` recorded, from every local record among the files."""
    out: dict[str, dict[str, Any]] = {}
    for file in files:
        if file.name == RECORD_NAME and not is_remote(file.place):
            out.update(read_record(Path(file.place)))
    return out


def _licensed(source: Source, licences: dict[str, dict[str, Any]]) -> Source:
    entry = licences.get(source.series or "")
    if entry is None:
        return source
    doi = f", doi:{entry['doi']}" if entry.get("doi") else ""
    return replace(source, source=f"{entry.get('collection', '')}{doi}", licence=str(entry.get("licence", "")))


def _add_files(
    cts: Sequence[InputFile], files: Sequence[InputFile], out: Discovery, naming: Naming, *, given_films: bool
) -> None:
    titles = [file_title(ct.parts) for ct in cts]
    often = Counter(titles)
    for ct, title in zip(cts, titles, strict=True):
        name = title if often[title] == 1 or len(ct.parts) < 2 else f"{ct.parts[-2]}-{title}"
        case = naming.case(name)
        films = None
        if given_films and ct.kind == "ct":
            films = _films_beside(ct, title, files)
            if films is None:
                label = naming.label(case, ct.label)
                reason = "no PA and lateral film beside it (expected <name>_pa.* and <name>_lateral.*, or pa.* and "
                reason += "lateral.* in the CT's own folder)"
                out.rejected.append(Rejection(source=label, reason=reason))
                continue
        aliases = tuple(dict.fromkeys((name, title, stem_of(ct.name), *ct.parts[:-1])))
        kind: SourceKind = "h5" if ct.kind == "h5" else "ct"
        out.sources.append(
            Source(
                kind=kind,
                files=(ct.place,),
                stamp=ct.stamp,
                case=case,
                patient=naming.patient(name, ct.label),
                label=naming.label(case, ct.label),
                aliases=aliases,
                films=films,
            )
        )


def _films_beside(ct: InputFile, title: str, files: Sequence[InputFile]) -> tuple[str, str] | None:
    """The user's films of a CT: `<title>_pa.png`, or `pa.png` where the folder holds one CT."""
    beside = [f for f in files if f.parts[:-1] == ct.parts[:-1] and f.kind in ("film", "dicom")]
    places = []
    for view in VIEWS:
        endings = _FILM_ENDINGS[view]
        stems = {f.name.rpartition(".")[0].lower(): f.place for f in beside}
        # The 16-bit PNG beside a float TIFF of `xrecon simulate` is for the eye only.
        stems |= {
            f.name.rpartition(".")[0].lower(): f.place for f in beside if f.name.lower().endswith((".tif", ".tiff"))
        }
        named = [f"{title.lower()}{sep}{ending}" for ending in endings for sep in ("_", "-", ".")]
        alone = sum(f.kind == "ct" and f.parts[:-1] == ct.parts[:-1] for f in files) == 1
        match = next((stems[name] for name in [*named, *(endings if alone else ())] if name in stems), None)
        if match is None:
            return None
        places.append(match)
    return places[0], places[1]


def _add_zip(archive: InputFile, out: Discovery, naming: Naming, *, every: bool) -> None:
    title = stem_of(archive.name)
    with tempfile.TemporaryDirectory(prefix="xrecon-") as folder:
        try:
            path = fetch(archive.place, Path(folder))
            members = _volume_members(path)
            index = DicomIndex() if members else index_zip(path)
        except InputError as error:
            label = naming.label(naming.pseudonym("file", archive.label), archive.label)
            places = [str(Path(folder) / archive.name), archive.place]
            out.rejected.append(Rejection(source=label, reason=scrub(str(error), places, label)))
            return
    for member in members:
        name = title if len(members) == 1 else f"{title}-{file_title(tuple(member.split('/')))}"
        case = naming.case(name)
        label = naming.label(case, f"{archive.label}/{member}")
        out.sources.append(
            Source(
                kind="zip",
                files=(archive.place, member),
                stamp=archive.stamp,
                case=case,
                patient=naming.patient(title, archive.label),
                label=label,
                aliases=(name, title, *archive.parts[:-1]),
            )
        )
    if not members:
        _add_series(index, out, naming, every=every, archive=archive)


def _volume_members(path: Path) -> list[str]:
    from xrecon.io.guards.archives import open_zip, zip_members

    with open_zip(path) as archive:
        names = [member.filename for member in zip_members(archive, path)]
    return sorted(n for n in names if n.lower().endswith(_MEMBER_CT) and not n.startswith("__MACOSX"))


def _index_slices(files: Sequence[InputFile], *, workers: int | None, scheduler: str | None) -> DicomIndex:
    """Headers of all DICOM files; of many files on all workers, because opening each takes its time."""
    index = DicomIndex()
    places = [file.place for file in files]
    chunks = [places[first : first + _CHUNK] for first in range(0, len(places), _CHUNK)]
    alone = len(chunks) < _MANY_CHUNKS
    for _, part in run_jobs(
        _index_places, chunks, workers=1 if alone else workers, scheduler=None if alone else scheduler
    ):
        if isinstance(part, Exception):
            raise part
        index.merge(part)
    index.images.sort(key=lambda image: image.place)
    return index


def _index_places(places: Sequence[str]) -> DicomIndex:
    index = index_files([place for place in places if not is_remote(place)])
    for place in places:
        if is_remote(place):
            # Only the header is kept: the file is fetched again when its case is prepared, perhaps elsewhere.
            with tempfile.TemporaryDirectory(prefix="xrecon-") as folder:
                part = index_files([str(fetch(place, Path(folder)))])
            part.images = [replace(image, place=place, folder=place.rpartition("/")[0]) for image in part.images]
            part.damaged = [place for _ in part.damaged]
            index.merge(part)
    return index


def _add_series(
    index: DicomIndex,
    out: Discovery,
    naming: Naming,
    *,
    every: bool,
    archive: InputFile | None = None,
    places: dict[str, InputFile] | None = None,
) -> None:
    for reason, count in sorted(index.skipped.items()):
        out.rejected.append(Rejection(source=f"{count} DICOM files", reason=reason))
    choice = choose_series(index, every=every)
    for stack, reason in choice.left:
        out.rejected.append(Rejection(source=naming.pseudonym("scan", choice.scan_name(stack)), reason=reason))
    for stack in choice.taken:
        members = tuple(image.place for image in stack.images)
        files = [archive] if archive is not None else [(places or {})[place] for place in members]
        folders = tuple(dict.fromkeys(part for f in files for part in f.parts[:-1]))
        shared = files[0].parts[:-1] if archive is None else (*archive.parts[:-1], stem_of(archive.name))
        patient_name = choice.patient_name(stack)
        case = naming.case(_title(stack, choice, shared, naming))
        label = naming.label(case, "/".join(shared))
        aliases = tuple(dict.fromkeys((*reversed(shared), *folders, stack.first.patient_id or patient_name)))
        stamp = hashlib.sha256("\n".join(sorted(f.stamp for f in files)).encode()).hexdigest()[:16]
        patient = naming.pseudonym("patient", patient_name)
        if naming.patient_pattern is not None:
            patient = naming.patient(patient_name, "/".join(shared))
        used = [(image.folder, image.place.rpartition("/")[2], image.height_mm) for image in stack.images]
        out.sources.append(
            Source(
                kind="zip" if archive is not None else "dicom",
                files=(archive.place,) if archive is not None else members,
                stamp=stamp,
                case=case,
                patient=patient,
                label=label,
                aliases=aliases,
                series=choice.series_name(stack) if archive is not None else stack.first.series,
                warnings=unused_notes(index.unused, used, names=naming.keep_names),
            )
        )


def _title(stack: Stack, choice: SeriesChoice, shared: tuple[str, ...], naming: Naming) -> str:
    """What the name of a scan is made of: the user's folder where names are kept, else the identity of the series."""
    if not (naming.keep_names and shared):
        return choice.scan_name(stack)
    twins = [other for other in choice.taken if {i.folder for i in other.images} == {i.folder for i in stack.images}]
    return shared[-1] if len(twins) == 1 else f"{shared[-1]}-{twins.index(stack) + 1}"


def _note_others(files: Iterable[InputFile], out: Discovery, naming: Naming, *, given_films: bool) -> None:
    """Report each damaged file, and the files of other kinds as a count, so that nothing is left out silently."""
    others: Counter[str] = Counter()
    for file in files:
        if file.kind == "damaged":
            label = naming.label(naming.pseudonym("file", file.label), file.label)
            out.rejected.append(Rejection(source=label, reason=scrub(file.problem, [file.place], label)))
        elif file.kind == "other" and file.name != RECORD_NAME:
            others[Path(file.name).suffix.lower()[:8] or "no suffix"] += 1
        elif file.kind == "film" and not given_films:
            others["pictures"] += 1
    if others:
        listed = ", ".join(f"{count} x {kind}" for kind, count in others.most_common(8))
        total = sum(others.values())
        out.rejected.append(Rejection(source=f"{total} other files", reason=f"no CT by their first bytes: {listed}"))


def fetch(place: str, folder: Path) -> Path:
    """A local path of a file: its own, or that of a copy in `folder` for a URL. Raises InputError."""
    if not is_remote(place):
        return Path(place)
    fs, path = file_system(place)
    target = folder / path.rpartition("/")[2]
    try:
        fs.get_file(path, str(target))
    except OSError as error:
        raise InputError(f"{place}: cannot be fetched ({error}); check the URL and the access") from error
    return target
