"""Time, memory and errors of the projectors, all peers in turns so that a busy machine slows them alike."""

from __future__ import annotations

import ctypes
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from peers.cases import Case, phantom_film, phantom_volume
from peers.projectors import Peer
from xrecon.geometry import FRAME_MM, VIEWS, ConeBeam
from xrecon.projector import project

Row = dict[str, Any]
RUNS_PER_TURN = 3


def in_turns(tasks: Mapping[str, Callable[[], Any]], repeats: Mapping[str, int]) -> dict[str, tuple[float, float]]:
    """(median, smallest) milliseconds of every task, over rounds in which each task has its turn.

    A turn is one run that is not timed and up to three that are: caches hold what the task itself left there, not what
    another one did, and a slow moment of the machine still falls on several tasks.
    """
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    while any(len(taken[name]) < repeats[name] for name in tasks):
        for name, task in tasks.items():
            missing = repeats[name] - len(taken[name])
            if missing <= 0:
                continue
            task()
            for _ in range(min(missing, RUNS_PER_TURN)):
                started = time.perf_counter()
                task()
                taken[name].append(1000 * (time.perf_counter() - started))
    return {name: (statistics.median(values), min(values)) for name, values in taken.items()}


def compare(case: Case, peers: Sequence[Peer], *, repeats: int, slow_repeats: int) -> list[Row]:
    """One row per peer: medians and smallest times in ms, errors against the exact film, mismatch of the transpose.

    Returns:
        `forward_ms`, `forward_best_ms`, `both_ms`, `both_best_ms`; `error_rms` and `error_max`, relative to the exact
        film's root mean square and maximum; `mismatch`, |<A x, y> - <x, A^T y>| / <A x, y> for uniform random x and y
        (None: not finite).
    """
    exact, volume = phantom_film(case), phantom_volume(case)
    weight = torch.rand(case.view.detector_shape, generator=torch.Generator().manual_seed(1))
    runners = {peer.name: peer.make(case, volume, weight) for peer in peers}
    rows: dict[str, Row] = {}
    for peer in peers:  # also the first run of each, which compiles and fills caches
        film, _ = runners[peer.name].both()
        difference = film.double().numpy() - exact
        rows[peer.name] = {
            "peer": peer.name,
            "case": case.name,
            "error_rms": float(np.sqrt(np.mean(difference**2) / np.mean(exact**2))),
            "error_max": float(np.abs(difference).max() / exact.max()),
            "mismatch": _mismatch(case, peer, weight),
        }
    times = {peer.name: slow_repeats if peer.slow else repeats for peer in peers}
    tasks: dict[str, Callable[[], Any]] = {}
    for name, runner in runners.items():
        tasks[f"{name} forward"], tasks[f"{name} both"] = runner.forward, runner.both
    taken = in_turns(tasks, {f"{name} {what}": times[name] for name in times for what in ("forward", "both")})
    for name, row in rows.items():
        row["repeats"] = times[name]
        for what in ("forward", "both"):
            row[f"{what}_ms"], row[f"{what}_best_ms"] = taken[f"{name} {what}"]
    return list(rows.values())


def _mismatch(case: Case, peer: Peer, weight: Tensor) -> float | None:
    volume = 0.02 * torch.rand(case.shape, generator=torch.Generator().manual_seed(0))
    film, gradient = peer.make(case, volume, weight).both()
    there, back = (float((a.double() * b).sum()) for a, b in ((film, weight.double()), (gradient, volume.double())))
    return abs(there - back) / abs(there) if math.isfinite(there) and math.isfinite(back) else None


def memory_mb(case: Case, peer: Peer) -> dict[str, float | None]:
    """Highest memory beyond in- and outputs, MB, of one `forward` and one `both`; None where the system cannot tell.

    To be called in a process of its own, where no other peer has left memory behind that would be used again.
    """
    volume = phantom_volume(case)
    runner = peer.make(case, volume, torch.ones(case.view.detector_shape))
    runner.both()
    return {
        "forward_mb": _added_mb(lambda: (runner.forward(),)),
        "both_mb": _added_mb(runner.both),
    }


def _added_mb(task: Callable[[], Sequence[Tensor]]) -> float | None:
    _return_free_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark to the present size
        before = _status_kb("VmRSS")
        results = task()
        peak = _status_kb("VmHWM")
    except OSError:
        return None
    outputs = sum(result.numel() * result.element_size() for result in results)
    return max(0.0, (peak - before) * 1024 - outputs) / 1e6


def _status_kb(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise OSError(f"/proc/self/status has no {key}")


def _return_free_memory() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def compare_paths(size: int, *, repeats: int) -> list[Row]:
    """xrecon's three backends for the same two films (PA and lateral, preset `chest`), with and without gradient.

    Below the size that the kernels take, "compiled" is what `backend="auto"` takes instead.

    Args:
        size: voxels per edge of the frame's cube and detector pixels per edge.
        repeats: timed runs of each backend.

    Returns:
        Medians in ms, and the largest difference to plain torch, relative to the largest value.
    """
    spacing, shape = (FRAME_MM / size,) * 3, (size, size, size)
    views = [ConeBeam.preset("chest", view, size=size) for view in VIEWS]
    volume = 0.02 * torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    weight = torch.rand(len(views), size, size, generator=torch.Generator().manual_seed(1))
    films: dict[str, Callable[[Tensor], Tensor]] = {
        "compiled": lambda mu: project(mu[:, None], spacing, views)[0],
        "matrix products": lambda mu: project(mu[:, None], spacing, views, backend="aligned")[0],
        "plain": lambda mu: project(mu[:, None], spacing, views, backend="reference")[0],
    }
    rows = []
    for what, task in (("forward", _forward), ("forward + backward", _gradient)):
        results = {name: task(film, volume, weight) for name, film in films.items()}
        calls = {name: _call(task, film, volume, weight) for name, film in films.items()}
        medians = in_turns(calls, dict.fromkeys(films, repeats))
        largest = float(results["plain"].abs().max())
        for name, result in results.items():
            difference = float((result - results["plain"]).abs().max()) / largest
            rows.append(
                {"size": size, "what": what, "path": name, "ms": medians[name][0], "relative_difference": difference}
            )
    return rows


_Task = Callable[[Callable[[Tensor], Tensor], Tensor, Tensor], Tensor]


def _call(task: _Task, film: Callable[[Tensor], Tensor], volume: Tensor, weight: Tensor) -> Callable[[], Tensor]:
    return lambda: task(film, volume, weight)


def _forward(film: Callable[[Tensor], Tensor], volume: Tensor, weight: Tensor) -> Tensor:
    del weight
    with torch.no_grad():
        return film(volume)


def _gradient(film: Callable[[Tensor], Tensor], volume: Tensor, weight: Tensor) -> Tensor:
    leaf = volume.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(film(leaf), leaf, weight)
    return gradient
