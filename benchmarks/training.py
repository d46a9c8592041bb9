"""Time of a training step, how long it waits for data, and where the time goes.

    python benchmarks/training.py
    python benchmarks/training.py --dataset chests-64 --set run.threads=1 --set data.workers=0 --json out.json

Without --dataset three artificial chests are prepared first. The medians are over --steps steps after a warm-up; the
profile is of two more steps on samples drawn before, and counts the time of each operation without what it calls.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from xrecon.config import load_config
from xrecon.environment import run_environment
from xrecon.training.gan import Gan
from xrecon.training.run_config import Training
from xrecon.training.samples import TrainingSamples, loader, open_data
from xrecon.training.session import make_fabric, volume_size

WARM_UP = 3
GROUPS = (
    ("convolutions, backward", ("convolution_backward", "_slow_conv2d_backward")),
    ("convolutions, forward", ("convolution", "conv2d", "conv3d", "mm", "bmm")),
    ("normalisation", ("norm",)),
    ("projections", ("Project", "project", "_Sweep")),
    ("copies and joins", ("copy_", "cat", "slice", "clone", "contiguous", "pad", "fill_", "zero_")),
    ("optimiser and mean of the weights", ("Adam", "lerp_", "addcdiv", "addcmul")),
)


def group_of(name: str) -> str:
    """The line of the table that an operation belongs to."""
    for group, parts in GROUPS:
        if any(part in name for part in parts):
            return group
    return "the rest"


def main() -> None:
    """Read the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, help="made by `xrecon prepare`")
    parser.add_argument("--config", type=Path, default=Path(__file__).parent.parent / "configs" / "tiny_cpu.yaml")
    parser.add_argument("--set", action="append", default=[], help="a setting, as for `xrecon train`")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.dataset is not None:
        measure(given, given.dataset)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(given, artificial(Path(folder)))


def artificial(folder: Path) -> Path:
    """A data set of three artificial chests at 64^3."""
    people, made = folder / "people", folder / "people-64"
    for words in (
        ("phantom", "-o", people, "--count", 3, "--size", 64),
        ("prepare", people / "ct", "-o", made, "--size", 64, "--test-share", 0, "--folds", 3),
    ):
        subprocess.run([sys.executable, "-m", "xrecon", *map(str, words), "--quiet"], check=True)
    return made


def measure(given: argparse.Namespace, dataset: Path) -> None:
    """Train a few steps, print the table, write the JSON."""
    training = load_config(Training, given.config, [f"data.path={dataset}", *given.set])
    if training.run.threads is not None:
        torch.set_num_threads(training.run.threads)
    fabric = make_fabric(training)
    cases, _ = open_data(training.data)
    size = volume_size(training)
    gan = Gan(training, fabric, spacing_mm=cases.frame_mm / size, steps=1000)
    samples = TrainingSamples(cases, training.data.augment, size=size, seed=training.seed)
    batches = loader(samples, first=0, settings=training.data, rank=0, processes=1)
    seconds, waited = [], []
    for number in range(WARM_UP + given.steps):
        began = time.perf_counter()
        batch = next(batches).to(fabric.device)
        drawn = time.perf_counter()
        gan.step([batch], number)
        waited.append(drawn - began)
        seconds.append(time.perf_counter() - began)
    ready = [next(batches).to(fabric.device) for _ in range(2)]
    with profile(activities=[ProfilerActivity.CPU]) as record:
        for number, batch in enumerate(ready):
            gan.step([batch], number)
    spent: Counter[str] = Counter()
    for event in record.key_averages():
        spent[group_of(event.key)] += event.self_cpu_time_total
    total = sum(spent.values())
    found: dict[str, Any] = {
        "environment": run_environment(),
        "threads": torch.get_num_threads(),
        "config": given.config.name,
        "set": given.set,
        "step_seconds": statistics.median(seconds[WARM_UP:]),
        "waited_seconds": statistics.median(waited[WARM_UP:]),
        "shares": {name: value / total for name, value in spent.most_common()},
    }
    print(f"{given.config.name}: {found['step_seconds']:.2f} s per step, {found['waited_seconds'] * 1000:.0f} ms of it")
    print(f"waiting for data; {found['threads']} threads, {training.data.workers} worker processes; medians")
    for name, share in found["shares"].items():
        print(f"  {share:6.1%}  {name}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
