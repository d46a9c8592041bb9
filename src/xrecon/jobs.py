"""Runs one function over many items: in this process, on all cores, or on a Dask cluster of any size."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from xrecon.environment import usable_processors
from xrecon.errors import InputError, MissingPartError

MEMORY_PER_WORKER = 3 * 2**30
"""Bytes that one case may need, from measurements (docs/your-own-data.md)."""
_CONNECT_SECONDS = 20
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
RowT = TypeVar("RowT")


def dask_is_installed() -> bool:
    """Whether the extra `scale` is installed."""
    return importlib.util.find_spec("distributed") is not None


def available_memory() -> int:
    """Bytes of memory that can be used without swapping; 4 GiB where the system does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/meminfo", encoding="ascii") as stream:  # noqa: PTH123
        for line in stream:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 4 * 2**30


def worker_count(workers: int | None, jobs: int) -> int:
    """Processes for this machine: `workers`, or one per core as far as memory allows; never more than jobs."""
    if workers is None:
        workers = min(usable_processors(), max(1, available_memory() // MEMORY_PER_WORKER))
    return max(1, min(workers, jobs))


def run_jobs(
    function: Callable[[ItemT], ResultT],
    items: Sequence[ItemT],
    *,
    workers: int | None = None,
    scheduler: str | None = None,
) -> Iterator[tuple[int, ResultT | Exception]]:
    """Call `function` for every item; yields (index, result or exception) as they finish.

    Args:
        function: importable by name (it travels to other processes).
        items: picklable.
        workers: processes on this machine; None: by cores and memory. Without Dask, or with one worker, all runs here.
        scheduler: address of a Dask scheduler (tcp://host:8786); its workers must have xrecon and see the same paths.

    A job whose worker is lost is done again by another one; after four losses its exception is yielded.

    Raises:
        MissingPartError: a scheduler is asked for and Dask is not installed.
        InputError: no scheduler answers at the address.
    """
    if not items:
        return
    count = worker_count(workers, len(items))
    if scheduler is not None and not dask_is_installed():
        raise MissingPartError("--scheduler needs Dask; install it with: pip install 'dask[distributed]'")
    if scheduler is None and (count == 1 or not dask_is_installed()):
        for index, item in enumerate(items):
            yield index, _tried(function, item)
        return
    as_completed = _distributed().as_completed
    with _client(count, scheduler) as client:
        futures = {
            client.submit(function, item, pure=False, key=f"case-{index}-{id(items)}"): index
            for index, item in enumerate(items)
        }
        for future in as_completed(list(futures)):
            error = future.exception()
            yield futures[future], future.result() if error is None else _as_exception(error)
            future.release()


def gathered(
    function: Callable[[ItemT], Sequence[RowT]],
    jobs: Sequence[ItemT],
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
    rows: dict[int, Sequence[RowT]] = {}
    failures = []
    for done, (index, outcome) in enumerate(run_jobs(function, jobs, workers=workers, scheduler=scheduler), start=1):
        if isinstance(outcome, Exception):
            failures.append(f"{names[index]}: {type(outcome).__name__}: {outcome}")
        else:
            rows[index] = outcome
        progress(f"{done} of {len(jobs)}: {names[index]}")
    return [row for index in sorted(rows) for row in rows[index]], failures


def at_once(function: Callable[[ItemT], ResultT], items: Iterable[ItemT], *, threads: int = 2) -> list[ResultT]:
    """`function` of every item, in the order of the items; `threads` of them at a time.

    Raises:
        Whatever `function` raises, of the first item that did; items that had not begun are left out.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="xrecon") as pool:
        return list(pool.map(function, items))


def _tried(function: Callable[[ItemT], ResultT], item: ItemT) -> ResultT | Exception:
    try:
        return function(item)
    except Exception as error:
        return error


def _as_exception(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")


def _distributed() -> Any:
    """The package, typed as anything: it is optional, and untyped where it is there."""
    return importlib.import_module("distributed")


@contextlib.contextmanager
def _client(count: int, scheduler: str | None) -> Iterator[Any]:
    """A connection to a cluster: that of the address, or a local one that ends with the block."""
    distributed = _distributed()
    Client, LocalCluster = distributed.Client, distributed.LocalCluster
    # A worker that is stopped while others still talk to it is logged as an error, and is none.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=_CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            raise InputError(
                f"--scheduler {scheduler}: no Dask scheduler answers ({error}); start one with `dask scheduler` and "
                "give its address, tcp://host:8786"
            ) from error
        with client:
            yield client
        return
    with (
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            memory_limit=available_memory() // count,
            dashboard_address="127.0.0.1:0",  # any free port: the usual one may be taken
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
