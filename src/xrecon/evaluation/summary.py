"""From rows per case to what a report says: mean, SD and interval by patient, tests against a baseline, agreement."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from xrecon.errors import InputError
from xrecon.evaluation.metrics.catalogue import HEADLINE, TESTED
from xrecon.evaluation.statistics.agreement import agreement
from xrecon.evaluation.statistics.comparison import holm, mean_by_patient, wilcoxon_pairs
from xrecon.evaluation.tables import PerCase, metric_names


def headline_rows(rows: Sequence[PerCase]) -> list[PerCase]:
    """The rows with the metrics of `HEADLINE` only."""
    return [
        PerCase(
            row.case,
            row.model,
            {metric.name: row.metrics[metric.name] for metric in HEADLINE if metric.name in row.metrics},
            row.seconds,
            patient=row.patient,
        )
        for row in rows
    ]


def summarise(rows: Sequence[PerCase], *, cases: int, seed: int = 0) -> dict[str, dict[str, dict[str, Any]]]:
    """Model -> metric -> mean, SD, 95 % interval (bootstrap by patient), n and the number of cases it should be.

    Args:
        rows: results.
        cases: size of the subset: the denominator.
        seed: of the bootstrap.
    """
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        table[model] = {}
        for name in [*metric_names(rows), "seconds"]:
            values: list[float | None] = [row.seconds if name == "seconds" else row.metrics.get(name) for row in own]
            known = [v for v in values if v is not None and math.isfinite(v)]
            mean = mean_by_patient(values, [row.patient or row.case for row in own], seed=seed)
            sd = None
            if len(known) > 1 and mean.value is not None:
                sd = math.sqrt(sum((v - mean.value) ** 2 for v in known) / (len(known) - 1))
            table[model][name] = {
                "mean": mean.value,
                "sd": sd,
                "ci95": None if mean.low is None else [mean.low, mean.high],
                "n": len(known),
                "of": cases,
            }
    return table


def compare_with_baseline(rows: Sequence[PerCase], baseline: str) -> list[dict[str, Any]]:
    """Per model and metric of `TESTED`: mean difference from the baseline on the same cases, p and Holm's p.

    Raises:
        InputError: the baseline has no results.
    """
    by_key = {(row.model, row.case): row for row in rows}
    models = list(dict.fromkeys(row.model for row in rows))
    if baseline not in models:
        raise InputError(f"the baseline {baseline!r} has no results; choose one of {', '.join(models)}")
    found: list[dict[str, Any]] = []
    for model in models:
        if model == baseline:
            continue
        for metric in TESTED:
            pairs = [
                (row.metrics.get(metric.name), by_key[baseline, row.case].metrics.get(metric.name))
                for row in rows
                if row.model == model and (baseline, row.case) in by_key
            ]
            known = [(a, b) for a, b in pairs if a is not None and b is not None and math.isfinite(a - b)]
            if not known:
                continue
            found.append(
                {
                    "model": model,
                    "baseline": baseline,
                    "metric": metric.name,
                    "n": len(known),
                    "mean_difference": sum(a - b for a, b in known) / len(known),
                    "better_in": sum(metric.better(a, b) for a, b in known),
                    "p": wilcoxon_pairs([a for a, _ in known], [b for _, b in known]),
                }
            )
    adjusted = holm({str(index): one["p"] for index, one in enumerate(found)})
    for index, one in enumerate(found):
        one["p_holm"] = adjusted[str(index)]
    return found


def pairs_of(
    rows: Sequence[PerCase], details: Mapping[tuple[str, str], Mapping[str, Any]], quantity: str
) -> dict[str, list[tuple[float, float]]]:
    """Model -> (estimate, truth) of a quantity that PTX-Seg found on both, such as "right_lung_ml"."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        told = details.get((row.case, row.model), {})
        if "found" not in told:
            continue
        pair = told["found"].get(quantity), told["true"].get(quantity)
        if None not in pair:
            found.setdefault(row.model, []).append(pair)
    return found


def agreements(pairs: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, dict[str, Any]]:
    """Model -> `Agreement` as plain values; only n for fewer than two pairs."""
    return {
        model: asdict(agreement([a for a, _ in both], [b for _, b in both])) if len(both) > 1 else {"n": len(both)}
        for model, both in pairs.items()
    }
