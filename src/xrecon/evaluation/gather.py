"""Cases worked off by several processes, and what failed, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from xrecon.preparation.scale import run_jobs

JobT = TypeVar("JobT")
RowT = TypeVar("RowT")


def gathered(
    function: Callable[[JobT], Sequence[RowT]],
    jobs: Sequence[JobT],
    names: Sequence[str],
    *,
    workers: int,
    scheduler: str | None,
    progress: Callable[[str], None],
) -> tuple[list[RowT], list[str]]:
    """The rows of all jobs in the order of the jobs, and a line for each job that failed.

    Args:
        function: importable by name; gives the rows of one job.
        jobs: picklable.
        names: of the jobs, for people.
        workers: processes on this machine.
        scheduler: address of a Dask scheduler, or None.
        progress: called with a line of text after each job.

    Raises:
        MissingPartError, InputError: as `run_jobs`.
    """
    found: dict[int, Sequence[RowT]] = {}
    failures = []
    for done, (index, outcome) in enumerate(run_jobs(function, jobs, workers=workers, scheduler=scheduler), start=1):
        if isinstance(outcome, Exception):
            failures.append(f"{names[index]}: {type(outcome).__name__}: {outcome}")
        else:
            found[index] = outcome
        progress(f"{done} of {len(jobs)}: {names[index]}")
    return [row for index in sorted(found) for row in found[index]], failures
