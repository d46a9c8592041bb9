"""Time the projector: the matrix-product path of aligned views against the plain reference path.

Both paths compute the same film (tests/projector/test_aligned.py). Every size is timed in this one process, the two
paths in turns, so that a busy machine slows both alike; compare the ratios, not the milliseconds of two machines.

    python benchmarks/projector.py
    python benchmarks/projector.py --sizes 64 128 --repeats 5 --output build/projector.json
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xrecon.environment import run_environment
from xrecon.errors import XReconError
from xrecon.geometry import FRAME_MM, ConeBeam
from xrecon.io.limits import write_json_atomic
from xrecon.projector.aligned import aligned_plan, project_aligned
from xrecon.projector.rays import ray_frame
from xrecon.projector.reference import project_reference

SIZES = (64, 128, 224)
VIEWS = ("pa", "lateral")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="voxels and detector pixels per edge")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each; the median counts")
    parser.add_argument("--threads", type=int, default=None, help="torch threads (default: torch's own choice)")
    parser.add_argument("--output", type=Path, default=None, help="JSON file to write")
    options = parser.parse_args(arguments)
    if options.repeats < 1 or min(options.sizes) < 2:
        parser.error("--repeats must be at least 1 and every size at least 2")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    print(f"PA + lateral film of one cube; {torch.get_num_threads()} threads; medians of {options.repeats} runs, ms")
    print(f"{'size':>5} {'what':<18} {'aligned':>10} {'reference':>10} {'ratio':>7} {'largest difference':>19}")
    rows = []
    for size in options.sizes:
        for row in measure(size, repeats=options.repeats):
            rows.append(row)
            print(
                f"{row['size']:>5} {row['what']:<18} {row['aligned_ms']:>10.1f} {row['reference_ms']:>10.1f} "
                f"{row['ratio']:>6.1f}x {row['relative_difference']:>19.1e}"
            )
    if options.output is not None:
        try:
            write_json_atomic(
                options.output,
                {"benchmark": "projector", "rows": rows, "environment": run_environment()},
                overwrite=True,
            )
        except XReconError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
    return 0


def measure(size: int, *, repeats: int) -> list[dict[str, Any]]:
    """Forward, and forward with gradient, of both paths at one size.

    Args:
        size: voxels per edge of the cube and detector pixels per edge, the frame's 384 mm wide.
        repeats: timed runs of each path.

    Returns:
        One row for each of the two tasks: medians in ms, their ratio, and the largest difference between the two
        results relative to the largest value.
    """
    spacing = (FRAME_MM / size,) * 3
    shape = (size, size, size)
    views = [ConeBeam.preset("chest", view, size=size) for view in VIEWS]
    plans = [aligned_plan(shape, spacing, view) for view in views]
    frames = [ray_frame(view) for view in views]
    volume = 0.02 * torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    weight = torch.rand(len(VIEWS), size, size, generator=torch.Generator().manual_seed(1))

    def aligned(mu: Tensor) -> Tensor:
        # The plan is made once per geometry and grid and kept; making it is not part of a projection.
        return torch.cat([project_aligned(mu, plan) for plan in plans if plan is not None])

    def reference(mu: Tensor) -> Tensor:
        return torch.cat([project_reference(mu, spacing, frame, (size, size)) for frame in frames])

    rows = []
    for what, task in (("forward", _forward), ("forward + backward", _gradient)):
        fast, slow = _timed(task, (aligned, reference), volume, weight, repeats=repeats)
        difference = float((fast[1] - slow[1]).abs().max() / slow[1].abs().max())
        rows.append(
            {
                "size": size,
                "what": what,
                "aligned_ms": 1000 * fast[0],
                "reference_ms": 1000 * slow[0],
                "ratio": slow[0] / fast[0],
                "relative_difference": difference,
                "repeats": repeats,
            }
        )
    return rows


def _forward(path: Callable[[Tensor], Tensor], volume: Tensor, weight: Tensor) -> Tensor:
    del weight
    with torch.no_grad():
        return path(volume)


def _gradient(path: Callable[[Tensor], Tensor], volume: Tensor, weight: Tensor) -> Tensor:
    leaf = volume.clone().requires_grad_()
    (path(leaf) * weight).sum().backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    return leaf.grad


def _timed(
    task: Callable[[Callable[[Tensor], Tensor], Tensor, Tensor], Tensor],
    paths: Sequence[Callable[[Tensor], Tensor]],
    volume: Tensor,
    weight: Tensor,
    *,
    repeats: int,
) -> list[tuple[float, Tensor]]:
    """(median seconds, result) of each path; one warm-up, then the paths in turns."""
    results = [task(path, volume, weight) for path in paths]
    seconds: list[list[float]] = [[] for _ in paths]
    for _ in range(repeats):
        for taken, path in zip(seconds, paths, strict=True):
            started = time.perf_counter()
            task(path, volume, weight)
            taken.append(time.perf_counter() - started)
    return [(statistics.median(taken), result) for taken, result in zip(seconds, results, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
