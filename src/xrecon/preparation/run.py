"""A whole run of `xrecon prepare`: find CTs, deal them into subsets, prepare what is missing, write the manifest."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from xrecon.data.manifest import MANIFEST_NAME, CaseRecord, Manifest, Rejection, parse_manifest
from xrecon.data.split import Split, Subset
from xrecon.errors import InputError
from xrecon.io.output.atomic import write_text_atomic
from xrecon.jobs import run_jobs
from xrecon.preparation.ledger import Ledger
from xrecon.preparation.naming import Naming
from xrecon.preparation.request import PrepareRequest
from xrecon.preparation.sources import Discovery, Source, discover
from xrecon.preparation.storage import Store
from xrecon.preparation.worker import WORK_FOLDER, Job, prepare_source, thumbnail_name

_SALT = f"{WORK_FOLDER}/salt"


@dataclass(frozen=True)
class PrepareReport:
    """The result of a run.

    Attributes:
        manifest: as written to the data set.
        prepared: number of cases that this run computed.
        reused: number of cases that an earlier run had finished.
        seconds: wall time.
    """

    manifest: Manifest
    prepared: int
    reused: int
    seconds: float

    @property
    def with_warnings(self) -> tuple[CaseRecord, ...]:
        """The cases that somebody should look at."""
        return tuple(case for case in self.manifest.cases if case.warnings)

    @property
    def refused(self) -> tuple[Rejection, ...]:
        """Inputs that look like CTs and became no case; the count of files of other kinds is not among them."""
        return tuple(item for item in self.manifest.rejected if not item.source.endswith("other files"))

    def counts(self) -> dict[Subset, int]:
        """Number of cases per subset, without empty subsets."""
        subsets: tuple[Subset, ...] = ("train", "test", "aux")
        numbers = {subset: len(self.manifest.of_subset(subset)) for subset in subsets}
        return {subset: number for subset, number in numbers.items() if number}


def prepare_dataset(
    request: PrepareRequest,
    *,
    note: Callable[[str], None] = lambda _text: None,
    advance: Callable[[int, int], None] = lambda _done, _total: None,
) -> PrepareReport:
    """Prepare all inputs into a data set; go on where an earlier run stopped.

    Args:
        request: inputs, output and options.
        note: called with a line of text for each remark.
        advance: called with (cases done, cases in all).

    Raises:
        InputError: an input does not exist, nothing usable was found, the output holds something else or was made with
            other settings, the split puts one patient into two subsets, or the table of names lies in the data set.
        OutputExistsError: the table of names exists, and nothing says that it may be replaced.
        MissingPartError: Dask or a file system is needed and not installed.
    """
    started = time.monotonic()
    store = Store(request.output)
    _check_names_table(store, request.names_table)
    before = _existing(store, request)
    naming = Naming(_salt(store, request), request.keep_names, _pattern(request.patient_pattern))
    discovery = discover(
        request.inputs,
        naming,
        every_series=request.every_series,
        given_films=request.settings.films == "given",
        workers=request.workers,
        scheduler=request.scheduler,
    )
    discovery.sources = [
        replace(source, source=source.source or request.source, licence=source.licence or request.licence)
        for source in discovery.sources
    ]
    sources, subsets = (discovery.sources, None) if request.split is None else _listed(discovery, request.split, note)
    if request.names_table is not None:
        write_names_table(request.names_table, sources, overwrite=request.overwrite)
    ledger = Ledger(request, store, before, discovery.rejected, sources, subsets)
    todo = ledger.load_states()
    reused = len(sources) - len(todo)
    advance(reused, len(sources))
    jobs = [Job(source, request.settings, request.output) for source in todo]
    try:
        for index, result in run_jobs(prepare_source, jobs, workers=request.workers, scheduler=request.scheduler):
            ledger.add(todo[index], result)
            advance(reused + ledger.arrived, len(sources))
            ledger.write_if_due()
    except BaseException:
        ledger.write_unfinished()
        raise
    manifest = ledger.finish()
    return PrepareReport(manifest, ledger.prepared, reused, time.monotonic() - started)


def _pattern(text: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        return re.compile(text)
    except re.error as error:
        raise InputError(
            f"--patient-from {text!r} is no regular expression ({error}); for example '(LIDC-[0-9]+)'"
        ) from None


def _salt(store: Store, request: PrepareRequest) -> str:
    if request.salt is not None:
        return request.salt
    if request.keep_names:
        return ""
    if not store.exists(_SALT):
        store.write(_SALT, secrets.token_hex(32).encode())
    return store.read(_SALT).decode()


def _existing(store: Store, request: PrepareRequest) -> Manifest | None:
    """The data set of an earlier run, if there is one and it was made in the same way."""
    if not store.exists(MANIFEST_NAME):
        if not (store.is_empty() or store.names(WORK_FOLDER)):
            raise InputError(f"{store}: is not empty and holds no {MANIFEST_NAME}; choose a new folder")
        return None
    if request.overwrite:
        return None
    manifest = parse_manifest(store.read(MANIFEST_NAME), f"{store}/{MANIFEST_NAME}")
    settings = request.settings.model_dump(mode="json")
    other = [
        f"{key}={manifest.settings.get(key)!r}, now {settings[key]!r}"
        for key in settings
        if manifest.settings.get(key) != settings[key]
    ]
    if other:
        raise InputError(
            f"{store}: was prepared with other settings ({'; '.join(other)}); choose another folder, or --overwrite"
        )
    return manifest


def _listed(discovery: Discovery, split: Split, note: Callable[[str], None]) -> tuple[list[Source], dict[str, Subset]]:
    """The sources that the split lists, and the subset of each case.

    Raises:
        InputError: the split puts two scans of one patient into different subsets.
    """
    listed: dict[str, Subset] = {
        **dict.fromkeys(split.train, "train"),
        **dict.fromkeys(split.test, "test"),
        **dict.fromkeys(split.aux, "aux"),
    }
    sources, subsets, used = [], {}, set()
    for source in discovery.sources:
        name = next((alias for alias in source.aliases if alias in listed), None)
        if name is None:
            discovery.rejected.append(Rejection(source=source.label, reason="the split file does not list it"))
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
    """Case -> JPEG of the strip of pictures, of every case that has one."""
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


def write_names_table(path: Path, sources: Iterable[Source], *, overwrite: bool) -> None:
    """Write `names_table` to a file that only its owner may read. Raises OutputExistsError, InputError."""
    write_text_atomic(path, names_table(sources), overwrite=overwrite)
    path.chmod(0o600)


def _check_names_table(store: Store, path: Path | None) -> None:
    """Refuse a table of names inside the data set, which would undo the pseudonyms."""
    if path is not None and store.folder is not None and store.folder.resolve() in path.resolve().parents:
        raise InputError(f"{path}: the table of names must not lie inside the data set; choose another place")
