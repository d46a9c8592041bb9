"""Widths of pneumothoraces drawn by `sample_planting` in the train CTs, against those that real films show.

Real ones (2,669 masks of a public collection of radiographs): 13, 19 and 33 mm at the quartiles, 5 % under 6.6 mm.

    python benchmarks/planted_widths.py --plants 6 --output build/planted-widths.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.anatomy.morphology import Spacing
from xrecon.config import load_config
from xrecon.data.split import Split, cases_in
from xrecon.environment import run_environment
from xrecon.errors import InputError
from xrecon.io.output.atomic import write_json_atomic
from xrecon.planting.pneumothorax import plant_pneumothorax
from xrecon.planting.prepared import prepare_chest
from xrecon.planting.sampling import sample_planting
from xrecon.planting.truth import Truth
from xrecon.volume import load_ct

MEASURES = ("ball in the air", "PA, more air than lung", "PA, air of 2 mm")
REAL_NARROW_MM = 6.6


def main(arguments: Sequence[str] | None = None) -> int:
    """Plant, measure, print a table, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, default=Path("../shared/data/ct"), help="folder of CTs")
    parser.add_argument("--split", type=Path, default=Path("configs/splits/shared-data.yaml"))
    parser.add_argument("--plants", type=int, default=6, help="in each CT")
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--output", type=Path, default=None, help="JSON file to write")
    options = parser.parse_args(arguments)
    if not options.dataset.is_dir():
        print(f"skipped: no CTs at {options.dataset}; give --dataset FOLDER")
        return 0
    torch.set_num_threads(1)
    rows, refused = [], 0
    for number, (case, path) in enumerate(cases_in(options.dataset, load_config(Split, options.split), "train")):
        ct = load_ct(path)
        prepared = prepare_chest(ct)
        rng = np.random.default_rng([options.seed, number])
        for _ in range(options.plants):
            settings = sample_planting(rng)
            try:
                truth = plant_pneumothorax(ct, prepared=prepared, **asdict(settings))[1]
            except InputError:
                refused += 1
                continue
            rows.append({"case": case, **asdict(settings), **widths(truth, ct.spacing_mm)})
    print(
        f"{len(rows)} plants, {refused} refused\n\n"
        "| width | mechanism | n | quartiles, mm | under 6.6 mm |\n|---|---|--:|--:|--:|"
    )
    for measure in MEASURES:
        for mechanism in ("both", "flow", "offset"):
            values = [row[measure] for row in rows if mechanism in ("both", row["mechanism"])]
            quartiles = " / ".join(f"{value:.1f}" for value in np.quantile(values, (0.25, 0.5, 0.75)))
            narrow = np.mean(np.asarray(values) < REAL_NARROW_MM)
            print(f"| {measure} | {mechanism} | {len(values)} | {quartiles} | {narrow:.0%} |")
    if options.output is not None:
        write_json_atomic(options.output, {"rows": rows, "environment": run_environment()}, overwrite=True)
    return 0


def widths(truth: Truth, spacing: Spacing) -> dict[str, Any]:
    """Largest inscribed widths of the air, mm, by measure; projections are parallel."""
    d, h, w = spacing
    air, lung = (share.sum(axis=1) * h for share in (truth.shares.air, truth.shares.lung))
    values = (
        inscribed_mm(truth.shares.air >= 0.5, spacing),
        inscribed_mm((air >= 2.0) & (air > lung), (d, w)),
        inscribed_mm(air >= 2.0, (d, w)),
    )
    return dict(zip(MEASURES, values, strict=True))


def inscribed_mm(mask: NDArray[np.bool_], spacing: tuple[float, ...]) -> float:
    """Diameter of the largest ball or disc inside a mask, mm."""
    return 2.0 * float(ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing).max())


if __name__ == "__main__":
    raise SystemExit(main())
