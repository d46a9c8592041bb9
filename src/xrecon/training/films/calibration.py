"""Calibrate film networks on what they said of patients that they were not trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from xrecon.errors import InputError
from xrecon.films.film_calibration import (
    FilmCalibration,
    OccupancyBand,
    PresenceCalibration,
    expected_occupancy,
    presence_features,
)
from xrecon.training.films.film_validation import HEALTHY, FilmScore

BAND_EDGES = (0.0, 0.25, 1.0, 3.0, 7.0, 15.0, 30.0, 100.0)
"""Estimates of the occupancy of the whole chest, percent, between which errors are counted."""
_FEWEST_IN_BAND = 20
_RIDGE = 1e-3
"""Times the squared weights: a separable set must not give endless weights."""


def calibrate(
    scores: Sequence[FilmScore], *, networks: Sequence[str], specificity: float = 0.95, coverage: float = 0.9
) -> FilmCalibration:
    """A calibration from the scores of left-out patients, of several folds together.

    Args:
        scores: of `score_films`, each from networks that were not trained on its patient.
        networks: digests of those networks.
        specificity: share of healthy pairs in which no side may reach the threshold.
        coverage: of the interval of the occupancy.

    Raises:
        InputError: fewer than 20 healthy or 20 sick pairs.
    """
    healthy = [s for s in scores if s.side == HEALTHY]
    sick = [s for s in scores if s.side != HEALTHY]
    if min(len(healthy), len(sick)) < _FEWEST_IN_BAND:
        raise InputError(
            f"a calibration needs at least {_FEWEST_IN_BAND} healthy and {_FEWEST_IN_BAND} sick film pairs of patients "
            f"left out, got {len(healthy)} and {len(sick)}"
        )
    intercept, volume, opinion = _logistic(scores)
    presence = PresenceCalibration(
        intercept=intercept, volume=volume, presence=opinion, threshold=0.5, prevalence=len(sick) / (2 * len(scores))
    )
    draft = FilmCalibration(
        presence=presence,
        factor=1.0,
        coverage=coverage,
        bands=(OccupancyBand(up_to=100.0, below=0.0, above=0.0, pairs=len(scores)),),
        cases=tuple(sorted({s.case for s in scores})),
        pairs=len(scores),
        networks=tuple(networks),
    )
    highest = [max(probabilities(draft, s)) for s in healthy]
    threshold = float(np.clip(_upper_quantile(highest, specificity), 0.01, 0.99))
    estimates = np.array([_expected(draft, s) for s in scores])
    truths = np.array([100.0 * s.whole_chest for s in scores])
    factor = _factor(estimates, truths)
    return draft.model_copy(
        update={
            "presence": presence.model_copy(update={"threshold": threshold}),
            "factor": factor,
            "bands": _bands(np.minimum(factor * estimates, 100.0), truths, coverage),
        }
    )


def probabilities(calibration: FilmCalibration, score: FilmScore) -> tuple[float, float]:
    """Calibrated probability of free air, right and left."""
    right, left = (
        calibration.probability(air, None if score.presence is None else score.presence[side])
        for side, air in enumerate(score.air_by_side_ml)
    )
    return right, left


def _expected(calibration: FilmCalibration, score: FilmScore) -> float:
    return expected_occupancy(score.air_by_side_ml, score.lungs_by_side_ml, probabilities(calibration, score))


def _logistic(scores: Sequence[FilmScore]) -> tuple[float, float, float]:
    """Intercept and weights of the most likely logistic function of all sides; weights are not negative."""
    rows, labels = [], []
    for score in scores:
        for side in (0, 1):
            presence = None if score.presence is None else score.presence[side]
            rows.append((1.0, *presence_features(score.air_by_side_ml[side], presence)))
            labels.append(1.0 if score.side == side else -1.0)
    features, signs = np.array(rows), np.array(labels)

    def loss(weights: NDArray[np.float64]) -> float:
        margins = signs * (features @ weights)
        return float(np.logaddexp(0.0, -margins).mean() + _RIDGE * np.square(weights[1:]).sum())

    bounds = [(None, None), (0.0, None), (0.0, None)]
    result = optimize.minimize(loss, np.array([-1.0, 0.5, 0.5]), method="L-BFGS-B", bounds=bounds)
    intercept, volume, opinion = (float(weight) for weight in result.x)
    return intercept, volume, opinion


def _factor(estimates: NDArray[np.float64], truths: NDArray[np.float64]) -> float:
    """What the estimates are multiplied with: the least absolute error of the sick pairs."""
    sick = truths > 0

    def error(factor: float) -> float:
        return float(np.abs(factor * estimates[sick] - truths[sick]).mean())

    return float(optimize.minimize_scalar(error, bounds=(0.5, 2.0), method="bounded").x)


def _bands(estimates: NDArray[np.float64], truths: NDArray[np.float64], coverage: float) -> tuple[OccupancyBand, ...]:
    """Errors by size of the estimate; bands of too few pairs are joined with their lower neighbour."""
    members: list[NDArray[np.bool_]] = []
    edges: list[float] = []
    for low, high in pairwise(BAND_EDGES):
        inside = (estimates > low) & (estimates <= high) if low > 0 else estimates <= high
        if (members and inside.sum() < _FEWEST_IN_BAND) or (members and members[-1].sum() < _FEWEST_IN_BAND):
            members[-1] = members[-1] | inside
            edges[-1] = high
        else:
            members.append(inside)
            edges.append(high)
    tail = (1.0 + coverage) / 2.0
    bands = []
    for inside, high in zip(members, edges, strict=True):
        errors = truths[inside] - estimates[inside]
        below, above = _upper_quantile(-errors, tail), _upper_quantile(errors, tail)
        bands.append(OccupancyBand(up_to=high, below=below, above=above, pairs=max(1, int(inside.sum()))))
    return tuple(bands)


def _upper_quantile(values: Sequence[float] | NDArray[np.float64], share: float) -> float:
    """The value that a new one exceeds with a chance of at most 1 - share: the conformal quantile."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    place = math.ceil(share * (len(ordered) + 1)) - 1
    return float(ordered[min(place, len(ordered) - 1)])
