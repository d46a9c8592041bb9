"""What the robustness study says: the mean of each metric by model, disturbance and level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xrecon.evaluation.statistics.agreement import Estimate
from xrecon.evaluation.statistics.comparison import mean_by_patient

METRICS = ("psnr_2500_db", "ssim_unit_3d", "mae_body_hu")
"""Metrics of the study, in the order of its tables."""

UNDISTURBED = "none"
"""Kind of the films without a disturbance."""


@dataclass(frozen=True)
class RobustnessFigures:
    """One model under one disturbance.

    Attributes:
        model: label of the model.
        kind: of the disturbance, a key of `disturbances.LEVELS`, or "none".
        level: of the disturbance, in its own unit; 0 without one.
        n: number of cases.
        means: metric -> mean over the cases with its interval, from draws of patients.
    """

    model: str
    kind: str
    level: float
    n: int
    means: Mapping[str, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """Model, kind, level and n, then one entry per metric."""
        return {"model": self.model, "kind": self.kind, "level": self.level, "n": self.n, **self.means}


def summarise_robustness(rows: Sequence[Mapping[str, Any]], *, seed: int = 0) -> list[RobustnessFigures]:
    """The figures of each model, disturbance and level, in order of first appearance.

    Args:
        rows: of `run_robustness_study`, JSON values: case, patient, model, kind, level and one value per metric.
        seed: of the bootstrap.
    """
    figures = []
    for key in dict.fromkeys((row["model"], row["kind"], row["level"]) for row in rows):
        group = [row for row in rows if (row["model"], row["kind"], row["level"]) == key]
        patients = [row["patient"] for row in group]
        means = {name: mean_by_patient([row[name] for row in group], patients, seed=seed) for name in METRICS}
        figures.append(RobustnessFigures(*key, n=len(group), means=means))
    return figures
