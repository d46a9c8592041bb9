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
_DRAWS = 2000

Rows = list[dict[str, Any]]
Floats = NDArray[np.float64]


def column(rows: Rows, name: str) -> Floats:
    """A column of numbers."""
    return np.array([row[name] for row in rows], dtype=np.float64)


def interval(rows: Rows, statistic: Callable[[Rows], float]) -> tuple[float, float]:
    """95 % confidence interval by a bootstrap over patients: pockets of one patient are not independent."""
    rng = np.random.default_rng(0)
    cases = sorted({row["case"] for row in rows})
    by_case = [[row for row in rows if row["case"] == case] for case in cases]
    drawn = []
    for _ in range(_DRAWS):
        picked = [row for i in rng.integers(len(cases), size=len(cases)) for row in by_case[i]]
        drawn.append(statistic(picked))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def icc_2_1(first: Floats, second: Floats) -> float:
    """Intraclass correlation, two-way random effects, absolute agreement, single measurement (Shrout and Fleiss)."""
    values = np.stack([first, second], axis=1)
    n, k = values.shape
    mean = values.mean()
    rows = k * float(((values.mean(axis=1) - mean) ** 2).sum()) / (n - 1)
    raters = n * float(((values.mean(axis=0) - mean) ** 2).sum()) / (k - 1)
    rest = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0, keepdims=True) + mean
    error = float((rest**2).sum()) / ((n - 1) * (k - 1))
    return (rows - error) / (rows + (k - 1) * error + k * (raters - error) / n)


def bland_altman(difference: Floats) -> tuple[float, float, float]:
    """Mean difference, and the limits within which 95 % of differences are expected."""
    spread = 1.96 * float(difference.std(ddof=1)) if difference.size > 1 else float("nan")
    bias = float(difference.mean())
    return bias, bias - spread, bias + spread


def mean_with_interval(rows: Rows, name: str, digits: int = 3) -> str:
    """`mean [low, high]` of a column."""
    low, high = interval(rows, lambda part: float(np.nanmean(column(part, name))))
    return f"{np.nanmean(column(rows, name)):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def by_size(rows: Rows) -> str:
    """Air and lung by bin."""
    head = ("bin mL", "n", "found", "air Dice, mean [95 % CI] (lowest)", "goal", "HD95 mm", "ASSD mm", "volume error")
    head += ("compressed lung Dice", "air elsewhere mL, most")
    lines = [_line(head), _line(["---"] * len(head))]
    for target, name in BINS_ML.items():
        part = [row for row in rows if row["target_ml"] == target]
        if not part:
            continue
        found = column(part, "dice") >= FOUND_DICE
        volume = 100.0 * (column(part, "found_ml") / column(part, "true_ml") - 1.0)
        lines.append(
            _line(
                [
                    name,
                    str(len(part)),
                    f"{found.sum()}/{len(part)}",
                    f"{mean_with_interval(part, 'dice')} ({column(part, 'dice').min():.3f})",
                    f"{TARGET_DICE[target]:.2f}" if target in TARGET_DICE else "-",
                    f"{np.nanmean(column(part, 'hd95_mm')):.1f}",
                    f"{np.nanmean(column(part, 'assd_mm')):.2f}",
                    f"{volume.mean():+.1f} %",
                    f"{column(part, 'lung_dice').mean():.3f} ({column(part, 'lung_dice').min():.3f})",
                    f"{column(part, 'false_air_ml').max():.1f}",
                ]
            )
        )
    return "\n".join(lines)


def agreement(rows: Rows) -> str:
    """Occupancy found against truth by bin: Bland-Altman, share within one percentage point; ICC over all."""
    head = ("bin mL", "n", "bias pp", "limits of agreement pp", "median error pp", "largest pp", "within 1 pp")
    lines = [_line(head), _line(["---"] * len(head))]
    groups = [(name, [row for row in rows if row["target_ml"] == target]) for target, name in BINS_ML.items()]
    for name, part in [*groups, ("all", rows)]:
        if not part:
            continue
        error = column(part, "occupancy_error_pp")
        bias, low, high = bland_altman(error)
        lines.append(
            _line(
                [
                    name,
                    str(len(part)),
                    f"{bias:+.2f}",
                    f"{low:+.2f} to {high:+.2f}",
                    f"{np.median(np.abs(error)):.2f}",
                    f"{np.abs(error).max():.2f}",
                    f"{(np.abs(error) <= 1.0).mean():.0%}",
                ]
            )
        )
    if len(rows) > 2:
        low, high = interval(rows, _icc_of)
        volume = icc_2_1(column(rows, "true_ml"), column(rows, "found_ml"))
        lines += [
            "",
            f"ICC(2,1) of the occupancy {_icc_of(rows):.4f} [{low:.4f}, {high:.4f}], of the volume {volume:.4f}.",
        ]
    return "\n".join(lines)


def _icc_of(rows: Rows) -> float:
    truth = column(rows, "occupancy")
    return icc_2_1(truth, truth + column(rows, "occupancy_error_pp"))


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
    """All tables of one run as Markdown."""
    rows, healthy = document["planted"], document["healthy"]
    parts = []
    if rows:
        seconds = column(rows, "wall_s")
        parts = [by_size(rows), agreement(rows), detection_limit(rows)]
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
