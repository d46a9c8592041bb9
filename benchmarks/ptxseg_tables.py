"""Tables of benchmarks/ptxseg.py: accuracy by size, agreement, healthy chests, what resembles a pneumothorax.

python benchmarks/ptxseg_tables.py train.json test.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrecon.evaluation.statistics.agreement import Estimate, bland_altman, icc_2_1
from xrecon.evaluation.statistics.comparison import bootstrap_by_patient

BINS_ML = {
    10: "5-15",
    20: "15-30",
    45: "30-60",
    90: "60-120",
    200: "120-300",
    600: "300-1000",
    1300: "1000 and more",
    5000: "85 % of the side",
}
"""Wanted volume of the planted pocket, mL, and the bin that it stands for; the last is limited by the occupancy."""
TARGET_DICE = {45: 0.80, 90: 0.88, 200: 0.93, 600: 0.95, 1300: 0.96, 5000: 0.96}
FOUND_DICE = 0.5
"""A pocket counts as found when the air found overlaps it at least this much."""

Rows = list[dict[str, Any]]
Floats = NDArray[np.float64]


def column(rows: Rows, name: str) -> Floats:
    """A column of numbers."""
    return np.array([row[name] for row in rows], dtype=np.float64)


def cell(rows: Rows, statistic: Callable[[Rows], float | None], digits: int, *, sign: str = "") -> str:
    """`value [low, high]`: 95 % interval by a bootstrap over patients, whose pockets are not independent."""
    found = bootstrap_by_patient(lambda picked: statistic([rows[i] for i in picked]), [row["case"] for row in rows])
    if found.value is None:
        return "-"
    text = f"{found.value:{sign}.{digits}f}"
    return text if found.low is None else f"{text} [{found.low:{sign}.{digits}f}, {found.high:{sign}.{digits}f}]"


def mean_of(name: str) -> Callable[[Rows], float | None]:
    """Mean of the known values of a column; None where there is none."""

    def mean(rows: Rows) -> float | None:
        known = column(rows, name)
        known = known[np.isfinite(known)]
        return float(known.mean()) if known.size else None

    return mean


def _volume_error(rows: Rows) -> float:
    return float(100.0 * (column(rows, "found_ml") / column(rows, "true_ml") - 1.0).mean())


def _ratio_icc(rows: Rows) -> float | None:
    truth = column(rows, "occupancy")
    return _icc(truth + column(rows, "occupancy_error_pp"), truth)


def _volume_icc(rows: Rows) -> float | None:
    return _icc(column(rows, "found_ml"), column(rows, "true_ml"))


def _icc(found: Floats, truth: Floats) -> float | None:
    return icc_2_1(np.stack([found, truth], axis=1)).value if len(truth) > 1 else None


def by_size(rows: Rows) -> str:
    """Air and lung by bin."""
    head = ("bin mL", "n", "found", "air Dice (lowest)", "goal", "HD95 mm", "ASSD mm", "volume error %")
    head += ("compressed lung Dice (lowest)", "air elsewhere mL, most")
    lines = [_line(head), _line(["---"] * len(head))]
    for name, target, part in _groups(rows):
        found = column(part, "dice") >= FOUND_DICE
        lines.append(
            _line(
                [
                    name,
                    str(len(part)),
                    f"{found.sum()}/{len(part)}",
                    f"{cell(part, mean_of('dice'), 3)} ({column(part, 'dice').min():.3f})",
                    f"{TARGET_DICE[target]:.2f}" if target in TARGET_DICE else "-",
                    cell(part, mean_of("hd95_mm"), 1),
                    cell(part, mean_of("assd_mm"), 2),
                    cell(part, _volume_error, 1, sign="+"),
                    f"{cell(part, mean_of('lung_dice'), 3)} ({column(part, 'lung_dice').min():.3f})",
                    f"{column(part, 'false_air_ml').max():.1f}",
                ]
            )
        )
    return "\n".join(lines)


def agreement_table(rows: Rows) -> str:
    """Occupancy found against truth by bin: Bland-Altman, ICC, share within one percentage point."""
    head = (
        "bin mL",
        "n",
        "bias pp",
        "limits of agreement pp",
        "ICC(2,1)",
        "median error pp",
        "largest pp",
        "within 1 pp",
    )
    lines = [_line(head), _line(["---"] * len(head))]
    for name, _, part in [*_groups(rows), ("all", 0, rows)]:
        error, truth = column(part, "occupancy_error_pp"), column(part, "occupancy")
        limits = "-"
        if len(part) > 1:
            limits = " to ".join(_ends(end) for end in _limits(truth + error, truth))
        lines.append(
            _line(
                [
                    name,
                    str(len(part)),
                    cell(part, mean_of("occupancy_error_pp"), 2, sign="+"),
                    limits,
                    cell(part, _ratio_icc, 4),
                    f"{np.median(np.abs(error)):.2f}",
                    f"{np.abs(error).max():.2f}",
                    f"{(np.abs(error) <= 1.0).mean():.0%}",
                ]
            )
        )
    return "\n".join([*lines, "", f"ICC(2,1) of the volume {cell(rows, _volume_icc, 4)}."])


def _limits(found: Floats, truth: Floats) -> tuple[Estimate, Estimate]:
    both = bland_altman(found, truth)
    return both.lower, both.upper


def _ends(limit: Estimate) -> str:
    return f"{limit.value:+.2f} [{limit.low:+.2f}, {limit.high:+.2f}]"


def _groups(rows: Rows) -> list[tuple[str, int, Rows]]:
    """Name of the bin, volume asked for, rows; without empty bins."""
    parts = [(name, target, [row for row in rows if row["target_ml"] == target]) for target, name in BINS_ML.items()]
    return [part for part in parts if part[2]]


def healthy_table(healthy: dict[str, dict[str, Any]]) -> str:
    """False air and agreement with contours of chests without a pneumothorax."""
    lines = [_line(("case", "false air mL", "Dice against reference contours", "not counted")), _line(["---"] * 4)]
    for case, one in healthy.items():
        dice = ", ".join(f"{name} {value:.3f}" for name, value in one.get("contours", {}).items()) or "-"
        kinds = ", ".join(
            f"{kind} {ml:.0f} mL" for kind, ml in one["components"] if ml >= 5.0 and kind != "pneumothorax"
        )
        lines.append(_line([case, f"{one['false_air_ml']:.1f}", dice, kinds or "-"]))
    amounts = [one["false_air_ml"] for one in healthy.values()]
    lines += ["", f"False air: median {np.median(amounts):.1f} mL, largest {max(amounts):.1f} mL, n = {len(amounts)}."]
    return "\n".join(lines)


def confounder_table(healthy: dict[str, dict[str, Any]]) -> str:
    """What is called a pneumothorax where other air was planted; empty if none was."""
    found: dict[str, list[tuple[float, float]]] = {}
    for one in healthy.values():
        for name, values in one.get("confounders", {}).items():
            found.setdefault(name, []).append((values["planted_ml"], values["false_air_ml"]))
    if not found:
        return ""
    lines = [_line(("planted", "n", "mL planted", "false air mL: median", "largest")), _line(["---"] * 5)]
    for name, pairs in found.items():
        planted, false = np.array(pairs).T
        size, most = f"{planted.min():.0f} to {planted.max():.0f}", f"{false.max():.1f}"
        lines.append(_line([name, str(len(pairs)), size, f"{np.median(false):.1f}", most]))
    return "\n".join(lines)


def detection_limit(rows: Rows) -> str:
    """The smallest bin from which on at least 95 % of the pockets were found."""
    limit = None
    for target in sorted(BINS_ML, reverse=True):
        part = [row for row in rows if row["target_ml"] == target]
        if not part:
            continue
        if (column(part, "dice") >= FOUND_DICE).mean() < 0.95:
            break
        limit = target, len(part), float(np.median(column(part, "true_ml")))
    if limit is None:
        return "No bin in which 95 % of the pockets were found."
    return (
        f"Detection limit: in the bin of {BINS_ML[limit[0]]} mL (median {limit[2]:.0f} mL, n = {limit[1]}) and "
        f"every larger one at least 95 % of the pockets were found (Dice {FOUND_DICE} or more)."
    )


def render(document: dict[str, Any]) -> str:
    """All tables of one run as Markdown. Brackets are 95 % intervals: over patients, of the limits over pairs."""
    rows, healthy = document["planted"], document["healthy"]
    parts = []
    if rows:
        seconds = column(rows, "wall_s")
        parts = [by_size(rows), agreement_table(rows), detection_limit(rows)]
        parts.append(f"Time for a case: median {np.median(seconds):.1f} s, longest {seconds.max():.1f} s.")
    if healthy:
        parts += [healthy_table(healthy), confounder_table(healthy)]
    return "\n\n".join(part for part in parts if part)


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the tables of result files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="*", type=Path, help="JSON of benchmarks/ptxseg.py --out")
    arguments = parser.parse_args()
    if not arguments.results:
        print("skipped: no result files given")
    for file in arguments.results:
        print(f"{file.name}\n\n{render(json.loads(file.read_text(encoding='utf-8')))}\n")


if __name__ == "__main__":
    main()
