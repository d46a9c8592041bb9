"""Preparing on a cluster: a scheduler and two workers as separate processes; what a lost worker had is done again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from xrecon import jobs
from xrecon.data.dataset import PreparedDataset
from xrecon.errors import InputError, MissingPartError
from xrecon.preparation.request import PrepareRequest
from xrecon.preparation.run import prepare_dataset
from xrecon.preparation.settings import PrepareSettings

SETTINGS = PrepareSettings(size=32, lung_model="classical")


def square(number: int) -> int:
    """A job that refuses 3."""
    if number == 3:
        raise InputError("three is not wanted")
    return number * number


def lethal(marker: str) -> str:
    """A job that kills its worker at the first try, as a lack of memory would."""
    path = Path(marker)
    if not path.exists():
        path.write_text("once")
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def test_one_after_the_other_gives_results_and_errors() -> None:
    results = dict(jobs.run_jobs(square, [2, 3, 4], workers=1))
    assert (results[0], results[2]) == (4, 16)
    assert isinstance(results[1], InputError)
    assert list(jobs.run_jobs(square, [], workers=4)) == []


def test_workers_are_as_many_as_cores_and_memory_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "usable_processors", lambda: 16)
    monkeypatch.setattr(jobs, "available_memory", lambda: 10 * 2**30)
    assert jobs.worker_count(None, 100) == 3
    assert jobs.worker_count(None, 2) == 2
    assert jobs.worker_count(8, 100) == 8
    monkeypatch.setattr(jobs, "available_memory", lambda: 2**30)
    assert jobs.worker_count(None, 100) == 1


def test_without_dask_a_scheduler_is_a_missing_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "dask_is_installed", lambda: False)
    with pytest.raises(MissingPartError, match=r"dask\[distributed\]"):
        list(jobs.run_jobs(square, [1], scheduler="tcp://127.0.0.1:1"))
    assert dict(jobs.run_jobs(square, [1, 2], workers=2)) == {0: 1, 1: 4}


@pytest.mark.filterwarnings("default")  # those of Dask's own start and stop
def test_a_local_cluster_by_default() -> None:
    pytest.importorskip("distributed", reason="the extra [scale] is not installed")
    results = dict(jobs.run_jobs(abs, [-1, -2, "x"], workers=2))  # type: ignore[list-item]
    assert (results[0], results[1]) == (1, 2)
    assert isinstance(results[2], TypeError)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Dask scheduler with two workers, each a process of its own, on this machine."""
    pytest.importorskip("distributed", reason="the extra [scale] is not installed")
    folder = tmp_path_factory.mktemp("cluster")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    python = [sys.executable, "-W", "ignore", "-m"]
    scheduler = [
        *python,
        "distributed.cli.dask_scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-dashboard",
    ]
    worker = [*python, "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
    worker += ["--local-directory", str(folder)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment, "start_new_session": True}
    started = [subprocess.Popen(scheduler, **quiet)]  # type: ignore[call-overload]
    started += [subprocess.Popen(worker, **quiet) for _ in range(2)]  # type: ignore[call-overload]
    try:
        _wait_for_workers(address, 2)
        yield address
    finally:
        for process in started:  # with the nannies' children; nothing of a test is worth a slow goodbye
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for_workers(address: str, count: int) -> None:
    from distributed import Client

    end = time.monotonic() + 60
    while True:
        try:
            with Client(address, timeout=5) as client:
                client.wait_for_workers(count, timeout=max(1.0, end - time.monotonic()))
                return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


@pytest.mark.filterwarnings("default")  # those of Dask's own start and stop
def test_a_cluster_prepares_the_data_set(cluster: str, people_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "set"
    request = PrepareRequest([str(people_folder)], str(output), settings=SETTINGS, keep_names=True, scheduler=cluster)
    report = prepare_dataset(request)
    assert report.prepared == 3
    for subset in ("train", "test"):
        PreparedDataset(output, subset).verify()  # type: ignore[arg-type]
    alone = tmp_path / "alone"
    prepare_dataset(PrepareRequest([str(people_folder)], str(alone), settings=SETTINGS, keep_names=True, workers=1))
    names = sorted(p.name for p in (output / "cases").iterdir())
    assert [(output / "cases" / n).read_bytes() == (alone / "cases" / n).read_bytes() for n in names] == [True] * 3


@pytest.mark.filterwarnings("default")
def test_a_lost_workers_job_is_done_again(cluster: str, tmp_path: Path) -> None:
    results = dict(jobs.run_jobs(lethal, [str(tmp_path / "marker")], scheduler=cluster))
    assert results == {0: "done"}


@pytest.mark.filterwarnings("default")
def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(jobs, "_CONNECT_SECONDS", 1)
    with pytest.raises(InputError, match=r"tcp://127\.0\.0\.1:9: no Dask scheduler answers"):
        list(jobs.run_jobs(square, [1], scheduler="tcp://127.0.0.1:9"))
