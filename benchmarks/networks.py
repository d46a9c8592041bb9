"""Time and memory of the networks: inference by every path, and one complete GAN training step.

Each figure comes from a process of its own, so that its peak memory is its own. Inference is the median of the repeats
after one warm-up. Errors are against the plain forward, in HU (network values x 2500), for weights drawn at random and
smooth random films, or with `--model` for a trained network (of its own size) and films of the artificial thorax.

    python benchmarks/networks.py
    python benchmarks/networks.py --sizes 128 224 --paths published plain float32 --steps
    python benchmarks/networks.py --sizes 128 --paths float32 --steps --precision bfloat16 --output build/networks.json
    python benchmarks/networks.py --model xrecon
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from xrecon.environment import run_environment
from xrecon.errors import XReconError
from xrecon.films.normalisation import network_film
from xrecon.films.simulation import simulate
from xrecon.geometry import FRAME_MM
from xrecon.inference.models import find_model
from xrecon.inference.network_model import load_network
from xrecon.io.output.atomic import write_json_atomic
from xrecon.models import Discriminator, Generator, create, create_discriminator
from xrecon.models.config import HU_SCALE
from xrecon.models.fast import FastGenerator
from xrecon.models.precision import PRECISIONS, prepare
from xrecon.phantoms.thorax import thorax_phantom
from xrecon.projector import MultiAngleProjectionLoss

PATHS = ("published", "plain", "call", *PRECISIONS)
"""published: with the branches that the result does not depend on; plain: `net.forward_plain`; call:
`net(pa, lateral)`; the others: `xrecon.models.precision`."""
VOXEL_WEIGHT, PROJECTION_WEIGHT = 10.0, 0.1
LEARNING_RATE, BETAS = 5e-5, (0.5, 0.99)
"""Of the published training (docs/explanation/published-system.md, "Losses" and "Optimisation")."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="+", default=(64, 128), help="film and volume edges")
    parser.add_argument("--model", default=None, help="a trained network: shipped name or folder (gives the size)")
    parser.add_argument("--paths", nargs="*", choices=PATHS, default=PATHS, help="inference paths")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs; the median counts")
    parser.add_argument("--steps", action="store_true", help="also one GAN step per size")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of the GAN step")
    parser.add_argument("--no-checkpointing", action="store_true", help="GAN step: keep every volume")
    parser.add_argument("--threads", type=int, default=None, help="torch threads (default: torch's own choice)")
    parser.add_argument("--output", type=Path, default=None, help="JSON file to write")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if options.measure is not None:
        print(json.dumps(measure(options.measure, options)))
        return 0
    if options.model is not None:
        options.sizes = [trained(options.model).config.size]
    rows = []
    print(f"{'size':>5} {'what':<12} {'seconds':>9} {'peak GB':>8} {'error, HU: mean':>16} {'largest':>9}")
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            for what in (*options.paths, *(["step"] if options.steps else [])):
                row = _in_process(what, size, Path(folder) / "plain.pt", options)
                rows.append(row)
                error = (
                    f"{row['mean_error_hu']:>16.2e} {row['largest_error_hu']:>9.1e}" if "mean_error_hu" in row else ""
                )
                print(f"{size:>5} {what:<12} {row['seconds']:>9.2f} {row['peak_gb']:>8.2f} {error}", flush=True)
    if options.output is not None:
        try:
            values = {"benchmark": "networks", "rows": rows, "environment": run_environment()}
            write_json_atomic(options.output, values, overwrite=True)
        except XReconError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
    return 0


def _in_process(what: str, size: int, reference: Path, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", f"{what}:{size}:{reference}", "--repeats", str(options.repeats)]
    command += ["--precision", options.precision]
    if options.model is not None:
        command += ["--model", options.model]
    if options.no_checkpointing:
        command.append("--no-checkpointing")
    if options.threads is not None:
        command += ["--threads", str(options.threads)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode != 0:
        raise SystemExit(
            f"{what} at {size} failed with code {process.returncode} (negative: ended by that signal)\n{process.stderr}"
        )
    row: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return row


def measure(what: str, options: argparse.Namespace) -> dict[str, Any]:
    """One row: `what` is "path:size:file of the plain result"; the plain path writes that file, the others read it."""
    kind, size_text, file = what.split(":", 2)
    size, reference = int(size_text), Path(file)
    row: dict[str, Any] = {"what": kind, "size": size, "threads": torch.get_num_threads()}
    if kind == "step":
        row.update(precision=options.precision, checkpointing=not options.no_checkpointing)
        row["seconds"], row["losses"] = gan_step(
            size, bfloat16=options.precision == "bfloat16", checkpointing=not options.no_checkpointing
        )
    else:
        row["seconds"], result = inference(kind, size, repeats=options.repeats, model=options.model)
        row["peak_gb"] = _peak_gb()
        if kind == "plain":
            torch.save(result, reference)
        elif reference.exists():
            error = (result - torch.load(reference, weights_only=True)).abs() * HU_SCALE
            row["mean_error_hu"], row["largest_error_hu"] = float(error.mean()), float(error.max())
    row.setdefault("peak_gb", _peak_gb())
    return row


def films(size: int) -> tuple[Tensor, Tensor]:
    """Two smooth random films [1, 1, S, S] in 0..1."""
    rng = torch.Generator().manual_seed(1)
    coarse = torch.rand(2, 1, size // 8, size // 8, generator=rng)
    pa, lateral = functional.interpolate(coarse, size=(size, size), mode="bilinear").split(1)
    return pa, lateral


def thorax_films(size: int) -> tuple[Tensor, Tensor]:
    """PA and lateral film [1, 1, S, S] of the artificial thorax, scaled as in training."""
    pair = simulate(thorax_phantom(128, FRAME_MM / 128).volume, size=size)
    pa, lateral = (torch.from_numpy(network_film(film.image))[None, None] for film in pair)
    return pa, lateral


def trained(model: str) -> Generator:
    """The network of a shipped name or a folder."""
    folder = find_model(model).needs.network
    if folder is None:
        raise SystemExit(f"{model}: has no network; give a shipped network or a folder with model.json")
    return load_network(folder, device=torch.device("cpu")).network


def inference(path: str, size: int, *, repeats: int, model: str | None = None) -> tuple[float, Tensor]:
    """Median seconds, and the volume."""
    net = create("xrecon", size=size) if model is None else trained(model)
    assert isinstance(net, Generator)
    net.eval()
    call: Callable[[Tensor, Tensor], Tensor]
    if path == "published":
        call = lambda pa, lateral: net.forward_with_views(pa, lateral)[0]  # noqa: E731
    elif path == "plain":
        call = net.forward_plain
    elif path == "call":
        call = net
    else:
        call = prepare(net, precision=path)  # type: ignore[arg-type]
    pair = films(size) if model is None else thorax_films(size)
    seconds = []
    with torch.inference_mode():
        result = call(*pair)
        for _ in range(repeats):
            started = time.perf_counter()
            result = call(*pair)
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), result


def gan_step(size: int, *, bfloat16: bool, checkpointing: bool) -> tuple[float, dict[str, float]]:
    """Seconds of one complete step of both networks, the optimisers' included, and the losses.

    Six ProST projections (three of each volume), LSGAN and voxel loss with the published weights, Adam.
    """
    net, discriminator = create("xrecon", size=size), create_discriminator("coordconv")
    assert isinstance(net, Generator) and isinstance(discriminator, Discriminator)
    fast = FastGenerator(net, checkpointing=checkpointing)
    generator_adam = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE, betas=BETAS)
    discriminator_adam = torch.optim.Adam(discriminator.parameters(), lr=LEARNING_RATE, betas=BETAS)
    projections = MultiAngleProjectionLoss()
    rng = torch.Generator().manual_seed(2)
    pa, lateral = films(size)
    real = functional.interpolate(torch.rand(1, 1, 8, 8, 8, generator=rng), size=(size,) * 3, mode="trilinear")

    def adversarial_loss(ct: Tensor, target: float) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            scores = discriminator(ct, pa, lateral)
        assert isinstance(scores, Tensor)
        return (scores.float() - target).square().mean()

    started = time.perf_counter()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        fake = fast(pa, lateral)
    fake = fake.float()
    discriminator.requires_grad_(False)
    adversarial = adversarial_loss(fake, 1.0)
    voxel = functional.mse_loss(fake, real)
    projection = projections(fake, real, spacing_mm=FRAME_MM / size, generator=rng)
    total = adversarial + VOXEL_WEIGHT * voxel + PROJECTION_WEIGHT * projection
    total.backward()  # type: ignore[no-untyped-call]
    generator_adam.step()
    generator_adam.zero_grad()
    discriminator.requires_grad_(True)
    for ct, target in ((real, 1.0), (fake.detach(), 0.0)):
        # One backward pass per volume: the second does not wait on the activations of the first.
        adversarial_loss(ct, target).backward()  # type: ignore[no-untyped-call]
    discriminator_adam.step()
    losses = {"adversarial": float(adversarial), "voxel": float(voxel), "projection": float(projection)}
    return time.perf_counter() - started, losses


def _peak_gb() -> float:
    """Largest resident memory of this process so far, GB (10^9 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


if __name__ == "__main__":
    sys.exit(main())
