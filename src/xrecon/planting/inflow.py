"""Where the air of a planted pneumothorax enters the pleural cavity: gravity, adhesions, chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.morphology import Floats
from xrecon.errors import InputError
from xrecon.planting.flow import Cavity, smooth_noise
from xrecon.planting.pattern import PATTERNS, Pattern

_ROOT_MM = 28.0
"""No air enters this close to the lung root, where the pleura folds over."""


def air_inflow(
    cavity: Cavity, *, pattern: str, side: str, occupancy: float, fluid_share: float, rng: np.random.Generator
) -> Floats:
    """Relative inflow [D, H, W] >= 0 of air at the wall.

    A small pneumothorax follows its pattern; the larger it is the more the lung leaves the whole wall and shrinks
    to its root.

    Args:
        cavity: of one side.
        pattern: a name in `PATTERNS`.
        side: "right" or "left", the patient's.
        occupancy: 0..1, how large the pneumothorax will be.
        fluid_share: share of fluid in what replaces the lung; it enters at the dependent wall.
        rng: draws the irregularity of the front and the place of a loculated pocket.

    Raises:
        InputError: a loculated pocket in a lung without costal wall 55 mm from its root.
    """
    spread = PATTERNS[pattern]
    wall = cavity.mask & (cavity.depth < 2.0 * cavity.pitch_mm)
    fraction = cavity_fractions(cavity)
    score = pattern_score(spread, cavity, wall, fraction, side=side, rng=rng)
    score = score + 0.06 * smooth_noise(cavity.mask.shape, 25.0 / cavity.pitch_mm, rng)
    weight = _reached(score, wall, coverage=spread.coverage * occupancy**0.6, softness=spread.softness)
    share = _smoothstep((occupancy - 0.35) / 0.4)
    weight = (1.0 - share) * weight + share * _from_everywhere(cavity)
    if fluid_share > 0:
        coverage = 0.12 + 0.5 * fluid_share * occupancy
        dependent = _reached(fraction[spread.gravity], wall, coverage=coverage, softness=0.06)
        balance = fluid_share * weight[wall].sum() / max(float(dependent[wall].sum()), 1e-6)
        weight = (1.0 - fluid_share) * weight + balance * dependent
    return np.asarray(weight * away_from_root(cavity), dtype=np.float32)


def tissue_contraction(cavity: Cavity, rng: np.random.Generator) -> Floats:
    """Relative rate [D, H, W] at which the tissue shrinks: smoothly irregular, more in dependent lung."""
    back = cavity_fractions(cavity)[1]
    uneven = 0.2 * smooth_noise(cavity.mask.shape, 22.0 / cavity.pitch_mm, rng) + 0.4 * (back - 0.5)
    return np.asarray(np.exp(uneven), dtype=np.float32)


def pattern_score(
    spread: Pattern,
    cavity: Cavity,
    wall: NDArray[np.bool_],
    fraction: Floats,
    *,
    side: str,
    rng: np.random.Generator,
) -> Floats:
    """[D, H, W] how early the air reaches each place: the highest score first.

    Args:
        spread: the pattern.
        cavity: of one side.
        wall: [D, H, W], its outermost voxels.
        fraction: `cavity_fractions(cavity)`.
        side: "right" or "left", the patient's.
        rng: draws the place of a loculated pocket.

    Raises:
        InputError: a loculated pocket in a lung without costal wall 55 mm from its root.
    """
    lateral = fraction[2] if side == "left" else 1.0 - fraction[2]
    if spread.loculated:
        return _around_a_place(cavity, wall, lateral, rng)
    score: Floats = (
        spread.anterior * (1.0 - fraction[1])
        + spread.basal * fraction[0]
        + spread.apical * (1.0 - fraction[0])
        + spread.lateral * lateral
    )
    return score


def cavity_fractions(cavity: Cavity) -> Floats:
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


def _reached(score: Floats, wall: NDArray[np.bool_], *, coverage: float, softness: float) -> Floats:
    """[D, H, W] 0..1, how much of the air enters where, when it covers the share `coverage` of the wall."""
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


def away_from_root(cavity: Cavity) -> Floats:
    """[D, H, W] 0 at the lung root, 1 far from it."""
    return np.asarray(1.0 - np.exp(-((cavity.from_root_mm / _ROOT_MM) ** 4)), dtype=np.float32)


def _smoothstep(x: float) -> float:
    x = min(max(x, 0.0), 1.0)
    return x * x * (3.0 - 2.0 * x)
