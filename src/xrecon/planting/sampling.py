"""Pneumothoraces as they are seen: a random draw of mechanism, place, side and size.

The distribution follows 2,669 masks of a public collection of radiographs: the largest inscribed width of the air is
13, 19 and 33 mm at the quartiles, 5 % are narrower than 6.6 mm; two thirds are apical, more lie on the right.
"""

from __future__ import annotations

import math

import numpy as np

from xrecon.planting.pattern import MECHANISMS
from xrecon.planting.truth import PlantingSettings

_PATTERNS = (("upright", 0.46), ("apical", 0.20), ("lateral", 0.14), ("loculated", 0.08), ("supine", 0.12))
_RIGHT_SHARE = 0.58
_MEDIAN_OCCUPANCY, _LOG_SPREAD = 0.12, 1.15
_OCCUPANCY = (0.01, 0.85)
_APICAL_LIMIT = 0.35
"""A cap at the apex is no larger than this share of its side."""
_TENSION_SHARE, _TENSION_FROM = 0.15, 0.2
_EFFUSION_SHARE = 0.12


def sample_planting(rng: np.random.Generator, *, mechanism: str | None = None) -> PlantingSettings:
    """Settings of one pneumothorax, drawn from the distribution of the module.

    Args:
        rng: of every choice.
        mechanism: a name in `MECHANISMS`; None: each of them as often.
    """
    draws = rng.random(5)
    pattern = str(rng.choice([name for name, _ in _PATTERNS], p=[share for _, share in _PATTERNS]))
    occupancy = float(np.clip(math.exp(rng.normal(math.log(_MEDIAN_OCCUPANCY), _LOG_SPREAD)), *_OCCUPANCY))
    if pattern == "apical":
        occupancy = min(occupancy, _APICAL_LIMIT)
    kind = MECHANISMS[int(draws[0] * len(MECHANISMS))] if mechanism is None else mechanism
    tension = float(rng.uniform(0.2, 1.0))
    effusion = float(rng.uniform(40.0, 350.0))
    pleura = float(rng.uniform(0.2, 1.2) if kind == "offset" else rng.uniform(0.5, 1.2))
    return PlantingSettings(
        side="right" if draws[1] < _RIGHT_SHARE else "left",
        occupancy=round(occupancy, 4),
        seed=int(rng.integers(2**31)),
        pattern=pattern,
        tension=round(tension, 3) if draws[2] < _TENSION_SHARE and occupancy > _TENSION_FROM else 0.0,
        effusion_ml=round(effusion, 1) if draws[3] < _EFFUSION_SHARE and kind == "flow" else 0.0,
        pleura_mm=round(pleura, 3),
        mechanism=kind,
    )
