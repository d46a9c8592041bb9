"""Processor seconds and memory of one training step on one thread: GANs by their settings, film networks by pixel.

Samples are random numbers (GANs), or film pairs of a film library that are in memory (film networks).

    python benchmarks/training_step.py --configs configs/xrecon_128_slim.yaml configs/x2ctgan_128_slim.yaml
    python benchmarks/training_step.py --configs configs/xrecon_128_slim.yaml --set run.precision=32-true
    python benchmarks/training_step.py --configs --library films --pixels 1.5 3 6
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from xrecon.config import load_config
from xrecon.geometry import FRAME_MM
from xrecon.models.film_network import FilmNet
from xrecon.training.films.film_loss import film_loss
from xrecon.training.films.film_pool import FilmPool
from xrecon.training.films.film_training import FilmTraining
from xrecon.training.gan import Gan
from xrecon.training.losses import Batch
from xrecon.training.run_config import Training
from xrecon.training.session import make_fabric

STEPS = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each network in a process of its own, and print one line for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="*", default=["configs/tiny_cpu.yaml"], help="settings of GANs")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the GANs to change")
    parser.add_argument("--library", default=None, help="film library for the film networks")
    parser.add_argument("--pixels", type=float, nargs="*", default=[1.5], help="pixel pitch of the film networks, mm")
    parser.add_argument("--film-set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the film networks")
    parser.add_argument("--one", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one is not None:
        kind, *values = json.loads(options.one)
        torch.set_num_threads(1)
        (gan_step if kind == "gan" else film_step)(*values)
        return 0
    jobs = [["gan", config, options.set] for config in options.configs]
    if options.library is not None:
        jobs += [["film", options.library, pixel, options.film_set] for pixel in options.pixels]
    for job in jobs:
        subprocess.run([sys.executable, __file__, "--one", json.dumps(job)], check=True)
    return 0


def gan_step(config: str, changes: list[str]) -> None:
    """Steps of a GAN on random numbers; the first is left out."""
    training = load_config(Training, Path(config), ["data.path=unused", "run.accelerator=cpu", *changes])
    size = int(training.generator.settings["size"])
    gan = Gan(training, make_fabric(training), spacing_mm=FRAME_MM / size, steps=1000)
    rng = torch.Generator().manual_seed(0)
    films = [torch.rand(1, 1, size, size, generator=rng) for _ in range(2)]
    volume = torch.rand(1, 1, size, size, size, generator=rng)
    empty = torch.zeros(1, 1, size, size, size, dtype=torch.uint8)
    batch = Batch(films[0], films[1], volume, empty, empty, torch.ones_like(empty, dtype=torch.bool))
    seconds = []
    for number in range(STEPS):
        started = time.process_time()
        values = gan.step([batch], number, norms=number == 0)
        seconds.append(time.process_time() - started)
        if number == 0:
            norms = {name: round(value, 4) for name, value in values.items() if "norm" in name}
    line = f"{config} {' '.join(changes)}: {_figures(seconds[1:])}"
    print(f"{line}; norms of the gradients at the first step {norms}", flush=True)


def film_step(library: str, pixel_mm: float, changes: list[str]) -> None:
    """Steps of the film networks on pairs that are in memory: films and network apart; the first is left out."""
    settings = load_config(FilmTraining, None, [f"network.pixel_mm={pixel_mm}", *changes])
    pool = FilmPool(Path(library), settings)
    network = FilmNet(settings.network)
    films, networks = [], []
    for number in range(STEPS):
        pool.batch(number)  # reads the pairs
        started = time.process_time()
        inputs, target = pool.batch(number)
        films.append(time.process_time() - started)
        started = time.process_time()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=settings.bfloat16):
            maps = network(inputs)
        film_loss(maps, target, air_weight=settings.air_weight).backward()  # type: ignore[no-untyped-call]
        networks.append(time.process_time() - started)
    weights = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    settings_text = " ".join(changes)
    print(
        f"film networks, {pixel_mm:g} mm {settings_text}: {weights:.2f} M weights, films {min(films[1:]):.2f} s, "
        f"network {_figures(networks[1:])}",
        flush=True,
    )


def _figures(seconds: list[float]) -> str:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return f"median {statistics.median(seconds):.2f}, least {min(seconds):.2f} CPU s, peak memory {memory:.1f} GB"


if __name__ == "__main__":
    raise SystemExit(main())
