"""From rows per case to what a report says: mean, SD and interval by patient, tests against a baseline, agreement."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xrecon.errors import InputError
from xrecon.evaluation.metrics.anatomy import ChestVolumes
from xrecon.evaluation.metrics.catalogue import CATALOGUE, HEADLINE, TESTED
from xrecon.evaluation.statistics.agreement import Agreement, TooFewPairs, agreement_of
from xrecon.evaluation.statistics.comparison import holm, mean_by_patient, wilcoxon_pairs
from xrecon.evaluation.tables import PerCase, metric_names

Pairs = list[tuple[float, float]]
"""(estimate, truth) of one quantity."""


@dataclass(frozen=True)
class MetricSummary:
    """One metric of one model over all cases.

    Attributes:
        mean: over the cases that have a value; None if none has.
        sd: sample standard deviation (N - 1); None for fewer than two values.
        ci95: interval of the mean, from draws of patients; None with one patient.
        n: number of cases with a value.
        of: number of cases that were evaluated: the denominator.
    """

    mean: float | None
    sd: float | None
    ci95: tuple[float, float] | None
    n: int
    of: int


@dataclass(frozen=True)
class PairedTest:
    """One model against the baseline by one metric, on the cases that both have.

    Attributes:
        model: label of the model.
        baseline: label of the baseline.
        metric: name of the metric.
        n: number of cases.
        mean_difference: mean of model minus baseline.
        better_in: cases in which the model is better.
        p: two-sided, Wilcoxon signed-rank test; None for fewer than two cases.
        p_holm: the same with Holm's correction over all tests.
    """

    model: str
    baseline: str
    metric: str
    n: int
    mean_difference: float
    better_in: int
    p: float | None
    p_holm: float | None


def headline_rows(rows: Sequence[PerCase]) -> list[PerCase]:
    """The rows with the metrics of `HEADLINE` only."""
    names = [metric.name for metric in HEADLINE]
    return [replace(row, metrics={name: row.metrics[name] for name in names if name in row.metrics}) for row in rows]


def summarise(rows: Sequence[PerCase], *, cases: int, seed: int = 0) -> dict[str, dict[str, MetricSummary]]:
    """Model -> metric (and "seconds") -> `MetricSummary`.

    Args:
        rows: results.
        cases: size of the subset: the denominator.
        seed: of the bootstrap.
    """
    names = [*metric_names(rows), "seconds"]
    return {
        model: {name: _summary([row for row in rows if row.model == model], name, cases, seed) for name in names}
        for model in dict.fromkeys(row.model for row in rows)
    }


def _summary(rows: Sequence[PerCase], name: str, cases: int, seed: int) -> MetricSummary:
    values = [row.seconds if name == "seconds" else row.metrics.get(name) for row in rows]
    numbers = [v for v in values if v is not None and math.isfinite(v)]
    mean = mean_by_patient(values, [row.patient or row.case for row in rows], seed=seed)
    sd = None
    if len(numbers) > 1 and mean.value is not None:
        sd = math.sqrt(sum((v - mean.value) ** 2 for v in numbers) / (len(numbers) - 1))
    interval = None if mean.low is None or mean.high is None else (mean.low, mean.high)
    return MetricSummary(mean.value, sd, interval, len(numbers), cases)


def compare_with_baseline(rows: Sequence[PerCase], baseline: str) -> list[PairedTest]:
    """Per model and metric of `TESTED`: mean difference from the baseline on the same cases, p and Holm's p.

    Raises:
        InputError: the baseline has no results.
    """
    models = list(dict.fromkeys(row.model for row in rows))
    if baseline not in models:
        raise InputError(f"the baseline {baseline!r} has no results; choose one of {', '.join(models)}")
    tests: list[PairedTest] = []
    for model in models:
        for metric in TESTED if model != baseline else ():
            pairs = pairs_with_baseline(rows, metric.name, model=model, baseline=baseline)
            if pairs:
                tests.append(
                    PairedTest(
                        model=model,
                        baseline=baseline,
                        metric=metric.name,
                        n=len(pairs),
                        mean_difference=sum(a - b for a, b in pairs) / len(pairs),
                        better_in=sum(metric.better(a, b) for a, b in pairs),
                        p=wilcoxon_pairs([a for a, _ in pairs], [b for _, b in pairs]),
                        p_holm=None,
                    )
                )
    adjusted = holm({str(index): test.p for index, test in enumerate(tests)})
    return [replace(test, p_holm=adjusted[str(index)]) for index, test in enumerate(tests)]


def pairs_with_baseline(rows: Sequence[PerCase], name: str, *, model: str, baseline: str) -> Pairs:
    """(value of the model, value of the baseline) of a metric in each case in which both are finite numbers."""
    base = {row.case: row.metrics.get(name) for row in rows if row.model == baseline}
    pairs = [(row.metrics.get(name), base.get(row.case)) for row in rows if row.model == model]
    return [(a, b) for a, b in pairs if a is not None and b is not None and math.isfinite(a) and math.isfinite(b)]


def values_of(rows: Sequence[PerCase], name: str, *, model: str) -> list[float]:
    """The finite values of a metric of a model, one per case that has one."""
    values = [row.metrics.get(name) for row in rows if row.model == model]
    return [value for value in values if value is not None and math.isfinite(value)]


def typical_cases(rows: Sequence[PerCase], name: str, *, model: str) -> dict[str, PerCase]:
    """Best, median and worst case of a model by a metric; only the best of fewer than three.

    Raises:
        InputError: the model has no case with a value.
    """
    measured = [row for row in rows if row.model == model and _is_number(row.metrics.get(name))]
    if not measured:
        raise InputError(f"{model} has no case with a value of {name}")
    ranked = sorted(
        measured, key=lambda row: row.metrics[name] or 0.0, reverse=CATALOGUE[name].higher_is_better is True
    )
    if len(ranked) < 3:
        return {"best": ranked[0]}
    return {"best": ranked[0], "median": ranked[(len(ranked) - 1) // 2], "worst": ranked[-1]}


def pairs_of(
    rows: Sequence[PerCase], details: Mapping[tuple[str, str], Mapping[str, Any]], quantity: str
) -> dict[str, Pairs]:
    """Model -> (estimate, truth) of a quantity that PTX-Seg measured on both, such as "right_lung_ml".

    Args:
        rows: results.
        details: (case, model) -> what is stored beside the metrics; `found` and `true` hold `ChestVolumes`.
        quantity: a field of `ChestVolumes`.
    """
    pairs: dict[str, Pairs] = {}
    for row in rows:
        stored = details.get((row.case, row.model), {})
        if "found" not in stored:
            continue
        estimate, truth = (
            getattr(ChestVolumes.from_dict(volumes), quantity) for volumes in (stored["found"], stored["true"])
        )
        if estimate is not None and truth is not None:
            pairs.setdefault(row.model, []).append((estimate, truth))
    return pairs


def agreements(pairs: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Agreement | TooFewPairs]:
    """Model -> how estimate and truth agree."""
    return {model: agreement_of(values) for model, values in pairs.items()}


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
