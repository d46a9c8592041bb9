"""A whole run of `xrecon prepare`: find, decide who trains, prepare what is not done yet, keep the manifest true."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from xrecon.data.manifest import MANIFEST_NAME, Manifest, Rejection, parse_manifest
from xrecon.data.split import Split, Subset
from xrecon.errors import InputError
from xrecon.jobs import run_jobs
from xrecon.preparation.ledger import Ledger
from xrecon.preparation.naming import Naming
from xrecon.preparation.request import Request
from xrecon.preparation.sources import Discovery, Source, discover
from xrecon.preparation.storage import Store
from xrecon.preparation.worker import WORK_FOLDER, Job, prepare_source, thumbnail_name

_SALT = f"{WORK_FOLDER}/salt"


@dataclass(frozen=True)
class Report:
    """What became of it.

    Attributes:
        manifest: as written.
        prepared: cases that this run computed.
        reused: cases that were done already.
        seconds: wall time.
    """

    manifest: Manifest
    prepared: int
    reused: int
    seconds: float


def prepare_dataset(
    request: Request,
    *,
    note: Callable[[str], None] = lambda _text: None,
    advance: Callable[[int, int], None] = lambda _done, _total: None,
    found_sources: Callable[[Sequence[Source]], None] = lambda _sources: None,
) -> Report:
    """Prepare all inputs into a data set; go on where an earlier run stopped.

    Args:
        request: what is asked for.
        note: told of refused cases and the like, one line each.
        advance: told of (cases done, cases in all).
        found_sources: told of the CTs that were found, before they are prepared.

    Raises:
        InputError: an input does not exist, nothing usable was found, the output holds something else or was made with
            other settings, or the split puts one patient into two subsets.
        MissingPartError: Dask or a file system is needed and not installed.
    """
    started = time.monotonic()
    store = Store(request.output)
    before = _existing(store, request)
    naming = Naming(_salt(store, request), request.keep_names, _pattern(request.patient_pattern))
    found = discover(
        request.inputs,
        naming,
        every_series=request.every_series,
        given_films=request.settings.films == "given",
        workers=request.workers,
        scheduler=request.scheduler,
    )
    found.sources = [
        replace(one, source=one.source or request.source, licence=one.licence or request.licence)
        for one in found.sources
    ]
    sources, subsets = (found.sources, None) if request.split is None else _listed(found, request.split, note)
    found_sources(sources)
    ledger = Ledger(request, store, before, found.rejected, sources, subsets)
    todo = ledger.load_states()
    reused = len(sources) - len(todo)
    advance(reused, len(sources))
    jobs = [Job(source, request.settings, request.output) for source in todo]
    try:
        for index, outcome in run_jobs(prepare_source, jobs, workers=request.workers, scheduler=request.scheduler):
            ledger.add(todo[index], outcome)
            advance(reused + ledger.arrived, len(sources))
            ledger.write_if_due()
    except BaseException:
        ledger.write_unfinished()
        raise
    manifest = ledger.finish()
    return Report(manifest, ledger.prepared, reused, time.monotonic() - started)


def _pattern(text: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        return re.compile(text)
    except re.error as error:
        raise InputError(
            f"--patient-from {text!r} is no regular expression ({error}); for example '(LIDC-[0-9]+)'"
        ) from None


def _salt(store: Store, request: Request) -> str:
    if request.salt is not None:
        return request.salt
    if request.keep_names:
        return ""
    if not store.exists(_SALT):
        store.write(_SALT, secrets.token_hex(32).encode())
    return store.read(_SALT).decode()


def _existing(store: Store, request: Request) -> Manifest | None:
    """The data set of an earlier run, if there is one and it was made in the same way."""
    if not store.exists(MANIFEST_NAME):
        if not (store.is_empty() or store.names(WORK_FOLDER)):
            raise InputError(f"{store}: is not empty and holds no {MANIFEST_NAME}; choose a new folder")
        return None
    if request.overwrite:
        return None
    found = parse_manifest(store.read(MANIFEST_NAME), f"{store}/{MANIFEST_NAME}")
    wanted = request.settings.model_dump(mode="json")
    other = [
        f"{key}={found.settings.get(key)!r}, now {wanted[key]!r}"
        for key in wanted
        if found.settings.get(key) != wanted[key]
    ]
    if other:
        raise InputError(
            f"{store}: was prepared with other settings ({'; '.join(other)}); choose another folder, or --overwrite"
        )
    return found


def _listed(found: Discovery, split: Split, note: Callable[[str], None]) -> tuple[list[Source], dict[str, Subset]]:
    """The sources that the split lists, and the subset of each case. Raises InputError where it tears a patient."""
    listed: dict[str, Subset] = {
        **dict.fromkeys(split.train, "train"),
        **dict.fromkeys(split.test, "test"),
        **dict.fromkeys(split.aux, "aux"),
    }
    sources, subsets, used = [], {}, set()
    for source in found.sources:
        name = next((alias for alias in source.aliases if alias in listed), None)
        if name is None:
            found.rejected.append(Rejection(source=source.label, reason="the split file does not list it"))
            continue
        used.add(name)
        subsets[source.case] = listed[name]
        sources.append(replace(source, source=source.source or split.source, licence=source.licence or split.licence))
    for name in listed.keys() - used:
        if listed[name] != "aux":
            note(f"the split lists {name}, which is not among the inputs")
    by_patient_set: dict[str, set[Subset]] = {}
    for source in sources:
        by_patient_set.setdefault(source.patient, set()).add(subsets[source.case])
    torn = sorted(patient for patient, several in by_patient_set.items() if len(several) > 1)
    if torn:
        raise InputError(
            f"the split puts {len(torn)} patients into more than one subset ({', '.join(torn[:5])}): all scans of a "
            "patient belong into one; correct the split file"
        )
    return sources, subsets


def thumbnails(store: Store, manifest: Manifest) -> dict[str, bytes]:
    """The picture of every case that has one."""
    present = set(store.names(WORK_FOLDER))
    return {
        case.name: store.read(thumbnail_name(case.name)) for case in manifest.cases if f"{case.name}.jpg" in present
    }


def names_table(sources: Iterable[Source]) -> str:
    """CSV of pseudonym and origin, for the user's own safe place; never for the data set."""
    rows = ["case,patient,files,first_file"]
    for source in sources:
        place = source.files[0].replace('"', '""')
        rows.append(f'{source.case},{source.patient},{len(source.files)},"{place}"')
    return "\n".join(rows) + "\n"
