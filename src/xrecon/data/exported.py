"""What an export of a prepared data set to another layout wrote."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Exported:
    """Result of an export.

    Attributes:
        cases: subset -> names of the cases that were written; only subsets that the data set has.
        left_out: number of cases for which the layout has no place.
    """

    cases: dict[str, list[str]]
    left_out: int = 0
