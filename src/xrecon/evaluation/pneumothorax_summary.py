"""What the pneumothorax study says, per model: detection, side, size, overlap, and how much of the lesion survives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from xrecon.evaluation.statistics.agreement import Estimate, agreement
from xrecon.evaluation.statistics.comparison import auc, bootstrap_by_patient, mean_by_patient, wilson

DETECT_ML = 10.0
"""Free air that PTX-Seg must find, on both sides together, to count as a detection."""

Row = dict[str, Any]


def summarise_study(rows: Sequence[Row], *, detect_ml: float = DETECT_ML, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Model or control -> figures, all as plain values with their denominators.

    A chest that PTX-Seg refused counts as "nothing found" for detection and is left out of sizes and overlaps; the
    number of such chests is stated. Intervals of proportions are Wilson's (trials taken as independent), all others
    from draws of patients.

    Args:
        rows: of `run_pneumothorax_study`.
        detect_ml: threshold of a detection, mL.
        seed: of the bootstrap.
    """
    return {
        model: _of_model([row for row in rows if row["model"] == model], detect_ml, seed)
        for model in dict.fromkeys(row["model"] for row in rows)
    }


def found_ml(row: Row) -> float:
    """Free air found, both sides, mL; 0 where PTX-Seg refused."""
    return float((row["found"]["right_air_ml"] or 0.0) + (row["found"]["left_air_ml"] or 0.0))


def found_side(row: Row) -> str:
    """Side with more free air."""
    right, left = (row["found"][f"{side}_air_ml"] or 0.0 for side in ("right", "left"))
    return "right" if right > left else "left"


def recovered_ml(row: Row) -> float | None:
    """Free air found on the planted side, mL; None where PTX-Seg refused."""
    value = row["found"][f"{row['side']}_air_ml"]
    return None if value is None else float(value)


def occupancy_pairs(rows: Sequence[Row], model: str) -> list[tuple[float, float]]:
    """(found, planted) occupancy of the whole chest, percent, plants and healthy chests."""
    return [
        (row["found"]["whole_chest"], row["true"]["whole_chest"])
        for row in rows
        if row["model"] == model and row["found"]["whole_chest"] is not None
    ]


def _of_model(rows: Sequence[Row], detect_ml: float, seed: int) -> dict[str, Any]:
    sick = [row for row in rows if row["asked"] > 0]
    healthy = [row for row in rows if row["asked"] == 0]
    caught = [row for row in sick if found_ml(row) >= detect_ml]
    quiet = sum(found_ml(row) < detect_ml for row in healthy)
    sizes = sorted({row["asked"] for row in sick})
    return {
        "chests": len(rows),
        "patients": len({row["patient"] for row in rows}),
        "refused": sum(row["found"]["whole_chest"] is None for row in rows),
        "sensitivity": _proportion(len(caught), len(sick)),
        "specificity": _proportion(quiet, len(healthy)),
        "side": _proportion(sum(found_side(row) == row["side"] for row in caught), len(caught)),
        "auc": _auc(rows, seed),
        "occupancy": _agreement([row for row in rows if row["found"]["whole_chest"] is not None]),
        "air_dice": _mean(sick, lambda row: row.get("air_dice"), seed),
        "by_size": [
            {"asked": size, **_of_size([row for row in sick if row["asked"] == size], detect_ml, seed)}
            for size in sizes
        ],
        "change": _change(sick, seed),
    }


def _of_size(rows: Sequence[Row], detect_ml: float, seed: int) -> dict[str, Any]:
    return {
        "n": len(rows),
        "planted_ml": _mean(rows, lambda row: row["true"]["air_ml"], seed),
        "sensitivity": _proportion(sum(found_ml(row) >= detect_ml for row in rows), len(rows)),
        "recovered_ml": _mean(rows, recovered_ml, seed),
        "recovered_share": _mean(rows, lambda row: _ratio(recovered_ml(row), row["true"]["air_ml"]), seed),
        "air_dice": _mean(rows, lambda row: row.get("air_dice"), seed),
        "change_share": _mean(rows, lambda row: _change_share(row, ""), seed),
        "mirror_share": _mean(rows, lambda row: _change_share(row, "mirror_"), seed),
    }


def _change(rows: Sequence[Row], seed: int) -> dict[str, Any]:
    """Mean change of HU in the air and in its mirror image, of the CT and of the estimate."""
    return {
        name: _mean(rows, lambda row, key=name: (row.get("change") or {}).get(key), seed)  # type: ignore[misc]
        for name in ("true", "found", "mirror_true", "mirror_found")
    }


def _change_share(row: Row, where: str) -> float | None:
    """Change of HU of the estimate over the CT's change in the air: 1 is the whole lesion, 0 none of it."""
    change = row.get("change") or {}
    found, true = change.get(f"{where}found"), change.get("true")
    return _ratio(found, true)


def _ratio(found: float | None, true: float | None) -> float | None:
    return None if found is None or not true else found / true


def _mean(rows: Sequence[Row], value: Callable[[Row], float | None], seed: int) -> dict[str, Any]:
    values = [value(row) for row in rows]
    found = mean_by_patient(values, [row["patient"] for row in rows], seed=seed) if rows else Estimate(None)
    return {**asdict(found), "n": sum(v is not None for v in values), "of": len(values)}


def _proportion(successes: int, trials: int) -> dict[str, Any]:
    return {**asdict(wilson(successes, trials)), "n": successes, "of": trials}


def _auc(rows: Sequence[Row], seed: int) -> dict[str, Any]:
    kept = [row for row in rows if row["found"]["whole_chest"] is not None]
    if not kept:
        return {**asdict(Estimate(None)), "of": len(rows)}
    scores = np.asarray([row["found"]["whole_chest"] for row in kept])
    labels = np.asarray([row["asked"] > 0 for row in kept])
    found = bootstrap_by_patient(
        lambda index: auc(scores[index], labels[index]), [row["patient"] for row in kept], resamples=500, seed=seed
    )
    return {**asdict(found), "n": len(kept), "of": len(rows)}


def _agreement(rows: Sequence[Row]) -> dict[str, Any]:
    """Occupancy of the whole chest, percent: found against planted."""
    if len(rows) < 2:
        return {"n": len(rows)}
    found = agreement([row["found"]["whole_chest"] for row in rows], [row["true"]["whole_chest"] for row in rows])
    return found.to_dict()
