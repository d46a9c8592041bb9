"""Time of the online augmentation: processor time per step, and pairs per second of a data loader with workers.

Without a data set it uses the standard phantom. Steps are timed in processor seconds of one thread (what else the
machine does is left out); the loader is timed by the clock, after one warm-up pair per worker.

    python benchmarks/augment.py
    python benchmarks/augment.py --dataset chests-96 --samples 60 --workers 2
    python benchmarks/augment.py --dataset chests-96 --all-steps --output build/augment.json
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from xrecon.anatomy.body import body_mask, without_table
from xrecon.augmentation.augmenter import Augmenter
from xrecon.augmentation.settings import AugmentConfig
from xrecon.data.case_file import CaseData
from xrecon.data.dataset import PreparedDataset
from xrecon.environment import run_environment
from xrecon.films.simulation import film_pair, simulate
from xrecon.geometry import FRAME_MM, ConeBeam
from xrecon.io.output.atomic import write_json_atomic
from xrecon.phantoms.thorax import thorax_phantom

PHANTOM_SIZE = 96


class Pairs(Dataset[tuple[Any, ...]]):
    """One augmented pair per index, the cases in turn; the index is the seed."""

    def __init__(self, augmenter: Augmenter, cases: Sequence[Any], count: int) -> None:
        self.augmenter = augmenter
        self.cases = cases
        self.count = count

    def __len__(self) -> int:
        return self.count

    def case(self, index: int) -> CaseData:
        """The case of a sample."""
        entry = self.cases[index % len(self.cases)]
        return entry if isinstance(entry, CaseData) else entry.load()

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        sample = self.augmenter(self.case(index), index)
        return sample.ct, sample.pa, sample.lateral, sample.sides, sample.air, sample.measured


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, print two tables, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--dataset", type=Path, default=None, help="folder made by `xrecon prepare`; train cases are used"
    )
    parser.add_argument("--size", type=int, default=None, help="edge of the samples (default: that of the cases)")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2, help="processes of the data loader; 0 skips that part")
    parser.add_argument("--all-steps", action="store_true", help="every step in every sample instead of the defaults")
    parser.add_argument("--output", type=Path, default=None, help="JSON file to write")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cases, beams, frame_mm = _cases(options.dataset)
    config = _everything() if options.all_steps else AugmentConfig()
    size = options.size or (PHANTOM_SIZE if options.dataset is None else cases[0].load().size)
    pairs = Pairs(Augmenter(config, size=size, frame_mm=frame_mm, beams=beams), cases, options.samples)
    steps = _steps(pairs)
    result: dict[str, Any] = {"benchmark": "augment", "size": size, "all_steps": options.all_steps, "steps": steps}
    if options.workers:
        result["workers"] = options.workers
        result["pairs_per_second"] = _loader(pairs, options.workers)
        print(f"{options.workers} workers: {result['pairs_per_second']:.2f} pairs/s by the clock")
    if options.output is not None:
        write_json_atomic(options.output, {**result, "environment": run_environment()}, overwrite=True)


def _cases(folder: Path | None) -> tuple[Sequence[Any], tuple[ConeBeam, ConeBeam], float]:
    if folder is not None:
        data = PreparedDataset(folder, "train")
        return list(data), data.beams, data.frame_mm
    phantom = thorax_phantom(PHANTOM_SIZE, FRAME_MM / PHANTOM_SIZE)
    bare = without_table(phantom.volume)
    beams = film_pair("chest", size=PHANTOM_SIZE)
    pa, lateral = simulate(bare, geometry=beams, keep_table=True, centre_mm=np.zeros(3))
    case = CaseData(
        ct=np.clip(np.rint(bare.hu), -1024, 3071).astype(np.int16),
        pa=np.array(pa.image),
        lateral=np.array(lateral.image),
        sides=np.where(phantom.labels < 3, phantom.labels, np.uint8(0)).astype(np.uint8),
        air=np.zeros(bare.shape, dtype=np.uint8),
        body=body_mask(phantom.volume).astype(np.uint8),
        affine=np.array(bare.affine),
        scan_box=((0, PHANTOM_SIZE),) * 3,
        beams=beams,
    )
    return [case], beams, FRAME_MM


def _everything() -> AugmentConfig:
    names = [name for name in AugmentConfig.model_fields if name != "own_films"]
    return AugmentConfig.model_validate({name: {"probability": 1.0} for name in names})


def _steps(pairs: Pairs) -> dict[str, dict[str, float]]:
    """Median of each step where it ran, how often it ran, and its mean share of a sample."""
    pairs.augmenter(pairs.case(0), 0)  # compiles the kernels
    seconds: dict[str, list[float]] = {}
    totals = []
    for index in range(len(pairs)):
        _, spent = pairs.augmenter.timed(pairs.case(index), index)
        totals.append(sum(spent.values()))
        for name, value in spent.items():
            seconds.setdefault(name, []).append(value)
    rows = {
        name: {
            "median_ms": 1000 * statistics.median(values),
            "ran": len(values) / len(pairs),
            "mean_ms": 1000 * sum(values) / len(pairs),
        }
        for name, values in seconds.items()
    }
    rows["sample"] = {
        "median_ms": 1000 * statistics.median(totals),
        "ran": 1.0,
        "mean_ms": 1000 * statistics.fmean(totals),
    }
    print(f"{'step':<18}{'median, ms':>12}{'ran':>8}{'mean, ms':>10}")
    for name, row in rows.items():
        print(f"{name:<18}{row['median_ms']:>12.1f}{row['ran']:>8.0%}{row['mean_ms']:>10.1f}")
    return rows


def _loader(pairs: Pairs, workers: int) -> float:
    """Pairs per second by the clock."""
    longer = Pairs(pairs.augmenter, pairs.cases, len(pairs) + workers)
    loader = DataLoader(longer, batch_size=None, num_workers=workers, shuffle=False)
    iterator = iter(loader)
    for _ in range(workers):
        next(iterator)
    start = time.perf_counter()
    count = sum(1 for _ in iterator)
    return count / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
