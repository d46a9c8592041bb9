"""How well the film networks find and measure air on films of patients that they were not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from xrecon.geometry import ConeBeam
from xrecon.models.film_network import FilmMaps, FilmNet
from xrecon.training.films.exposure import clinical_film
from xrecon.training.films.film_pool import FilmPool, PoolEntry, network_views, stacked

_BINS = (0.03, 0.07, 0.15, 0.3, 1.0)
"""Edges of the bins of occupancy of a side: about 5, 10, 20 and 40 %."""
_AT_LEAST = 0.1


@dataclass(frozen=True)
class FilmScore:
    """What the networks say of one film pair, and the truth.

    Attributes:
        case: the patient.
        pattern, mechanism: of the planted air; empty for a healthy pair.
        has_confounders: other air or gas is in it.
        occupancy: of the sick side, 0..1, 0 if healthy.
        side: 0 right, 1 left; -1 if healthy.
        air_ml: true air, mL.
        score_ml: (right, left) air by the networks, mean of the views, mL.
        lung_ml: lungs by the networks, mL.
        true_lung_ml: lungs, mL.
    """

    case: str
    pattern: str
    mechanism: str
    has_confounders: bool
    occupancy: float
    side: int
    air_ml: float
    score_ml: tuple[float, float]
    lung_ml: float
    true_lung_ml: float

    @property
    def highest_ml(self) -> float:
        """Air on the side with more of it, mL."""
        return max(self.score_ml)


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
    scores = []
    for start in range(0, len(entries), batch):
        part = entries[start : start + batch]
        samples = [pool.read(entry) for entry in part]
        items = [clinical_film(sample, pool.views, seed=start + k) for k, sample in enumerate(samples)]
        inputs, _ = stacked(items, pool.settings)
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=pool.settings.bfloat16):
            maps: FilmMaps = network(inputs)
        air = map_volume_ml(maps.expected_air_mm, views).mean(dim=1)
        lung = map_volume_ml(maps.lung_mm, views).mean(dim=1).sum(dim=-1)
        for k, (entry, sample) in enumerate(zip(part, samples, strict=True)):
            scores.append(_score(entry, sample.meta, air[k], float(lung[k])))
    return scores


def _score(entry: PoolEntry, meta: Any, air: torch.Tensor, lung_ml: float) -> FilmScore:
    planting, volumes = meta.get("planting", {}), meta["volumes_ml"]
    return FilmScore(
        case=entry.anatomy.case,
        pattern=planting.get("pattern", ""),
        mechanism=planting.get("mechanism", ""),
        has_confounders=entry.has_confounders,
        occupancy=entry.occupancy,
        side=-1 if not planting else ("right", "left").index(planting["side"]),
        air_ml=float(volumes.get("air_share", volumes["air"])),
        score_ml=(float(air[0]), float(air[1])),
        lung_ml=lung_ml,
        true_lung_ml=float(volumes["right_lung"] + volumes["left_lung"]),
    )


def film_metrics(scores: Sequence[FilmScore]) -> dict[str, Any]:
    """Area under the curve by size, side, volume, false air; JSON values, None where nothing can be said."""
    healthy = [s for s in scores if s.side < 0]
    sick = [s for s in scores if s.side >= 0]
    upright = [s for s in sick if s.pattern != "supine"]
    large = [s for s in upright if s.occupancy >= _AT_LEAST]
    plain = [s.highest_ml for s in healthy if not s.has_confounders]
    others = [s.highest_ml for s in healthy if s.has_confounders]
    result: dict[str, Any] = {
        "pairs": {"healthy": len(healthy), "sick": len(sick)},
        "auc_upright_10": _auc(large, healthy),
        "auc_supine": _auc([s for s in sick if s.pattern == "supine"], healthy),
        "side_accuracy_10": _share([int(np.argmax(s.score_ml)) == s.side for s in large]),
        "volume_r": _correlation([s.air_ml for s in sick], [s.score_ml[s.side] for s in sick]),
        "volume_mae_ml": _mean([abs(s.air_ml - s.score_ml[s.side]) for s in sick]),
        "occupancy_mae": _mean([abs(_occupancy(s) - s.air_ml / (s.air_ml + s.true_lung_ml)) for s in scores]),
        "lung_r": _correlation([s.true_lung_ml for s in scores], [s.lung_ml for s in scores]),
        "false_air_ml": _quantiles(plain),
        "false_air_with_confounders_ml": _quantiles(others),
    }
    for low, high in pairwise(_BINS):
        result[f"auc_{low:g}_{high:g}"] = _auc([s for s in upright if low <= s.occupancy < high], healthy)
    for mechanism in ("flow", "offset"):
        result[f"auc_10_{mechanism}"] = _auc([s for s in large if s.mechanism == mechanism], healthy)
    return result


def _occupancy(score: FilmScore) -> float:
    air = sum(score.score_ml)
    return air / max(air + score.lung_ml, 1e-6)


def _auc(sick: Sequence[FilmScore], healthy: Sequence[FilmScore]) -> float | None:
    if not sick or not healthy:
        return None
    a, b = [s.highest_ml for s in sick], [s.highest_ml for s in healthy]
    return round(float(stats.mannwhitneyu(a, b).statistic) / (len(a) * len(b)), 4)


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
