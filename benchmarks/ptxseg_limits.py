"""Where the limits of PTX-Seg's judgement lie between free air and what resembles it: measured on train cases only.

Every case is segmented healthy, with a pocket of free air and with bullae on the chest wall; as stored (sharp),
averaged to 6 mm, which is as smooth as a reconstruction, and to 4 mm, and blurred on its own grid. The largest
candidate of each is listed with what `xrecon/ptxseg/judge.py` compares with its limits. Pockets are those of
`benchmarks/ptxseg.py`.

    python benchmarks/ptxseg_limits.py --dataset FOLDER --cases 003 004 --json limits.json
    python benchmarks/ptxseg_limits.py --from limits-1.json limits-2.json
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ptxseg_tables import BINS_ML
from scipy import ndimage

import xrecon
from ptxseg import TRAIN, chest_parser, has_chests, planted
from xrecon.anatomy.frame import framed
from xrecon.errors import InputError
from xrecon.inference.reconstruct import reconstruct
from xrecon.planting.confounders import plant_bulla
from xrecon.volume import Volume

SMOOTH_SIZE, FINER_SIZE = 64, 96
BLUR_MM = 3.2
LEAST_ML = 5.0
SHOWN = ("edge_hu", "lung_share", "pure_share", "spread_hu", "depth_mm", "wall_share")


def chests(
    name: str, ct: Volume, *, pockets: list[int], bullae: list[float], cache: Path
) -> Iterator[tuple[str, Volume]]:
    """(what is in it, CT): healthy, with pockets, with bullae."""
    index = TRAIN.index(name)
    yield "healthy", ct
    for target in pockets:
        sick = planted(name, ct, target_ml=target, index=index, cache=cache)
        if sick is not None:
            yield f"pocket {BINS_ML[target]} mL", sick[0]
    for turn, volume_ml in enumerate(bullae):
        try:
            side = ("right", "left")[index % 2]
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
    """The CT as stored, smooth, and (healthy chests) as `deform`, which knows train cases, makes it from two films."""
    yield "stored", ct
    yield "6 mm", framed(ct, SMOOTH_SIZE)
    yield "4 mm", framed(ct, FINER_SIZE)
    blurred = ndimage.gaussian_filter(np.asarray(ct.hu), [BLUR_MM / pitch for pitch in ct.spacing_mm])
    yield "blurred", ct.with_hu(blurred)
    if kind == "healthy":
        yield "deform", reconstruct(*xrecon.simulate(ct, size=128), model="deform", size=SMOOTH_SIZE).volume


def table(rows: list[dict[str, Any]]) -> str:
    """A line per group: how many were counted, and lowest, median and highest of each number.

    Of the share on the wall also by verdict: of what was counted, and of what only that share kept from it.
    """
    head = ("CT", "holds", "n", "none", "counted", "confidence", *SHOWN, "wall_share counted", "wall_share refused")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for version in dict.fromkeys(row["version"] for row in rows):
        for kind in sorted({row["holds"] for row in rows if row["version"] == version}):
            group = [row for row in rows if (row["version"], row["holds"]) == (version, kind)]
            seen = [row for row in group if row.get("kind")]
            counted = [row for row in seen if row["kind"] == "pneumothorax"]
            refused = [row for row in seen if "in a smooth image, where" in row["reason"]]
            cells = [version, kind, str(len(group)), str(len(group) - len(seen)), str(len(counted))]
            cells += [_span([row["confidence"] for row in counted])]
            cells += [_span([row[key] for row in seen if row.get(key) is not None]) for key in SHOWN]
            cells += [f"{len(some)}: {_span([row['wall_share'] for row in some])}" for some in (counted, refused)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _span(values: list[float]) -> str:
    return f"{min(values):.3g} / {np.median(values):.3g} / {max(values):.3g}" if values else "-"


def main() -> None:
    """Read the arguments, measure, print."""
    parser = chest_parser(__doc__)
    parser.add_argument("--cases", nargs="+", default=TRAIN, choices=TRAIN)
    parser.add_argument("--pockets", type=int, nargs="*", default=[90, 200, 600], choices=list(BINS_ML), metavar="ML")
    parser.add_argument("--bullae", type=float, nargs="*", default=[120.0, 400.0], metavar="ML")
    parser.add_argument("--json", type=Path, help="every row")
    parser.add_argument(
        "--from", dest="earlier", nargs="+", type=Path, help="print the table of these and measure nothing"
    )
    given = parser.parse_args()
    if given.earlier:
        print(table([row for file in given.earlier for row in json.loads(file.read_text(encoding="utf-8"))]))
        return
    if not has_chests(given.dataset):
        return
    given.cache.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name in given.cases:
        stored = xrecon.load_ct(given.dataset / f"case_{name}.nii.gz").canonical()
        for kind, chest in chests(name, stored, pockets=given.pockets, bullae=given.bullae, cache=given.cache):
            for version, ct in versions(kind, chest):
                found = largest(ct) or {}
                rows.append({"case": name, "holds": kind, "version": version, **found})
                print(name, kind, version, {key: value for key, value in found.items() if key != "reason"}, flush=True)
        if given.json:
            given.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
