"""What the pneumothorax study says, per model: detection, side, size, overlap, and how much of the lesion survives."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrecon.evaluation.statistics.agreement import Agreement, Estimate, TooFewPairs, agreement_of
from xrecon.evaluation.statistics.comparison import auc, bootstrap_by_patient, mean_by_patient, wilson
from xrecon.evaluation.studies.pneumothorax_row import StudyRow

DETECT_ML = 10.0
"""Free air that PTX-Seg must find, on both sides together, to count as a detection."""
LARGE = 0.1
"""Occupancy of a side from which a pneumothorax counts as large."""
WIDTH_EDGES_MM = (0.0, 9.0, 12.0, 19.0, math.inf)
"""Bins of the largest inscribed width on the PA film; half of the pneumothoraces of a public collection of radiographs
are wider than 19 mm."""


@dataclass(frozen=True)
class CountedEstimate(Estimate):
    """A figure with its interval and its denominator.

    Attributes:
        n: chests that have a value; of a proportion, the successes.
        of: chests that it is taken over.
    """

    n: int = 0
    of: int = 0


@dataclass(frozen=True)
class SizeFigures:
    """The figures of one planted size.

    Attributes:
        asked: planted occupancy of the side, 0..1.
        n: number of chests.
        planted_ml: mean planted air, mL.
        sensitivity: share of the chests in which it is detected.
        recovered_ml: mean air found on the planted side, mL.
        recovered_share: mean of the same over the planted air.
        air_dice: mean Dice of the air.
        change_share: mean share of the true change of HU, in the air.
        mirror_share: the same in the mirrored region.
    """

    asked: float
    n: int
    planted_ml: CountedEstimate
    sensitivity: CountedEstimate
    recovered_ml: CountedEstimate
    recovered_share: CountedEstimate
    air_dice: CountedEstimate
    change_share: CountedEstimate
    mirror_share: CountedEstimate


@dataclass(frozen=True)
class GroupFigures:
    """The figures of plants of one kind, against all healthy chests.

    Attributes:
        name: such as "upright, at least 10 %".
        n: number of chests.
        sensitivity: share of the chests in which PTX-Seg detects free air.
        side: detected chests with more air on the planted side.
        auc: of the occupancy that PTX-Seg finds.
        film_auc: of the probability that the film networks state; None for a model without them.
        film_side: chests whose likelier side by the film networks is the planted one.
        air_dice: mean Dice of the air.
    """

    name: str
    n: int
    sensitivity: CountedEstimate
    side: CountedEstimate
    auc: CountedEstimate
    film_auc: CountedEstimate | None
    film_side: CountedEstimate | None
    air_dice: CountedEstimate


@dataclass(frozen=True)
class FilmFigures:
    """What the film networks say by themselves, over all chests of a model.

    Attributes:
        occupancy: of the whole chest, percent: stated against planted.
        covered: share of the chests whose true occupancy lies in the stated interval.
        interval_width: mean width of the interval, percentage points.
    """

    occupancy: Agreement | TooFewPairs
    covered: CountedEstimate
    interval_width: CountedEstimate


@dataclass(frozen=True)
class StudyFigures:
    """All figures of one model or control.

    Attributes:
        chests: number of rows.
        patients: number of patients.
        refused: chests that PTX-Seg refused.
        sensitivity: planted chests that are detected.
        specificity: healthy chests in which nothing is detected.
        side: detected chests with more air on the planted side.
        auc: of the occupancy found, planted against healthy chests.
        occupancy: of the whole chest, percent: found against planted.
        air_dice: mean Dice of the free air.
        by_size: figures of each planted size.
        change: mean change of HU by the plant: `true` of the CT and `found` of the reconstruction in the air,
            `mirror_true` and `mirror_found` in its mirror image.
        by_group: figures by pattern, size, mechanism and width.
        films: what the film networks say; None for a model without them.
    """

    chests: int
    patients: int
    refused: int
    sensitivity: CountedEstimate
    specificity: CountedEstimate
    side: CountedEstimate
    auc: CountedEstimate
    occupancy: Agreement | TooFewPairs
    air_dice: CountedEstimate
    by_size: tuple[SizeFigures, ...]
    change: Mapping[str, CountedEstimate]
    by_group: tuple[GroupFigures, ...] = ()
    films: FilmFigures | None = None


def summarise_study(
    rows: Sequence[Mapping[str, Any]], *, detect_ml: float = DETECT_ML, seed: int = 0
) -> dict[str, StudyFigures]:
    """Model or control -> figures with their denominators.

    A chest that PTX-Seg refused counts as "nothing found" for detection and is left out of sizes and overlaps; the
    number of such chests is stated. Intervals of proportions are Wilson's (trials taken as independent), all others
    from draws of patients.

    Args:
        rows: of `run_pneumothorax_study`, JSON values.
        detect_ml: threshold of a detection, mL.
        seed: of the bootstrap.
    """
    typed = [StudyRow.from_dict(row) for row in rows]
    return {
        model: _of_model([row for row in typed if row.model == model], detect_ml, seed)
        for model in dict.fromkeys(row.model for row in typed)
    }


def occupancy_pairs(rows: Sequence[Mapping[str, Any]], model: str) -> list[tuple[float, float]]:
    """(found, planted) occupancy of the whole chest, percent, of plants and healthy chests of a model."""
    return _occupancies([StudyRow.from_dict(row) for row in rows if row["model"] == model])


def _occupancies(rows: Sequence[StudyRow]) -> list[tuple[float, float]]:
    return [(row.volumes.whole_chest, row.true.whole_chest) for row in rows if row.volumes.whole_chest is not None]


def _of_model(rows: Sequence[StudyRow], detect_ml: float, seed: int) -> StudyFigures:
    sick = [row for row in rows if row.is_planted]
    healthy = [row for row in rows if not row.is_planted]
    detected = [row for row in sick if row.found_ml >= detect_ml]
    return StudyFigures(
        chests=len(rows),
        patients=len({row.patient for row in rows}),
        refused=sum(not row.is_segmented for row in rows),
        sensitivity=_proportion(len(detected), len(sick)),
        specificity=_proportion(sum(row.found_ml < detect_ml for row in healthy), len(healthy)),
        side=_proportion(sum(row.found_side == row.side for row in detected), len(detected)),
        auc=_auc(rows, seed),
        occupancy=agreement_of(_occupancies(rows)),
        air_dice=_mean(sick, lambda row: row.air_dice, seed),
        by_size=tuple(
            _of_size([row for row in sick if row.asked == size], detect_ml, seed)
            for size in sorted({row.asked for row in sick})
        ),
        change={
            "true": _mean(sick, lambda row: row.change.true, seed),
            "found": _mean(sick, lambda row: row.change.estimate, seed),
            "mirror_true": _mean(sick, lambda row: row.change.mirror_true, seed),
            "mirror_found": _mean(sick, lambda row: row.change.mirror_estimate, seed),
        },
        by_group=tuple(
            _of_group(name, group, healthy, detect_ml, seed) for name, group in groups_of(sick).items() if group
        ),
        films=_of_films(rows, seed),
    )


def groups_of(sick: Sequence[StudyRow]) -> dict[str, list[StudyRow]]:
    """Planted chests by what may decide whether they are seen."""
    upright = [row for row in sick if row.pattern != "supine"]
    large = [row for row in upright if row.asked >= LARGE]
    groups = {
        f"upright, at least {LARGE:.0%} of a side": large,
        f"upright, under {LARGE:.0%}": [row for row in upright if row.asked < LARGE],
        "supine": [row for row in sick if row.pattern == "supine"],
    }
    for mechanism in sorted({row.mechanism for row in sick}):
        groups[f"mechanism {mechanism}, upright, at least {LARGE:.0%}"] = [r for r in large if r.mechanism == mechanism]
    for low, high in pairwise(WIDTH_EDGES_MM):
        name = f"over {low:g} mm wide" if high == math.inf else f"{low:g} to {high:g} mm wide"
        groups[name] = [row for row in sick if low <= row.true.width_mm < high]
    return groups


def _of_group(
    name: str, group: Sequence[StudyRow], healthy: Sequence[StudyRow], detect_ml: float, seed: int
) -> GroupFigures:
    detected = [row for row in group if row.found_ml >= detect_ml]
    rows = [*group, *healthy]
    has_films = all(row.films is not None for row in rows)
    right = sum(row.films is not None and row.films.side == row.side for row in group)
    return GroupFigures(
        name=name,
        n=len(group),
        sensitivity=_proportion(len(detected), len(group)),
        side=_proportion(sum(row.found_side == row.side for row in detected), len(detected)),
        auc=_auc(rows, seed),
        film_auc=_film_auc(rows, seed) if has_films else None,
        film_side=_proportion(right, len(group)) if has_films else None,
        air_dice=_mean(group, lambda row: row.air_dice, seed),
    )


def _of_films(rows: Sequence[StudyRow], seed: int) -> FilmFigures | None:
    stated = [(row, row.films) for row in rows if row.films is not None]
    if not stated:
        return None
    held = sum(films.low <= row.true.whole_chest <= films.high for row, films in stated)
    return FilmFigures(
        occupancy=agreement_of([(films.percent, row.true.whole_chest) for row, films in stated]),
        covered=_proportion(held, len(stated)),
        interval_width=_mean(
            [row for row, _ in stated], lambda row: None if row.films is None else row.films.high - row.films.low, seed
        ),
    )


def _film_auc(rows: Sequence[StudyRow], seed: int) -> CountedEstimate:
    scores = np.asarray([0.0 if row.films is None else row.films.probability for row in rows])
    return _area(scores, rows, len(rows), seed)


def _of_size(rows: Sequence[StudyRow], detect_ml: float, seed: int) -> SizeFigures:
    return SizeFigures(
        asked=rows[0].asked,
        n=len(rows),
        planted_ml=_mean(rows, lambda row: row.true.air_ml, seed),
        sensitivity=_proportion(sum(row.found_ml >= detect_ml for row in rows), len(rows)),
        recovered_ml=_mean(rows, lambda row: row.recovered_ml, seed),
        recovered_share=_mean(rows, lambda row: row.recovered_share, seed),
        air_dice=_mean(rows, lambda row: row.air_dice, seed),
        change_share=_mean(rows, lambda row: row.change_share, seed),
        mirror_share=_mean(rows, lambda row: row.mirror_share, seed),
    )


def _mean(rows: Sequence[StudyRow], value: Callable[[StudyRow], float | None], seed: int) -> CountedEstimate:
    values = [value(row) for row in rows]
    mean = mean_by_patient(values, [row.patient for row in rows], seed=seed) if rows else Estimate(None)
    return _counted(mean, n=sum(v is not None for v in values), of=len(values))


def _proportion(successes: int, trials: int) -> CountedEstimate:
    return _counted(wilson(successes, trials), n=successes, of=trials)


def _counted(estimate: Estimate, *, n: int, of: int) -> CountedEstimate:
    return CountedEstimate(estimate.value, estimate.low, estimate.high, n, of)


def _auc(rows: Sequence[StudyRow], seed: int) -> CountedEstimate:
    segmented = [row for row in rows if row.is_segmented]
    if not segmented:
        return CountedEstimate(None, n=0, of=len(rows))
    return _area(np.asarray([row.volumes.whole_chest for row in segmented]), segmented, len(rows), seed)


def _area(scores: NDArray[np.float64], rows: Sequence[StudyRow], of: int, seed: int) -> CountedEstimate:
    labels = np.asarray([row.is_planted for row in rows])
    area = bootstrap_by_patient(
        lambda index: auc(scores[index], labels[index]), [row.patient for row in rows], resamples=500, seed=seed
    )
    return _counted(area, n=len(rows), of=of)
