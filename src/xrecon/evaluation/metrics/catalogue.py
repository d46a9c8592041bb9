"""All metrics: one list, and the function that computes those of a pair of volumes.

A new metric is one entry beside the function that computes it; tables, reports and tests find it through this list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from xrecon.evaluation.metrics.anatomy import ANATOMY_METRICS
from xrecon.evaluation.metrics.image import IMAGE_METRICS, image_metrics
from xrecon.evaluation.metrics.metric import Group, Metric
from xrecon.evaluation.metrics.psnr import PSNR_METRICS, psnr_conventions
from xrecon.evaluation.metrics.similarity import SIMILARITY_METRICS, similarities
from xrecon.evaluation.metrics.structures import STRUCTURE_METRICS
from xrecon.evaluation.metrics.tissue import PROJECTION_METRICS, TISSUE_METRICS, projection_errors, tissue_errors
from xrecon.geometry import ConeBeam
from xrecon.volume import Volume

SECONDS = Metric(
    "seconds", "Time", "s", 1, higher_is_better=False, region="reconstruction", group="run",
    convention="Wall time of the reconstruction, s.",
)  # fmt: skip

PAIR_METRICS: tuple[Metric, ...] = (
    *IMAGE_METRICS,
    *PSNR_METRICS,
    *SIMILARITY_METRICS,
    *TISSUE_METRICS,
    *PROJECTION_METRICS,
)
"""The metrics of `full_metrics`, in its order."""

CATALOGUE: Mapping[str, Metric] = MappingProxyType(
    {metric.name: metric for metric in (*PAIR_METRICS, *ANATOMY_METRICS, *STRUCTURE_METRICS, SECONDS)}
)
"""Name -> metric."""

HEADLINE: tuple[Metric, ...] = tuple(
    sorted((metric for metric in CATALOGUE.values() if metric.headline), key=lambda metric: metric.headline)
)
"""Metrics of the short table, in its order."""

TESTED: tuple[Metric, ...] = tuple(metric for metric in HEADLINE if metric.tested)
"""Metrics that are tested against the baseline; Holm's correction counts all of them for all models."""


def section(group: Group, names: Iterable[str]) -> list[str]:
    """Those of `names` that have a place in the report's table of a group, in the order of that table."""
    placed = sorted(
        (metric for metric in CATALOGUE.values() if metric.group == group and metric.section),
        key=lambda metric: metric.section,
    )
    measured = set(names)
    return [metric.name for metric in placed if metric.name in measured]


def full_metrics(
    estimate: Volume,
    truth: Volume,
    *,
    body: NDArray[np.bool_] | None = None,
    beams: Sequence[ConeBeam] | None = None,
) -> dict[str, float | None]:
    """Every one of `PAIR_METRICS`, in its order; None where it could not be measured.

    Args:
        estimate: HU on the grid of the truth.
        truth: HU.
        body: [D, H, W] bool; None leaves out what needs it.
        beams: geometry of the two films, relative to the volume's centre; None leaves out the projection errors.

    Raises:
        InputError: as `image_metrics`.
    """
    values: dict[str, float | None] = dict.fromkeys(metric.name for metric in PAIR_METRICS)
    values.update(image_metrics(true=truth, estimate=estimate, body=body).to_dict())
    values.update(psnr_conventions(estimate.hu, truth.hu, body=body))
    values.update(similarities(estimate.hu, truth.hu))
    if body is not None:
        values.update(tissue_errors(estimate.hu, truth.hu, body=body))
    if beams is not None:
        values.update(projection_errors(estimate.hu, truth.hu, spacing_mm=truth.spacing_mm, beams=beams))
    return values
