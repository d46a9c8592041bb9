"""Agreement of two measurements of one quantity (occupancy on the reconstructed and on the true CT), with intervals.

Intraclass correlations follow Shrout and Fleiss (Psychol Bull 1979;86:420) in their notation, with the exact F
intervals given there and by McGraw and Wong (Psychol Methods 1996;1:30); Bland-Altman limits follow Bland and Altman
(Stat Methods Med Res 1999;8:135); concordance follows Lin (Biometrics 1989;45:255).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from xrecon.errors import InputError

Floats = NDArray[np.float64]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure with its confidence interval; None where it cannot be computed from so few or so equal values."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class BlandAltman:
    """Differences (estimate minus truth) against means, in the unit of the data.

    Attributes:
        bias: mean difference.
        sd: standard deviation of the differences (N - 1).
        lower: limit of agreement, bias - 1.96 SD, with its interval.
        upper: limit of agreement, bias + 1.96 SD, with its interval.
        slope: change of the difference per unit of the mean (proportional bias), with its interval.
        slope_p: two-sided p of a slope other than 0.
    """

    bias: Estimate
    sd: float | None
    lower: Estimate
    upper: Estimate
    slope: Estimate
    slope_p: float | None


@dataclass(frozen=True)
class Agreement:
    """Everything about two measurements of the same things. All intervals are of 95 %.

    Attributes:
        n: number of pairs.
        pearson: r, interval by Fisher's z.
        spearman: rank correlation.
        icc_2_1: absolute agreement, single measurement, both raters random.
        icc_3_1: consistency, single measurement, raters fixed.
        concordance: Lin's, interval by his z.
        bland_altman: see there.
        mean_absolute_error: in the unit of the data.
    """

    n: int
    pearson: Estimate
    spearman: Estimate
    icc_2_1: Estimate
    icc_3_1: Estimate
    concordance: Estimate
    bland_altman: BlandAltman
    mean_absolute_error: float


@dataclass(frozen=True)
class TooFewPairs:
    """What stands in the place of an `Agreement` of fewer than two pairs.

    Attributes:
        n: number of pairs, 0 or 1.
    """

    n: int


def agreement_of(pairs: Sequence[tuple[float, float]]) -> Agreement | TooFewPairs:
    """`agreement` of (estimate, truth) pairs, however few there are."""
    if len(pairs) < 2:
        return TooFewPairs(len(pairs))
    return agreement([estimate for estimate, _ in pairs], [truth for _, truth in pairs])


def agreement(estimate: ArrayLike, truth: ArrayLike) -> Agreement:
    """Compare two measurements [n] of the same n things, at least two of them.

    Raises:
        InputError: other lengths, fewer than two pairs, or values that are not finite.
    """
    x, y = _pairs(estimate, truth)
    ratings = np.stack([x, y], axis=1)
    return Agreement(
        n=len(x),
        pearson=pearson(x, y),
        spearman=_spearman(x, y),
        icc_2_1=icc_2_1(ratings),
        icc_3_1=icc_3_1(ratings),
        concordance=concordance(x, y),
        bland_altman=bland_altman(x, y),
        mean_absolute_error=float(np.mean(np.abs(x - y))),
    )


def pearson(estimate: ArrayLike, truth: ArrayLike) -> Estimate:
    """Correlation with the interval of Fisher's z (from four pairs on). Raises InputError as `agreement`."""
    x, y = _pairs(estimate, truth)
    if _constant(x) or _constant(y):
        return Estimate(None)
    return _fisher(float(np.clip(np.corrcoef(x, y)[0, 1], -1, 1)), len(x))


def concordance(estimate: ArrayLike, truth: ArrayLike) -> Estimate:
    """Lin's concordance: correlation with the line of identity. Raises InputError as `agreement`."""
    x, y = _pairs(estimate, truth)
    vx, vy, gap = x.var(), y.var(), x.mean() - y.mean()
    total = vx + vy + gap**2
    if total <= 0:
        return Estimate(None)
    value = float(2 * np.mean((x - x.mean()) * (y - y.mean())) / total)
    r = pearson(x, y).value
    if r is None or len(x) < 4 or abs(r) in (0.0, 1.0) or abs(value) >= 1 or value == 0:
        return Estimate(value)
    u2 = gap**2 / math.sqrt(vx * vy)
    # Variance of Lin's z transform (1989, with the correction of 2000).
    variance = (
        (1 - r**2) * value**2 / ((1 - value**2) * r**2)
        + 2 * value**3 * (1 - value) * u2 / (r * (1 - value**2) ** 2)
        - value**4 * u2**2 / (2 * r**2 * (1 - value**2) ** 2)
    ) / (len(x) - 2)
    half = _normal() * math.sqrt(max(variance, 0.0))
    z = math.atanh(value)
    return Estimate(value, math.tanh(z - half), math.tanh(z + half))


def icc_2_1(ratings: ArrayLike) -> Estimate:
    """ICC(2,1) of [targets, raters]: two-way random effects, absolute agreement, one measurement.

    Raises:
        InputError: not two-dimensional, fewer than two targets or raters, or values that are not finite.
    """
    table = _table(ratings)
    n, k = table.shape
    between, raters, error = _mean_squares(table)
    bottom = between + (k - 1) * error + k * (raters - error) / n
    if bottom <= 0:
        return Estimate(None)
    value = (between - error) / bottom
    # Below 0 the approximate degrees of freedom of the interval fail: it need not even hold the value.
    if error <= 0 or value <= 0:
        return Estimate(float(value))
    f = raters / error
    v = (k - 1) * (n - 1) * (k * value * f + n * (1 + (k - 1) * value) - k * value) ** 2
    v /= (n - 1) * k**2 * value**2 * f**2 + (n * (1 + (k - 1) * value) - k * value) ** 2
    upper = stats.f.ppf(0.5 + CONFIDENCE / 2, n - 1, v)
    lower = stats.f.ppf(0.5 + CONFIDENCE / 2, v, n - 1)
    spread = k * raters + (k * n - k - n) * error
    low = n * (between - upper * error) / (upper * spread + n * between)
    high = n * (lower * between - error) / (spread + n * lower * between)
    return Estimate(float(value), float(low), float(high))


def icc_3_1(ratings: ArrayLike) -> Estimate:
    """ICC(3,1) of [targets, raters]: raters fixed, consistency, one measurement. Raises InputError as `icc_2_1`."""
    table = _table(ratings)
    n, k = table.shape
    between, _, error = _mean_squares(table)
    bottom = between + (k - 1) * error
    if bottom <= 0:
        return Estimate(None)
    value = (between - error) / bottom
    if error <= 0:
        return Estimate(float(value))
    f = between / error
    freedom = (n - 1) * (k - 1)
    low = f / stats.f.ppf(0.5 + CONFIDENCE / 2, n - 1, freedom)
    high = f * stats.f.ppf(0.5 + CONFIDENCE / 2, freedom, n - 1)
    return Estimate(float(value), float((low - 1) / (low + k - 1)), float((high - 1) / (high + k - 1)))


def bland_altman(estimate: ArrayLike, truth: ArrayLike) -> BlandAltman:
    """Bias, limits of agreement and proportional bias, with intervals. Raises InputError as `agreement`."""
    x, y = _pairs(estimate, truth)
    n = len(x)
    difference, mean = x - y, (x + y) / 2
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    t, z = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)), _normal()
    half = t * sd / math.sqrt(n)
    wide = t * sd * math.sqrt(1 / n + z**2 / (2 * (n - 1)))
    slope, p = Estimate(None), None
    if n > 2 and not _constant(mean):
        fit = stats.linregress(mean, difference)
        reach = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 2)) * fit.stderr
        slope, p = Estimate(float(fit.slope), float(fit.slope - reach), float(fit.slope + reach)), float(fit.pvalue)
    limits = [Estimate(end, end - wide, end + wide) for end in (bias - z * sd, bias + z * sd)]
    return BlandAltman(Estimate(bias, bias - half, bias + half), sd, limits[0], limits[1], slope, p)


def _spearman(x: Floats, y: Floats) -> Estimate:
    if _constant(x) or _constant(y):
        return Estimate(None)
    value = float(np.clip(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1], -1, 1))
    # Bonett and Wright (Psychometrika 2000): the variance of Fisher's z of a rank correlation.
    return _fisher(value, len(x), factor=1 + value**2 / 2)


def _fisher(r: float, n: int, *, factor: float = 1.0) -> Estimate:
    if n < 4:
        return Estimate(r)
    if abs(r) >= 1 - 1e-12:
        return Estimate(r, r, r)
    half = _normal() * math.sqrt(factor / (n - 3))
    return Estimate(r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half))


def _mean_squares(table: Floats) -> tuple[float, float, float]:
    """Mean squares between targets, between raters, and of the error, of [targets, raters]."""
    n, k = table.shape
    mean = table.mean()
    targets = k * float(np.square(table.mean(axis=1) - mean).sum())
    raters = n * float(np.square(table.mean(axis=0) - mean).sum())
    residual = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + mean
    error = float(np.square(residual).sum())
    return targets / (n - 1), raters / (k - 1), error / ((n - 1) * (k - 1))


def _table(ratings: ArrayLike) -> Floats:
    table = np.asarray(ratings, dtype=np.float64)
    if table.ndim != 2 or min(table.shape) < 2:
        raise InputError(f"expected at least 2 targets by 2 raters, got an array of shape {table.shape}")
    if not np.isfinite(table).all():
        raise InputError("ratings must be finite: leave out what was not measured, and say how many")
    return table


def _pairs(estimate: ArrayLike, truth: ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(estimate, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2:
        raise InputError(f"expected two lists of one length of at least 2, got shapes {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("values must be finite: leave out what was not measured, and say how many")
    return x, y


def _constant(values: Sequence[float] | Floats) -> bool:
    return bool(np.ptp(np.asarray(values)) <= 1e-12 * max(1.0, float(np.max(np.abs(values)))))


def _normal() -> float:
    return float(stats.norm.ppf(0.5 + CONFIDENCE / 2))
