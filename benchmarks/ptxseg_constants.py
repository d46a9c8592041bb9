"""What a constant of PTX-Seg does to planted train pockets: the same pockets with other values of it.

python benchmarks/ptxseg_constants.py --constant working_labels._COMPRESSED_CLOSE_MM --values 5 7 9 --bins 600 1300 5000
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from ptxseg_tables import BINS_ML

import xrecon
from ptxseg import TRAIN, chest_parser, has_chests, measure, planted

MEASURED = ("dice", "lung_dice", "occupancy_error_pp")


def table(name: str, rows: list[dict[str, Any]]) -> str:
    """A line per value: mean (lowest) Dice of air and lung, mean, largest and share within one point of the error."""
    lines = [
        f"| {name} | n | air Dice (lowest) | lung Dice (lowest) | occupancy error, points: mean, largest | within 1 |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for value in dict.fromkeys(row["value"] for row in rows):
        air, lung, error = (np.array([row[key] for row in rows if row["value"] == value]) for key in MEASURED)
        lines.append(
            f"| {value:g} | {len(air)} | {air.mean():.4f} ({air.min():.3f}) | {lung.mean():.4f} ({lung.min():.3f}) | "
            f"{error.mean():+.2f}, {error[np.abs(error).argmax()]:+.2f} | {int((np.abs(error) <= 1.0).sum())} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Read the arguments, measure, print."""
    parser = chest_parser(__doc__)
    parser.add_argument("--cases", nargs="+", default=TRAIN, choices=TRAIN)
    parser.add_argument("--bins", nargs="+", type=int, default=[600, 1300, 5000], choices=list(BINS_ML))
    parser.add_argument(
        "--constant", default="working_labels._COMPRESSED_CLOSE_MM", help="module of xrecon.ptxseg and name"
    )
    parser.add_argument("--values", nargs="+", type=float, default=[5.0, 7.0, 9.0])
    parser.add_argument("--json", type=Path, help="every pocket")
    given = parser.parse_args()
    if not has_chests(given.dataset):
        return
    module_name, _, name = given.constant.rpartition(".")
    module = importlib.import_module(f"xrecon.ptxseg.{module_name}")
    if not isinstance(getattr(module, name, None), float):
        raise SystemExit(f"--constant {given.constant!r}: xrecon.ptxseg.{module_name} has no number of that name")
    given.cache.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for case in given.cases:
        ct = xrecon.load_ct(given.dataset / f"case_{case}.nii.gz")
        for target in given.bins:
            sick = planted(case, ct, target_ml=target, index=TRAIN.index(case), cache=given.cache)
            if sick is None:
                continue
            for value in given.values:
                setattr(module, name, value)
                row = measure(sick[0], sick[1], lung_model="auto")
                rows.append({"planted": sick[2], "value": value, **{key: row[key] for key in MEASURED}})
                print(rows[-1], flush=True)
        if given.json:
            given.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(table(given.constant, rows))


if __name__ == "__main__":
    main()
