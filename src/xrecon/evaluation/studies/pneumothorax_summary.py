"""What the pneumothorax study says, per model: detection, side, size, overlap, and how much of the lesion survives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xrecon.evaluation.statistics.agreement import Agreement, Estimate, TooFewPairs, agreement_of
from xrecon.evaluation.statistics.comparison import auc, bootstrap_by_patient, mean_by_patient, wilson
from xrecon.evaluation.studies.pneumothorax_row import StudyRow

DETECT_ML = 10.0
"""Free air that PTX-Seg must find, on both sides together, to count as a detection."""


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
    )


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
    scores = np.asarray([row.volumes.whole_chest for row in segmented])
    labels = np.asarray([row.is_planted for row in segmented])
    area = bootstrap_by_patient(
        lambda index: auc(scores[index], labels[index]), [row.patient for row in segmented], resamples=500, seed=seed
    )
    return _counted(area, n=len(segmented), of=len(rows))
