"""A metric as a value: its name in files, how people read it, and what exactly it measures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Group = Literal["image", "anatomy", "structure", "run"]
"""What a metric is computed from: HU of both volumes, PTX-Seg on both, a label map of the truth, or the run itself."""


@dataclass(frozen=True)
class Metric:
    """One figure of an estimate against the truth. Everything that tables and reports need to know stands here.

    Attributes:
        name: key in CSV and JSON files; unique in the catalogue.
        label: what people read, without the unit.
        unit: such as "dB", "HU", "mm"; empty for a pure number.
        decimals: digits after the point that people read.
        higher_is_better: True or False; None for a signed error, which is best at 0.
        region: the voxels that it is taken over, in words.
        convention: formula, unit, region and source in one line.
        group: what it is computed from.
        headline: place in the short table of an evaluation, from 1; 0 if it is not part of it.
        tested: whether models are compared with the baseline by it; such a metric has a place in the headline.
        section: place in the table that the report makes of the metric's group, from 1; 0 if it stands with the others.
    """

    name: str
    label: str
    unit: str
    decimals: int
    higher_is_better: bool | None
    region: str
    convention: str
    group: Group = "image"
    headline: int = 0
    tested: bool = False
    section: int = 0

    @property
    def heading(self) -> str:
        """The label with its unit, such as "MAE, inside the body (HU)"."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def text(self, value: float | None) -> str:
        """A value for people, without its unit: "-" if it was not measured, "inf" if it is infinite."""
        if value is None or math.isnan(value):
            return "-"
        if math.isinf(value):
            return "inf" if value > 0 else "-inf"
        return f"{value:.{self.decimals}f}"

    def better(self, value: float, other: float) -> bool:
        """Whether `value` is strictly better than `other`."""
        if self.higher_is_better is None:
            return abs(value) < abs(other)
        return value > other if self.higher_is_better else value < other
