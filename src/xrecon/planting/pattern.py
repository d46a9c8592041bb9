"""Where the air of a planted pneumothorax enters: gravity, adhesions, chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.morphology import Floats
from xrecon.errors import InputError
from xrecon.planting.flow import Cavity, smooth_noise

PATTERNS = ("supine", "upright", "lateral", "loculated", "apical")
_ROOT_MM = 28.0
"""No air enters this close to the lung root, where the pleura folds over."""


@dataclass(frozen=True)
class Spread:
    """How a pattern weighs the wall: the air reaches the places with the highest score first.

    Attributes:
        anterior, basal, apical, lateral: weights of the position, each 0..1 over the cavity.
        coverage: share of the wall that the air would reach at an occupancy of 1. It grows with its power 0.6: a pocket
            that keeps its shape grows in width and depth alike, and its contact with the wall by the power 2/3.
        softness: width of the transition, in the unit of the score.
        gravity: axis (0 feet, 1 back) to which fluid sinks.
    """

    anterior: float = 0.0
    basal: float = 0.0
    apical: float = 0.0
    lateral: float = 0.0
    coverage: float = 0.85
    softness: float = 0.06
    gravity: int = 1


SPREADS = {
    "supine": Spread(anterior=1.0, basal=0.35, lateral=0.1),
    "upright": Spread(apical=1.0, lateral=0.25, gravity=0),
    "lateral": Spread(lateral=1.0, anterior=0.25),
    "apical": Spread(apical=1.0, anterior=0.1, coverage=0.7, softness=0.04),
    "loculated": Spread(coverage=0.45, softness=0.05),
}


def inflow(
    cavity: Cavity, *, pattern: str, side: str, occupancy: float, fluid_share: float, rng: np.random.Generator
) -> Floats:
    """Relative inflow [D, H, W] >= 0 of air at the wall.

    A small pneumothorax follows its pattern; the larger it is the more the lung leaves the whole wall and shrinks
    to its root.

    Args:
        cavity: of one side.
        pattern: a key of `SPREADS`.
        side: "right" or "left", the patient's.
        occupancy: 0..1, how large the pneumothorax will be.
        fluid_share: share of fluid in what replaces the lung; it enters at the dependent wall.
        rng: draws the irregularity of the front and the place of a loculated pocket.
    """
    spread = SPREADS[pattern]
    wall = cavity.mask & (cavity.depth < 2.0 * cavity.pitch_mm)
    fraction = _fractions(cavity)
    lateral = fraction[2] if side == "left" else 1.0 - fraction[2]
    if pattern == "loculated":
        score = _around_a_place(cavity, wall, lateral, rng)
    else:
        score = (
            spread.anterior * (1.0 - fraction[1])
            + spread.basal * fraction[0]
            + spread.apical * (1.0 - fraction[0])
            + spread.lateral * lateral
        )
    score = score + 0.06 * smooth_noise(cavity.mask.shape, 25.0 / cavity.pitch_mm, rng)
    weight = _reached(score, wall, spread.coverage * occupancy**0.6, spread.softness)
    share = _smoothstep((occupancy - 0.35) / 0.4)
    weight = (1.0 - share) * weight + share * _from_everywhere(cavity)
    if fluid_share > 0:
        dependent = _reached(fraction[spread.gravity], wall, 0.12 + 0.5 * fluid_share * occupancy, 0.06)
        balance = fluid_share * weight[wall].sum() / max(float(dependent[wall].sum()), 1e-6)
        weight = (1.0 - fluid_share) * weight + balance * dependent
    return np.asarray(weight * _away_from_root(cavity), dtype=np.float32)


def contraction(cavity: Cavity, rng: np.random.Generator) -> Floats:
    """Relative rate [D, H, W] at which the tissue shrinks: smoothly irregular, more in dependent lung."""
    back = _fractions(cavity)[1]
    uneven = 0.2 * smooth_noise(cavity.mask.shape, 22.0 / cavity.pitch_mm, rng) + 0.4 * (back - 0.5)
    return np.asarray(np.exp(uneven), dtype=np.float32)


def _fractions(cavity: Cavity) -> Floats:
    """[3, D, H, W] position within the cavity, 0..1 from head to feet, front to back, right to left."""
    positions = cavity.positions
    low, high = np.percentile(positions[:, cavity.mask], (1, 99), axis=1).reshape(2, 3, 1, 1, 1)
    return np.asarray(np.clip((positions - low) / np.maximum(high - low, 1e-6), 0.0, 1.0), dtype=np.float32)


def _around_a_place(cavity: Cavity, wall: NDArray[np.bool_], lateral: Floats, rng: np.random.Generator) -> Floats:
    """Score that falls with the distance from a random place of the costal wall; 1 per 100 mm."""
    costal = np.argwhere(wall & (lateral > 0.45) & (cavity.from_root_mm > 55.0))
    if len(costal) == 0:
        raise InputError("the lung is too small for a loculated pocket: no costal wall 55 mm from its root")
    place = costal[rng.integers(len(costal))].astype(np.float32) * cavity.pitch_mm
    away = cavity.positions - place.reshape(3, 1, 1, 1)
    return np.asarray(-np.linalg.norm(away, axis=0) / 100.0, dtype=np.float32)


def _reached(score: Floats, wall: NDArray[np.bool_], coverage: float, softness: float) -> Floats:
    threshold, top = np.quantile(score[wall], (1.0 - min(coverage, 0.95), 0.999))
    reached = 1.0 / (1.0 + np.exp(-np.clip((score - threshold) / softness, -30.0, 30.0)))
    # Deepest at the highest score: a lens or a crescent, not a sheet.
    lens = 0.3 + 0.7 * np.clip((score - threshold) / max(top - threshold, 1e-6), 0.0, 1.0)
    return np.asarray(reached * lens, dtype=np.float32)


def _from_everywhere(cavity: Cavity) -> Floats:
    """Inflow that shrinks the cavity to its root without change of shape, where the wall allows it."""
    to_root = cavity.root_mm.reshape(3, 1, 1, 1).astype(np.float32) - cavity.positions
    towards = (to_root * cavity.normal).sum(axis=0)
    return np.asarray(np.maximum(towards, 0.0) / cavity.from_root_mm[cavity.mask].max(), dtype=np.float32)


def _away_from_root(cavity: Cavity) -> Floats:
    return np.asarray(1.0 - np.exp(-((cavity.from_root_mm / _ROOT_MM) ** 4)), dtype=np.float32)


def _smoothstep(x: float) -> float:
    x = min(max(x, 0.0), 1.0)
    return x * x * (3.0 - 2.0 * x)
