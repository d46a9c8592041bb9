"""A whole run of `xrecon prepare-films`: what is missing of a library is made, what is there stays."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from xrecon.augmentation.lung_shapes import LungShapes
from xrecon.augmentation.varied_chest import SourceChest, source_chest
from xrecon.data.ct_folder import content_sha256
from xrecon.data.film_library import ANATOMIES_FOLDER, LIBRARY_NAME, anatomy_files, anatomy_name
from xrecon.data.split import Split, cases_in
from xrecon.environment import git_commit, one_thread, run_environment
from xrecon.errors import InputError, XReconError
from xrecon.io.output.atomic import write_bytes_atomic, write_json_atomic
from xrecon.jobs import run_jobs
from xrecon.preparation.film_library.library_settings import FilmLibrarySettings
from xrecon.preparation.film_library.produce import produce_anatomy
from xrecon.volume import RESEARCH_NOTICE, load_ct

_CASES_IN_MEMORY = 16
"""Source chests that one process keeps: about 90 MB each."""
_SHA_DIGITS = 16
_FAILURES_IN_A_ROW = 16
"""After so many the cause is not the anatomy."""


@dataclass(frozen=True)
class FilmLibraryRequest:
    """What is asked for.

    Attributes:
        cts: folder with the source CTs.
        split: which of them train; the others are never touched.
        output: folder of the library.
        anatomies: number of anatomies in the end.
        shapes: folder with the lung shapes of other patients, or None.
        settings: of the content.
        workers: processes on this machine; None: by cores and memory.
        scheduler: address of a Dask scheduler, or None.
        progress: called after each anatomy with the number done, the number in all, and a line of text.
    """

    cts: Path
    split: Split
    output: Path
    anatomies: int
    shapes: Path | None = None
    settings: FilmLibrarySettings = field(default_factory=FilmLibrarySettings)
    workers: int | None = None
    scheduler: str | None = None
    progress: Callable[[int, int, str], None] = lambda _done, _total, _text: None


@dataclass(frozen=True)
class FilmLibraryReport:
    """The result of a run.

    Attributes:
        anatomies: in the library now.
        samples: film pairs in it.
        made: anatomies that this run made.
        failures: a line for each anatomy that could not be made.
        seconds: wall time.
    """

    anatomies: int
    samples: int
    made: int
    failures: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class _AnatomyJob:
    case: str
    path: str
    number: int
    shapes: str | None
    output: str
    settings: FilmLibrarySettings
    commit: str | None


def prepare_film_library(request: FilmLibraryRequest) -> FilmLibraryReport:
    """Make the anatomies that the library lacks. Anatomy n varies the CT n modulo the number of train cases.

    Raises:
        InputError: no such CTs; a library of other settings or CTs in the output folder.
        MissingPartError: a scheduler without Dask.
        XReconError: the disk is full, or many anatomies in a row cannot be made.
    """
    started = time.perf_counter()
    cases = cases_in(request.cts, request.split, "train")
    shapes = None if request.shapes is None else str(request.shapes)
    if shapes is not None:
        LungShapes.load(shapes)
    _begin(request, cases)
    jobs, commit = [], git_commit()
    for number in range(request.anatomies):
        case, path = cases[number % len(cases)]
        if not (request.output / ANATOMIES_FOLDER / anatomy_name(case, number)).is_file():
            jobs.append(_AnatomyJob(case, str(path), number, shapes, str(request.output), request.settings, commit))
    failures = _run(request, jobs)
    present = len(anatomy_files(request.output))
    samples = present * (request.settings.plants + request.settings.healthy)
    return FilmLibraryReport(
        present, samples, len(jobs) - len(failures), tuple(failures), time.perf_counter() - started
    )


def _run(request: FilmLibraryRequest, jobs: list[_AnatomyJob]) -> list[str]:
    """Make the anatomies; a line for each that could not be made: a run of a day does not end at one of them."""
    failures: list[str] = []
    in_a_row = 0
    outcomes = run_jobs(_make, jobs, workers=request.workers, scheduler=request.scheduler)
    for count, (index, outcome) in enumerate(outcomes, start=1):
        name = f"anatomy {jobs[index].number} of {jobs[index].case}"
        in_a_row = in_a_row + 1 if isinstance(outcome, Exception) else 0
        if isinstance(outcome, Exception):
            if isinstance(outcome, OSError) or (
                isinstance(outcome, XReconError) and not isinstance(outcome, InputError)
            ):
                raise outcome  # of the disk or the installation: no other anatomy will fare better
            failures.append(f"{name}: {_reason(outcome)}")
            if in_a_row == _FAILURES_IN_A_ROW:
                raise XReconError(
                    f"{_FAILURES_IN_A_ROW} anatomies in a row cannot be made; the last: {failures[-1]}. Those that are "
                    "finished stay: run the same command again when the cause is removed"
                )
            name = f"{name} cannot be made: {_reason(outcome)}"
        request.progress(count, len(jobs), name)
    return failures


def _reason(error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    return f"unexpected {type(error).__name__}: {error}; please report it (make it again with --debug --workers 1)"


def _make(job: _AnatomyJob) -> int:
    """Make one anatomy and store it."""
    with one_thread():
        source = _source(job.path, job.case)
        content = produce_anatomy(source, _shapes(job.shapes), job.settings, number=job.number, commit=job.commit)
    target = Path(job.output) / ANATOMIES_FOLDER / anatomy_name(job.case, job.number)
    write_bytes_atomic(target, content, overwrite=True)
    return len(content)


@lru_cache(maxsize=_CASES_IN_MEMORY)
def _source(path: str, case: str) -> SourceChest:
    return source_chest(load_ct(path), case)


@lru_cache(maxsize=1)
def _shapes(folder: str | None) -> LungShapes | None:
    return None if folder is None else LungShapes.load(folder)


def _begin(request: FilmLibraryRequest, cases: tuple[tuple[str, Path], ...]) -> None:
    """Write the library's description, or compare it with the one that is there. Raises InputError."""
    settings = request.settings.model_dump(mode="json")
    shapes = None if request.shapes is None else content_sha256(request.shapes)[:_SHA_DIGITS]
    facts: dict[str, Any] = {
        "settings": settings,
        "cases": {name: content_sha256(path)[:_SHA_DIGITS] for name, path in cases},
        "shapes": shapes,
    }
    path = request.output / LIBRARY_NAME
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path}: not valid JSON ({error}); choose another output folder") from error
        different = [name for name, value in facts.items() if before.get(name) != value]
        if different:
            raise InputError(
                f"{request.output}: holds a film library of other {' and '.join(different)}; go on with the same "
                "options, or choose another output folder"
            )
        return
    if request.output.is_dir() and any(request.output.iterdir()):
        raise InputError(f"{request.output}: is not empty and holds no film library; choose another output folder")
    description = {"kind": "film library", "notice": RESEARCH_NOTICE, **facts, "environment": run_environment()}
    write_json_atomic(path, description)
