"""Intervals and tests over few patients: bootstrap by patient, paired Wilcoxon with Holm, Wilson, AUC."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from xrecon.errors import InputError
from xrecon.evaluation.statistics.agreement import Estimate

RESAMPLES = 2000


def bootstrap_by_patient(
    statistic: Callable[[NDArray[np.int64]], float | None],
    patients: Sequence[Hashable],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Value of a statistic with its 95 % percentile interval over patients drawn with replacement.

    Cases of one patient are drawn together: they are no independent evidence. With one patient there is no interval.

    Args:
        statistic: of row indices [rows] (with repetitions); None or NaN where it has no value.
        patients: the patient of each row.
        resamples: number of draws.
        seed: of the draws.

    Raises:
        InputError: no rows.
    """
    if not patients:
        raise InputError("there are no rows to draw from")
    groups: dict[Hashable, list[int]] = {}
    for index, patient in enumerate(patients):
        groups.setdefault(patient, []).append(index)
    rows = [np.asarray(group, dtype=np.int64) for group in groups.values()]
    value = _finite(statistic(np.arange(len(patients))))
    if len(rows) < 2 or value is None:
        return Estimate(value)
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(rows), (resamples, len(rows)))
    drawn_values = [_finite(statistic(np.concatenate([rows[i] for i in draw]))) for draw in draws]
    numbers = [number for number in drawn_values if number is not None]
    # Where many draws have no value (one class only), those that have one are a biased choice.
    if len(numbers) < resamples // 2:
        return Estimate(value)
    low, high = np.percentile(numbers, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def mean_by_patient(values: Sequence[float | None], patients: Sequence[Hashable], *, seed: int = 0) -> Estimate:
    """Mean of the known values with the interval of `bootstrap_by_patient`; no value where none is known."""
    measured = [(v, p) for v, p in zip(values, patients, strict=True) if v is not None and math.isfinite(v)]
    if not measured:
        return Estimate(None)
    groups: dict[Hashable, list[float]] = {}
    for number, patient in measured:
        groups.setdefault(patient, []).append(number)
    value = sum(number for number, _ in measured) / len(measured)
    if len(groups) < 2:
        return Estimate(value)
    sums, counts = (np.asarray([of(group) for group in groups.values()]) for of in (sum, len))
    draws = np.random.default_rng(seed).integers(0, len(groups), (RESAMPLES, len(groups)))
    low, high = np.percentile(sums[draws].sum(axis=1) / counts[draws].sum(axis=1), [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def wilcoxon_pairs(first: ArrayLike, second: ArrayLike) -> float | None:
    """Two-sided p of the Wilcoxon signed-rank test of pairs; None for fewer than two pairs, 1 without a difference.

    Exact up to 25 pairs without ties. It cannot fall below `smallest_p`.
    """
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    difference = x - y
    if len(difference) < 2:
        return None
    if not difference.any():
        return 1.0
    sizes = np.abs(difference[difference != 0])
    exact = len(sizes) <= 25 and len(np.unique(sizes)) == len(sizes)
    return float(stats.wilcoxon(difference, zero_method="wilcox", method="exact" if exact else "approx").pvalue)


def smallest_p(pairs: int) -> float:
    """The smallest two-sided p that a Wilcoxon signed-rank test of so many pairs can give, 2 / 2^n.

    Four patients never reach 0.05.
    """
    return float(2 / 2**pairs)


def holm(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Holm's step-down adjustment (Scand J Stat 1979;6:65); None stays None and does not count as a test."""
    ranked = sorted((p, name) for name, p in p_values.items() if p is not None)
    adjusted: dict[str, float | None] = dict.fromkeys(p_values)
    largest = 0.0
    for rank, (p, name) in enumerate(ranked):
        largest = max(largest, min(1.0, (len(ranked) - rank) * p))
        adjusted[name] = largest
    return adjusted


def wilson(successes: int, trials: int) -> Estimate:
    """A proportion with Wilson's 95 % interval (J Am Stat Assoc 1927;22:209); no value without trials.

    It takes the trials as independent; several of one patient are not quite.

    Raises:
        InputError: more successes than trials, or a negative number.
    """
    if not 0 <= successes <= trials:
        raise InputError(f"expected 0 <= successes <= trials, got {successes} of {trials}")
    if not trials:
        return Estimate(None)
    z = float(stats.norm.ppf(0.975))
    share = successes / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half))


def auc(scores: ArrayLike, positive: ArrayLike) -> float | None:
    """Area under the ROC curve (Mann-Whitney): chance that a positive scores above a negative, ties half; None without
    both kinds.
    """
    values, labels = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    wins, losses = int(labels.sum()), int((~labels).sum())
    if not (wins and losses):
        return None
    ranks = stats.rankdata(values)
    return float((ranks[labels].sum() - wins * (wins + 1) / 2) / (wins * losses))


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
