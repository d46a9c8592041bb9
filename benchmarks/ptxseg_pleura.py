"""Is a pleural line seen between planted air and lung, and does it tell air from thin lung? Measured on train cases.

Two limits of PTX-Seg rest on the answer: `ptxseg/candidates/pleural_line.py` takes back what the flood took for air
though no line bounds it, and `judge.py` doubts a pocket whose border rises less than a line does. Pockets are those of
`benchmarks/ptxseg.py`; another thickness of the pleura is planted anew.

    python benchmarks/ptxseg_pleura.py --dataset FOLDER
    python benchmarks/ptxseg_pleura.py --cases 003 004 --bins 200 600 --pleura-mm 0.4 --json pleura.json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from ptxseg_tables import BINS_ML

import xrecon
from ptxseg import TRAIN, USUAL, chest_parser, dice, has_chests, planted
from xrecon.anatomy.morphology import bounding_box
from xrecon.planting.render import PLEURA_MM
from xrecon.ptxseg.candidates.air import flooded
from xrecon.ptxseg.candidates.pleural_line import LINE_HU, line_rises
from xrecon.ptxseg.hemithoraces.collapse import COMPRESSED_HU
from xrecon.ptxseg.levels import SHARP_REACH, AirLevels, side_levels
from xrecon.segmentation import Label, Segmentation, Side

LEAST_VOXELS = 100
MOSTLY = 0.5


def parts(ct: xrecon.Volume, truth: Segmentation, levels: AirLevels) -> list[dict[str, Any]]:
    """What the flood takes for air off pure air: voxels, rise of HU at its border over the lung, share that is air."""
    side = Side.RIGHT if (truth.air_side == Side.RIGHT).any() else Side.LEFT
    own = (truth.labels == side) | (truth.labels == Label.AIR)
    box = bounding_box(own, margin=8)
    assert box is not None
    hu, own, real = np.ascontiguousarray(ct.hu[box]), own[box], truth.labels[box] == Label.AIR
    air = flooded(hu, own, levels, spacing=ct.spacing_mm)
    labels, _, rises = line_rises(hu, own, air, levels, least=LEAST_VOXELS)
    return [
        {
            "voxels": int(np.count_nonzero(labels == number)),
            "rise_hu": rise,
            "air_share": float(real[labels == number].mean()),
        }
        for number, rise in rises
    ]


def one_pocket(ct: xrecon.Volume, truth: Segmentation) -> dict[str, Any]:
    """The counted candidates of a pocket and the parts of its flood."""
    found = xrecon.segment(ct)
    said = found.findings
    side = Side.RIGHT if (truth.air_side == Side.RIGHT).any() else Side.LEFT
    own = (truth.labels == side) | (truth.labels == Label.AIR)
    levels = side_levels(
        np.asarray(ct.hu), own, air_hu=said["air_hu"], noise_hu=said["noise_hu"], smooth=False, reach=SHARP_REACH
    )
    counted = [one for one in said["components"] if one["kind"] == "pneumothorax"]
    largest = max(counted, key=lambda one: float(one["volume_ml"]), default=None)
    lung_hu = said["lung_hu"][largest["side"]] if largest else levels.lung_hu
    step_hu = AirLevels(said["air_hu"], said["noise_hu"], lung_hu).step_hu
    return {
        "dice": dice(found.labels == Label.AIR, truth.labels == Label.AIR),
        "lung_hu": lung_hu,
        "over_line_hu": largest["measurements"]["edge_hu"] - step_hu if largest else None,
        "confidence": largest["confidence"] if largest else None,
        "depth_mm": largest["measurements"]["depth_mm"] if largest else None,
        "parts": parts(ct, truth, levels),
    }


def render(rows: list[dict[str, Any]]) -> str:
    """Two tables: the border of each pocket's largest candidate, and the parts off pure air."""
    lines = [
        (
            "| lung beside the pocket | n | found | air Dice | rise over that of a line, HU: least, median | below it "
            "| depth, mm, at most |"
        ),
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, group in (
        ("aerated", [row for row in rows if row["lung_hu"] < COMPRESSED_HU]),
        ("compressed", [row for row in rows if row["lung_hu"] >= COMPRESSED_HU]),
    ):
        over = [row["over_line_hu"] for row in group if row["over_line_hu"] is not None]
        if not over:
            continue
        found = sum(row["dice"] >= MOSTLY for row in group)
        mean = float(np.mean([row["dice"] for row in group]))
        lines.append(
            f"| {name} | {len(group)} | {found} | {mean:.3f} | {min(over):+.0f}, {np.median(over):+.0f} | "
            f"{sum(rise < 0 for rise in over)} | {max(row['depth_mm'] for row in group if row['depth_mm']):.1f} |"
        )
    lines += [
        "",
        (
            f"| parts off pure air, {LEAST_VOXELS} voxels or more | n | border over lung, HU: least, median, largest "
            f"| below {LINE_HU:.0f} HU |"
        ),
        "|---|--:|--:|--:|",
    ]
    everything = [part for row in rows for part in row["parts"]]
    for name, is_air in (("air", True), ("lung", False)):
        rises = [part["rise_hu"] for part in everything if (part["air_share"] >= MOSTLY) == is_air]
        if rises:
            spread = f"{min(rises):.0f}, {np.median(rises):.0f}, {max(rises):.0f}"
            lines.append(f"| {name} | {len(rises)} | {spread} | {sum(rise < LINE_HU for rise in rises)} |")
    return "\n".join(lines)


def main() -> None:
    """Read the arguments, measure, print."""
    parser = chest_parser(__doc__)
    parser.add_argument("--cases", nargs="+", default=TRAIN, choices=TRAIN)
    parser.add_argument("--bins", nargs="+", type=int, default=[*USUAL, 5000], choices=list(BINS_ML))
    parser.add_argument("--pleura-mm", type=float, default=PLEURA_MM)
    parser.add_argument("--json", type=Path, help="every pocket")
    given = parser.parse_args()
    if not has_chests(given.dataset):
        return
    cache = given.cache if given.pleura_mm == PLEURA_MM else given.cache / f"pleura-{given.pleura_mm:g}"
    cache.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name in given.cases:
        ct = xrecon.load_ct(given.dataset / f"case_{name}.nii.gz").canonical()
        for target in given.bins:
            sick = planted(name, ct, target_ml=target, index=TRAIN.index(name), cache=cache, pleura_mm=given.pleura_mm)
            if sick is not None:
                rows.append({"planted": sick[2], **one_pocket(sick[0], sick[1])})
                print({key: value for key, value in rows[-1].items() if key != "parts"}, flush=True)
        if given.json:
            given.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(render(rows))


if __name__ == "__main__":
    main()
