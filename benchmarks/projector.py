"""Time, memory and errors of the cone-beam projector beside those of other packages, for the same rays.

One process, all projectors in turns, so that a busy machine slows all alike; compare the ratios, not the milliseconds
of two machines. Memory is measured in one further process per projector. Packages that are not installed are named and
left out: `pip install 'xrecon[bench]'` brings ITK-RTK and nanodrr.

    python benchmarks/projector.py
    python benchmarks/projector.py --peers xrecon rtk --cases "tilted frontal" --reduce 4 --repeats 5
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))  # `peers`, also when a test loads this file

from peers.cases import CASES, Case
from peers.measure import Row, compare, compare_paths, memory_mb
from peers.projectors import PEERS, Peer

from xrecon.environment import run_environment
from xrecon.errors import XReconError
from xrecon.io.output.atomic import write_json_atomic

LARGEST_ERROR, LARGEST_MISMATCH = 6e-4, 1e-6
OWN = ("xrecon", "xrecon-pose")
SLOW_PIXELS = 128 * 128  # the slow peers keep hundreds of samples of every ray in memory
OUTPUT = Path("build/benchmark-projector.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print the tables, write JSON."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    cases = [case.reduced(options.reduce) for case in CASES if case.name in options.cases]
    if options.memory_of is not None:
        peer = PEERS[options.memory_of]
        print(json.dumps({case.name: memory_mb(case, peer) for case in _cases_of(peer, cases)}))
        return 0
    peers, absent = _installed(options.peers, cases[0])
    print(f"{processor()}, {torch.get_num_threads()} threads")
    print(f"medians of {options.repeats} runs in turns and the best of them, ms; memory in MB")
    rows = _table(cases, peers, options)
    goals = compare_with_goals(cases, rows) if options.reduce == 1 else []  # they are set for the full sizes
    paths = [row for size in options.path_sizes for row in _print_paths(size, repeats=options.slow_repeats)]
    report = {
        "benchmark": "projector",
        "processor": processor(),
        "peers": {peer.name: peer.version for peer in peers},
        "absent": absent,
        "rows": rows,
        "goals": goals,
        "paths": paths,
        "environment": run_environment(),
    }
    try:
        write_json_atomic(options.output, report, overwrite=True)
    except XReconError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"written: {options.output}")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    names = [case.name for case in CASES]
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), help="projectors (default: all)")
    parser.add_argument("--cases", nargs="+", choices=names, default=names, help="set-ups (default: all)")
    parser.add_argument("--reduce", type=int, default=1, help="make voxels and pixels this many times larger")
    parser.add_argument("--repeats", type=int, default=15, help="timed runs of each; the median counts")
    parser.add_argument("--slow-repeats", type=int, default=3, help="the same for projectors far behind, and for paths")
    parser.add_argument("--threads", type=int, default=2, help="threads of every projector")
    parser.add_argument(
        "--path-sizes", type=int, nargs="*", default=(64, 128), help="sizes for the comparison of xrecon's backends"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="JSON file to write")
    parser.add_argument("--no-memory", action="store_true", help="leave out the memory, which takes further processes")
    parser.add_argument("--memory-of", choices=PEERS, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if min(options.repeats, options.slow_repeats, options.threads, options.reduce, *options.path_sizes) < 1:
        parser.error("repeats, threads, sizes and the reduction must be at least 1")
    return options


def _installed(names: Sequence[str], case: Case) -> tuple[list[Peer], dict[str, str]]:
    """The peers that run, and why the others do not."""
    reasons = {name: PEERS[name].unavailable(case) for name in names}
    for name, reason in reasons.items():
        if reason is not None:
            print(f"left out: {name} ({reason})")
    return (
        [PEERS[name] for name in names if reasons[name] is None],
        {name: reason for name, reason in reasons.items() if reason is not None},
    )


def _cases_of(peer: Peer, cases: Sequence[Case]) -> list[Case]:
    return [case for case in cases if not peer.slow or case.view.detector_shape[0] ** 2 <= SLOW_PIXELS]


def _table(cases: Sequence[Case], peers: Sequence[Peer], options: argparse.Namespace) -> list[Row]:
    memory = {} if options.no_memory else {peer.name: _memory_in_own_process(peer, options) for peer in peers}
    rows = []
    heads = ("case", "projector", "forward (best)", "with backward (best)", "memory", "with backward")
    print("| " + " | ".join([*heads, "error", "largest", "mismatch"]) + " |")
    print("|---|---|---|---|---|---|---|---|---|")
    for case in cases:
        chosen = [peer for peer in peers if case in _cases_of(peer, cases)]
        measured = compare(case, chosen, repeats=options.repeats, slow_repeats=options.slow_repeats)
        for row in measured:
            row |= memory.get(row["peer"], {}).get(case.name, {"forward_mb": None, "both_mb": None})
            cells = [row["case"], row["peer"]]
            cells += [f"{row[f'{what}_ms']:.1f} ({row[f'{what}_best_ms']:.1f})" for what in ("forward", "both")]
            cells += [_number(row[key], ".1f") for key in ("forward_mb", "both_mb")]
            cells += [f"{100 * row[key]:.3f} %" for key in ("error_rms", "error_max")]
            print("| " + " | ".join([*cells, _number(row["mismatch"], ".0e")]) + " |", flush=True)
        rows += measured
    return rows


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _memory_in_own_process(peer: Peer, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).resolve()), "--memory-of", peer.name, "--cases", *options.cases]
    command += ["--reduce", str(options.reduce), "--threads", str(options.threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(f"memory of {peer.name} not measured: {done.stderr.strip().splitlines()[-1:]}")
        return {}
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def compare_with_goals(cases: Sequence[Case], rows: Sequence[Row]) -> list[Row]:
    """The project's goals: speed relative to RTK, errors, memory; printed as met or not met."""
    goals = [goal for case in cases for goal in _speed_goals(case, rows)]
    # Memory counts in volumes of the case: one beyond in- and output is the limit.
    volume_mb = {case.name: 4e-6 * case.size**3 for case in cases}
    for name in OWN:
        peer_rows = [row for row in rows if row["peer"] == name]
        volumes = [
            row[key] / volume_mb[row["case"]]
            for row in peer_rows
            for key in ("forward_mb", "both_mb")
            if row[key] is not None
        ]
        for what, values, limit in (
            ("largest error, relative", [row["error_max"] for row in peer_rows], LARGEST_ERROR),
            ("mismatch of the transpose", [row["mismatch"] for row in peer_rows], LARGEST_MISMATCH),
            ("added memory, volumes", volumes, 1.0),
        ):
            if values:
                goals.append(_goal("all", name, what, value=max(values), limit=limit, met=max(values) <= limit))
    for goal in goals:
        verdict = "no goal" if goal["met"] is None else f"goal {goal['limit']:g}: {'met' if goal['met'] else 'NOT MET'}"
        print(f"{goal['case']:<16} {goal['peer']:<12} {goal['goal']:<32} {goal['value']:>9.3g}   {verdict}")
    return goals


def _speed_goals(case: Case, rows: Sequence[Row]) -> list[Row]:
    """Times of one case against those of RTK, where both were measured."""
    by_peer = {row["peer"]: row for row in rows if row["case"] == case.name}
    goals = []
    for name in OWN:
        if name not in by_peer or "rtk" not in by_peer:
            continue
        for what, target in (("forward", case.forward_target), ("both", case.both_target)):
            ratio = by_peer["rtk"][f"{what}_ms"] / by_peer[name][f"{what}_ms"]
            # Goals are for rays that are computed once, as RTK's geometry is; rays of fresh poses stand beside them.
            met = None if target is None or name != OWN[0] else ratio >= target
            goals.append(_goal(case.name, name, f"times as fast as RTK, {what}", value=ratio, limit=target, met=met))
    return goals


def _goal(case: str, peer: str, name: str, *, value: float, limit: float | None, met: bool | None) -> Row:
    return {"case": case, "peer": peer, "goal": name, "value": value, "limit": limit, "met": met}


def _print_paths(size: int, *, repeats: int) -> list[Row]:
    print(f"xrecon's backends, PA and lateral film of {size}^3 voxels, {size}^2 pixels, medians of {repeats} runs:")
    rows = compare_paths(size, repeats=repeats)
    for row in rows:
        print(f"{row['what']:<20} {row['path']:<16} {row['ms']:>9.1f} ms, differs by {row['relative_difference']:.0e}")
    return rows


def processor() -> str:
    """Name of the processor as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
