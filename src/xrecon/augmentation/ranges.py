"""Types of the ranges from which the augmentation draws.

A range is (lowest, highest) of a uniform distribution unless a description says otherwise. Signed amplitudes are single
numbers x, drawn from -x to +x.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field

PairT = TypeVar("PairT", tuple[float, float], tuple[int, int])


def _ascending(pair: PairT) -> PairT:
    if pair[0] > pair[1]:
        raise ValueError(f"the range must ascend, got {pair}")
    return pair


Range = Annotated[tuple[float, float], AfterValidator(_ascending)]
"""(lowest, highest)."""


def _positive(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] <= 0:
        raise ValueError(f"the range must be positive, got {pair}")
    return pair


def _natural(pair: tuple[int, int]) -> tuple[int, int]:
    if pair[0] < 1:
        raise ValueError(f"expected whole numbers of at least 1, got {pair}")
    return pair


PositiveRange = Annotated[Range, AfterValidator(_positive)]
"""(lowest, highest), both above 0."""
Count = Annotated[tuple[int, int], AfterValidator(_ascending), AfterValidator(_natural)]
"""(lowest, highest), whole numbers of at least 1."""


def step_probability(default: float) -> float:
    """The field of a step's probability, 0..1."""
    value: float = Field(default=default, ge=0.0, le=1.0, description="Probability of the step, 0..1.")
    return value
