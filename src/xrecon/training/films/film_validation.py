"""How well the film networks find and measure air on films of patients that they were not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from xrecon.data.film_library import FilmSample
from xrecon.films.film_width import film_width_mm
from xrecon.geometry import ConeBeam
from xrecon.models.film_network import FilmNet
from xrecon.training.films.exposure import clinical_film
from xrecon.training.films.film_pool import FilmPool, PoolEntry, network_views, stacked

OCCUPANCY_EDGES = (0.03, 0.07, 0.15, 0.3, 1.0)
"""Edges of the bins of occupancy of a side: about 5, 10, 20 and 40 %."""
AT_LEAST = 0.1
"""Occupancy of a side from which a pneumothorax counts as one that has to be seen."""
HEALTHY = -1
"""In the place of a side."""


@dataclass(frozen=True)
class FilmScore:
    """What the networks say of one film pair, and the truth. Sides in the order right, left.

    Attributes:
        case: the patient.
        anatomy, sample: where the pair lies in the library.
        pattern, mechanism: of the planted air; empty for a healthy pair.
        has_confounders: other air or gas is in it.
        occupancy: true share of the sick side, 0..1, 0 if healthy.
        whole_chest: true share of the whole chest, 0..1.
        width_mm: largest inscribed width of the air on the PA film, mm.
        side: 0 right, 1 left; -1 if healthy.
        air_ml: true air, mL.
        lungs_ml: true lungs by side, mL.
        view_air_ml: air by the networks, by view and side, mL.
        view_lungs_ml: lungs by the networks, by view and side, mL.
        presence: probability of free air by side; None for networks without that head.
    """

    case: str
    anatomy: int
    sample: int
    pattern: str
    mechanism: str
    has_confounders: bool
    occupancy: float
    whole_chest: float
    width_mm: float
    side: int
    air_ml: float
    lungs_ml: tuple[float, float]
    view_air_ml: Mapping[str, tuple[float, float]]
    view_lungs_ml: Mapping[str, tuple[float, float]]
    presence: tuple[float, float] | None = None

    @property
    def is_upright(self) -> bool:
        """A pneumothorax that does not lie in front of the lung."""
        return self.side != HEALTHY and self.pattern != "supine"

    @property
    def air_by_side_ml(self) -> tuple[float, float]:
        """Air by the networks, mean of the views, mL."""
        return _mean_of_views(self.view_air_ml)

    @property
    def lungs_by_side_ml(self) -> tuple[float, float]:
        """Lungs by the networks, mean of the views, mL."""
        return _mean_of_views(self.view_lungs_ml)

    @property
    def highest_ml(self) -> float:
        """Air on the side with more of it, mL: the score that is compared with healthy films."""
        return max(self.air_by_side_ml)

    @property
    def sick_side_ml(self) -> float:
        """Air by the networks on the side that is truly sick, mL; on both if none is."""
        air = self.air_by_side_ml
        return sum(air) if self.side == HEALTHY else air[self.side]

    @property
    def estimated_whole_chest(self) -> float:
        """Share of the whole chest that is free air by the networks, 0..1."""
        air = sum(self.air_by_side_ml)
        return air / max(air + sum(self.lungs_by_side_ml), 1e-6)


def _mean_of_views(by_view: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    right, left = np.mean([*by_view.values()], axis=0)
    return float(right), float(left)


def map_volume_ml(maps_mm: torch.Tensor, views: Sequence[ConeBeam]) -> torch.Tensor:
    """Volume behind length maps, as if all lay at the isocentre.

    Args:
        maps_mm: [N, views, sides, rows, cols] mm.
        views: their geometry.

    Returns:
        [N, views, sides] mL.
    """
    area = torch.tensor([v.pixel_at_isocentre_mm[0] * v.pixel_at_isocentre_mm[1] for v in views])
    return maps_mm.sum(dim=(-2, -1)) * area[:, None] / 1000.0


def score_films(network: FilmNet, pool: FilmPool, entries: Sequence[PoolEntry], *, batch: int = 8) -> list[FilmScore]:
    """Scores of film pairs exposed on a stand of average settings."""
    network.eval()
    views = network_views(pool.views, pool.settings)
    names = pool.settings.network.views
    scores = []
    for start in range(0, len(entries), batch):
        part = entries[start : start + batch]
        samples = [pool.read(entry) for entry in part]
        # The noise belongs to the pair, not to its place in the list.
        items = [
            clinical_film(sample, pool.views, seed=10 * entry.anatomy.number + entry.sample)
            for entry, sample in zip(part, samples, strict=True)
        ]
        inputs, _ = stacked(items, pool.settings)
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=pool.settings.bfloat16):
            maps = network(inputs)
        air, lung = map_volume_ml(maps.expected_air_mm, views), map_volume_ml(maps.lung_mm, views)
        for k, (entry, sample) in enumerate(zip(part, samples, strict=True)):
            presence = None if maps.presence_logit is None else _pair(maps.presence_logit[k].sigmoid())
            air_by_view, lung_by_view = (
                {name: _pair(volume[k, v]) for v, name in enumerate(names)} for volume in (air, lung)
            )
            width_mm = _pa_width_mm(sample, pool.views[0])
            scores.append(_score(entry, sample.meta, air_by_view, lung_by_view, presence, width_mm=width_mm))
    return scores


def _pair(values: torch.Tensor) -> tuple[float, float]:
    return round(float(values[0]), 4), round(float(values[1]), 4)


def _pa_width_mm(sample: FilmSample, view: ConeBeam) -> float:
    """Largest inscribed width of the free air on the PA film, of the side with more of it."""
    side = int(np.argmax(sample.air[0].sum(axis=(1, 2))))
    return film_width_mm(sample.air[0, side], sample.lung[0, side], view)


def _score(
    entry: PoolEntry,
    meta: Mapping[str, Any],
    air: Mapping[str, tuple[float, float]],
    lungs: Mapping[str, tuple[float, float]],
    presence: tuple[float, float] | None,
    *,
    width_mm: float,
) -> FilmScore:
    planting, volumes = meta.get("planting", {}), meta["volumes_ml"]
    return FilmScore(
        case=entry.anatomy.case,
        anatomy=entry.anatomy.number,
        sample=entry.sample,
        pattern=planting.get("pattern", ""),
        mechanism=planting.get("mechanism", ""),
        has_confounders=entry.has_confounders,
        occupancy=entry.occupancy,
        whole_chest=float(meta["occupancy"]["whole_chest"]) if planting else 0.0,
        width_mm=width_mm if planting else 0.0,
        side=("right", "left").index(planting["side"]) if planting else HEALTHY,
        air_ml=float(volumes.get("air_share", volumes["air"])),
        lungs_ml=(float(volumes["right_lung"]), float(volumes["left_lung"])),
        view_air_ml=air,
        view_lungs_ml=lungs,
        presence=presence,
    )


def film_metrics(scores: Sequence[FilmScore]) -> dict[str, Any]:
    """Area under the curve by size, side, volume, false air; JSON values, None where nothing can be said.

    Areas under the curve are against all healthy pairs, those of `plain` against pairs without other air and those of
    `confounders` against pairs with it. `presence` is the head of the networks that says whether a side is sick.
    """
    healthy = [s for s in scores if s.side == HEALTHY]
    plain, others = ([s for s in healthy if s.has_confounders == flag] for flag in (False, True))
    sick = [s for s in scores if s.side != HEALTHY]
    upright = [s for s in sick if s.is_upright]
    supine = [s for s in sick if not s.is_upright]
    large = [s for s in upright if s.occupancy >= AT_LEAST]
    result: dict[str, Any] = {
        "pairs": {"plain": len(plain), "confounders": len(others), "sick": len(sick), "upright_10": len(large)},
        "auc_upright_10": _auc(large, healthy),
        "auc_upright_10_plain": _auc(large, plain),
        "auc_upright_10_confounders": _auc(large, others),
        "auc_supine": _auc(supine, healthy),
        "auc_supine_10": _auc([s for s in supine if s.occupancy >= AT_LEAST], healthy),
        "side_accuracy_10": _share([int(np.argmax(s.air_by_side_ml)) == s.side for s in large]),
        "volume_r": _correlation([s.air_ml for s in sick], [s.sick_side_ml for s in sick]),
        "volume_r_upright": _correlation([s.air_ml for s in upright], [s.sick_side_ml for s in upright]),
        "volume_mae_ml": _mean([abs(s.air_ml - s.sick_side_ml) for s in sick]),
        "occupancy_r": _correlation([s.whole_chest for s in scores], [s.estimated_whole_chest for s in scores]),
        "occupancy_mae": _mean([abs(s.estimated_whole_chest - s.whole_chest) for s in scores]),
        "lung_r": _correlation([sum(s.lungs_ml) for s in scores], [sum(s.lungs_by_side_ml) for s in scores]),
        "false_air_ml": _quantiles([s.highest_ml for s in plain]),
        "false_air_with_confounders_ml": _quantiles([s.highest_ml for s in others]),
    }
    for low, high in pairwise(OCCUPANCY_EDGES):
        result[f"auc_{low:g}_{high:g}"] = _auc([s for s in upright if low <= s.occupancy < high], healthy)
    for mechanism in sorted({s.mechanism for s in sick}):
        result[f"auc_10_{mechanism}"] = _auc([s for s in large if s.mechanism == mechanism], healthy)
    for view in scores[0].view_air_ml if scores else ():
        values = [[max(s.view_air_ml[view]) for s in group] for group in (large, supine, healthy)]
        result[f"auc_upright_10_{view}"], result[f"auc_supine_{view}"] = (
            _area(group, values[2]) for group in values[:2]
        )
    if scores and scores[0].presence is not None:
        values = [[max(s.presence or (0.0, 0.0)) for s in group] for group in (large, supine, healthy)]
        result["auc_upright_10_presence"], result["auc_supine_presence"] = (
            _area(group, values[2]) for group in values[:2]
        )
    return result


def _auc(sick: Sequence[FilmScore], healthy: Sequence[FilmScore]) -> float | None:
    return _area([s.highest_ml for s in sick], [s.highest_ml for s in healthy])


def _area(sick: Sequence[float], healthy: Sequence[float]) -> float | None:
    """Chance that a sick film scores above a healthy film, ties half."""
    if not sick or not healthy:
        return None
    return round(float(stats.mannwhitneyu(sick, healthy).statistic) / (len(sick) * len(healthy)), 4)


def _correlation(truth: Sequence[float], estimate: Sequence[float]) -> float | None:
    if len(truth) < 3 or np.std(truth) == 0 or np.std(estimate) == 0:
        return None
    return round(float(np.corrcoef(truth, estimate)[0, 1]), 4)


def _share(flags: Sequence[bool]) -> float | None:
    return None if not flags else round(float(np.mean(flags)), 4)


def _mean(values: Sequence[float]) -> float | None:
    return None if not values else round(float(np.mean(values)), 4)


def _quantiles(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    array: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    return {"median": round(float(np.median(array)), 1), "q90": round(float(np.quantile(array, 0.9)), 1)}
