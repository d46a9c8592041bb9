"""The patterns of a planted pneumothorax: where the air collects, as a table that the planter and the CLI read.

A new pattern is one more entry at the end of the table. The place of an entry is part of the seed of its random
numbers, so entries never change places. This module imports nothing heavy: `xrecon plant --help` lists the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Pattern:
    """How a pattern weighs the wall of the pleural cavity: the air reaches the places with the highest score first.

    Attributes:
        name: as the user gives it.
        anterior, basal, apical, lateral: weights of the position, each 0..1 over the cavity.
        loculated: the score is not a weighted position but falls with the distance from one random place of the
            costal wall.
        coverage: share of the wall that the air would reach at an occupancy of 1. It grows with its power 0.6: a pocket
            that keeps its shape grows in width and depth alike, and its contact with the wall by the power 2/3.
        softness: width of the transition, in the unit of the score.
        gravity: axis (0 feet, 1 back) to which fluid sinks.
    """

    name: str
    anterior: float = 0.0
    basal: float = 0.0
    apical: float = 0.0
    lateral: float = 0.0
    loculated: bool = False
    coverage: float = 0.85
    softness: float = 0.06
    gravity: int = 1


_TABLE = (
    Pattern("supine", anterior=1.0, basal=0.35, lateral=0.1),
    Pattern("upright", apical=1.0, lateral=0.25, gravity=0),
    Pattern("lateral", lateral=1.0, anterior=0.25),
    Pattern("loculated", loculated=True, coverage=0.45, softness=0.05),
    Pattern("apical", apical=1.0, anterior=0.1, coverage=0.7, softness=0.04),
)
PATTERNS: Mapping[str, Pattern] = {pattern.name: pattern for pattern in _TABLE}
"""Name -> pattern."""
PATTERN_NAMES = tuple(PATTERNS)
"""The names in the order of the table."""
MECHANISMS = ("flow", "offset")
"""How the air gets its shape: the lung contracts in a flow, or its surface is set back by a smooth random depth."""
