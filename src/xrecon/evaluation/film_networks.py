"""Film networks measured on the patients that they were not trained on, with intervals by patient."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from xrecon.errors import CheckpointError, InputError
from xrecon.evaluation.statistics.agreement import Agreement, Estimate, TooFewPairs, agreement_of
from xrecon.evaluation.statistics.comparison import auc, bootstrap_by_patient, wilson
from xrecon.io.output.atomic import write_json_atomic
from xrecon.models.checkpoint import ModelInformation, load_model
from xrecon.models.film_network import FilmNet
from xrecon.records import RunRecord
from xrecon.training.films.film_pool import FilmPool
from xrecon.training.films.film_training import FilmTraining
from xrecon.training.films.film_validation import AT_LEAST, HEALTHY, OCCUPANCY_EDGES, FilmScore, score_films

WIDTH_EDGES_MM = (0.0, 9.0, 12.0, 19.0, 1000.0)
"""Bins of the largest inscribed width on the PA film; half of the pneumothoraces of a public collection are wider
than 19 mm."""
REPORT_NAME = "film-networks.json"


@dataclass(frozen=True)
class FilmReport:
    """How well film networks find and measure free air.

    Attributes:
        pairs: number of film pairs by kind: plain, confounders, sick.
        areas: name of a comparison to the area under the curve against all healthy pairs, against plain ones and
            against those with confounders (keys `all`, `plain`, `confounders`).
        side_accuracy: share of upright pneumothoraces of at least 10 % of a side that lie on the side with more air.
        volume_ml: agreement of the volume of free air on the sick side with the truth, sick pairs.
        occupancy: agreement of the share of the whole chest with the truth, all pairs.
        false_air_ml: (median, 90th percentile) of the air on the worse side of plain healthy pairs, and of those with
            confounders.
    """

    pairs: dict[str, int]
    areas: dict[str, dict[str, Estimate]]
    side_accuracy: Estimate
    volume_ml: Agreement | TooFewPairs
    occupancy: Agreement | TooFewPairs
    false_air_ml: dict[str, tuple[float, float] | None]


def evaluate_films(
    model: str | os.PathLike[str],
    library: str | os.PathLike[str],
    *,
    pairs: int = 400,
    output: Path | None = None,
    overwrite: bool = False,
) -> tuple[FilmReport, list[FilmScore]]:
    """Measure film networks on those cases of a film library that their training left out.

    Args:
        model: folder of `xrecon train films --fold K`.
        library: folder of `xrecon prepare-films`.
        pairs: number of film pairs at most, the first ones of the library.
        output: folder for film-networks.json with the report, the score of every pair and a record; None: none.
        overwrite: replace a report.

    Raises:
        InputError: networks that were trained on all cases, or a library without one of the cases that were left out.
        CheckpointError: no film networks in the folder.
        OutputExistsError: a report is there, and `overwrite` is not given.
    """
    network, information = load_model(model, dtype=torch.float32)
    if not isinstance(network, FilmNet):
        raise CheckpointError(f"{model}: weights of the family {information.family!r}, expected film networks")
    settings = _settings(network, information, pairs)
    pool = FilmPool(Path(library), settings)
    if not pool.validation:
        raise InputError(f"{library}: holds no anatomy of the cases left out ({', '.join(pool.left_out)})")
    scores = score_films(network, pool, pool.validation)
    report = film_report(scores)
    if output is not None:
        record = RunRecord(
            command="evaluate_films",
            seed=settings.seed,
            settings={"pairs": pairs, "fold": settings.fold, "folds": settings.folds},
            models={"film networks": information.sha256},
            dataset={"library": dict(pool.library.information), "cases": list(pool.left_out)},
        )
        values = {**record.to_dict(), "report": asdict(report), "scores": scores}
        write_json_atomic(output / REPORT_NAME, values, overwrite=overwrite)
    return report, scores


def _settings(network: FilmNet, information: ModelInformation, pairs: int) -> FilmTraining:
    fold, folds = information.metrics.get("fold"), information.metrics.get("folds")
    if not isinstance(fold, int) or not isinstance(folds, int):
        raise InputError(
            f"{information.name}: these film networks were trained on all cases of their library, so that no case is "
            "left to measure them on; train with --fold"
        )
    return FilmTraining(network=network.config, fold=fold, folds=folds, validation_pairs=pairs)


def film_report(scores: Sequence[FilmScore]) -> FilmReport:
    """The report on scores of any film pairs; intervals of 95 %, over patients drawn with replacement."""
    healthy = [s for s in scores if s.side == HEALTHY]
    controls = {
        "all": healthy,
        "plain": [s for s in healthy if not s.has_confounders],
        "confounders": [s for s in healthy if s.has_confounders],
    }
    sick = [s for s in scores if s.side != HEALTHY]
    large = [s for s in sick if s.is_upright and s.occupancy >= AT_LEAST]
    areas = {
        name: {control: area_under_curve(group, others) for control, others in controls.items()}
        for name, group in _groups(sick).items()
    }
    right = sum(int(np.argmax(s.air_by_side_ml)) == s.side for s in large)
    return FilmReport(
        pairs={"plain": len(controls["plain"]), "confounders": len(controls["confounders"]), "sick": len(sick)},
        areas=areas,
        side_accuracy=wilson(right, len(large)),
        volume_ml=agreement_of([(s.sick_side_ml, s.air_ml) for s in sick]),
        occupancy=agreement_of([(s.estimated_whole_chest, s.whole_chest) for s in scores]),
        false_air_ml={name: _quantiles([s.highest_ml for s in controls[name]]) for name in ("plain", "confounders")},
    )


def _groups(sick: Sequence[FilmScore]) -> dict[str, list[FilmScore]]:
    """Pneumothoraces by what may decide whether they are seen."""
    upright = [s for s in sick if s.is_upright]
    large = [s for s in upright if s.occupancy >= AT_LEAST]
    groups = {"upright_at_least_10": large, "supine": [s for s in sick if not s.is_upright]}
    for low, high in pairwise(OCCUPANCY_EDGES):
        groups[f"upright_{100 * low:g}_to_{100 * high:g}"] = [s for s in upright if low <= s.occupancy < high]
    for low, high in pairwise(WIDTH_EDGES_MM):
        groups[f"upright_width_{low:g}_to_{high:g}_mm"] = [s for s in upright if low <= s.width_mm < high]
    for mechanism in sorted({s.mechanism for s in sick}):
        groups[f"upright_at_least_10_{mechanism}"] = [s for s in large if s.mechanism == mechanism]
    return groups


def area_under_curve(sick: Sequence[FilmScore], healthy: Sequence[FilmScore]) -> Estimate:
    """Area under the ROC curve of the air on the worse side, sick against healthy pairs, with its interval."""
    rows = [*sick, *healthy]
    if not sick or not healthy:
        return Estimate(None)
    values, labels = np.array([s.highest_ml for s in rows]), np.arange(len(rows)) < len(sick)

    def area(chosen: NDArray[np.int64]) -> float | None:
        return auc(values[chosen], labels[chosen])

    return bootstrap_by_patient(area, [s.case for s in rows])


def _quantiles(values: Sequence[float]) -> tuple[float, float] | None:
    return (float(np.median(values)), float(np.quantile(values, 0.9))) if values else None
