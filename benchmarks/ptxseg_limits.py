"""Where the limits of PTX-Seg's judgement lie between free air and what resembles it: measured on train cases only.

Every case is segmented healthy, with a pocket of free air and with bullae on the chest wall; as stored (sharp), and
averaged to 6 mm, which is as smooth as a reconstruction. The largest candidate of each is listed with what
`xrecon/ptxseg/judge.py` compares with its limits.

    python benchmarks/ptxseg_limits.py --dataset FOLDER --cases 003 004 --json limits.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import xrecon
from ptxseg import TRAIN
from xrecon.data.frame import framed
from xrecon.data.lungs import find_lungs
from xrecon.data.plant_confounders import plant_bulla
from xrecon.errors import InputError
from xrecon.inference.reconstruct import reconstruct
from xrecon.volume import Volume

SMOOTH_SIZE = 64
LEAST_ML = 5.0
SHOWN = ("edge_hu", "lung_share", "pure_share", "spread_hu", "depth_mm", "wall_share")


def chests(name: str, ct: Volume, *, pockets: list[float], bullae: list[float]) -> Iterator[tuple[str, Volume]]:
    """(what is in it, CT): healthy, with pockets, with bullae."""
    index = TRAIN.index(name)
    side = ("right", "left")[index % 2]
    yield "healthy", ct
    chest = find_lungs(ct)
    lung_ml = float((chest.right if side == "right" else chest.left).sum()) * ct.voxel_ml
    for turn, volume_ml in enumerate(pockets):
        pattern = ("supine", "upright", "lateral", "apical")[(index + turn) % 4]
        yield (
            "pocket",
            xrecon.plant_pneumothorax(
                ct, side=side, occupancy=volume_ml / lung_ml, pattern=pattern, seed=index, chest=chest
            )[0],
        )
    for turn, volume_ml in enumerate(bullae):
        try:
            yield "bulla", plant_bulla(ct, side=side, volume_ml=volume_ml, seed=index + turn)[0]
        except InputError as error:
            print(f"{name}: bulla of {volume_ml:.0f} mL: {error}", flush=True)


def largest(ct: Volume) -> dict[str, Any] | None:
    """The largest candidate of PTX-Seg with the numbers that are compared with limits; None if there is none."""
    findings = xrecon.segment(ct).findings
    parts = [one for one in findings["components"] if one["volume_ml"] >= LEAST_ML]
    if not parts:
        return None
    first = max(parts, key=lambda one: float(one["volume_ml"]))
    contrast = findings["lung_hu"][first["side"]] - findings["air_hu"]
    found = {key: first[key] for key in ("volume_ml", "kind", "confidence", "reason")}
    measured = first["measurements"]
    return {
        **found,
        **{key: measured[key] for key in SHOWN if key in measured},
        "pure_share": round(measured["above_air_hu"] / contrast, 3),
        "smooth": findings["flags"]["smooth_image"],
    }


def versions(kind: str, ct: Volume) -> Iterator[tuple[str, Volume]]:
    """The CT as stored, at 6 mm, and (healthy chests) as `deform`, which knows train cases, makes it from two films."""
    yield "stored", ct
    cube = framed(ct, SMOOTH_SIZE)
    yield "6 mm", cube
    if kind == "healthy":
        yield "deform", reconstruct(*xrecon.simulate(ct, size=128), model="deform", size=SMOOTH_SIZE).volume


def table(rows: list[dict[str, Any]]) -> str:
    """A line per group: how many were counted as free air, how surely; lowest, median and highest of each number."""
    lines = [f"| CT | holds | n | none | counted | confidence | {' | '.join(SHOWN)} |", "|---" * (6 + len(SHOWN)) + "|"]
    for version in dict.fromkeys(row["version"] for row in rows):
        for kind in dict.fromkeys(row["holds"] for row in rows if row["version"] == version):
            group = [row for row in rows if (row["version"], row["holds"]) == (version, kind)]
            seen = [row for row in group if row.get("kind")]
            counted = [row for row in seen if row["kind"] == "pneumothorax"]
            cells = [version, kind, str(len(group)), str(len(group) - len(seen)), str(len(counted))]
            cells += [_span([row["confidence"] for row in counted])]
            cells += [_span([row[key] for row in seen if row.get(key) is not None]) for key in SHOWN]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _span(values: list[float]) -> str:
    return f"{min(values):.3g} / {np.median(values):.3g} / {max(values):.3g}" if values else "-"


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, default=Path("../shared/data/ct"), help="folder of case_XXX.nii.gz")
    parser.add_argument("--cases", nargs="+", default=TRAIN, choices=TRAIN)
    parser.add_argument("--pockets", type=float, nargs="*", default=[90.0, 200.0, 400.0], metavar="ML")
    parser.add_argument("--bullae", type=float, nargs="*", default=[120.0, 400.0], metavar="ML")
    parser.add_argument("--json", type=Path, help="every row")
    given = parser.parse_args()
    if not given.dataset.is_dir():
        print(f"skipped: no CTs at {given.dataset}; give --dataset FOLDER")
        return
    rows: list[dict[str, Any]] = []
    for name in given.cases:
        ct = xrecon.load_ct(given.dataset / f"case_{name}.nii.gz").canonical()
        for kind, chest in chests(name, ct, pockets=given.pockets, bullae=given.bullae):
            for version, ct in versions(kind, chest):
                found = largest(ct) or {}
                rows.append({"case": name, "holds": kind, "version": version, **found})
                print(name, kind, version, {key: value for key, value in found.items() if key != "reason"}, flush=True)
        if given.json:
            given.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
