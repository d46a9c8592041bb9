"""Pneumothoraces as they are seen: a random draw of mechanism, place, side and size.

The distribution follows 2,669 masks of a public collection of radiographs: the largest inscribed width of the air is
13, 19 and 33 mm at the quartiles, 5 % are narrower than 6.6 mm; two thirds are apical, more lie on the right. A width
is drawn first: the diameter of the largest ball in the air, which is what a film shows beside the pleural line. The
occupancy that gives it in the median chest follows from pattern and mechanism.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from xrecon.planting.pattern import MECHANISMS
from xrecon.planting.truth import PlantingSettings

_WIDTHS = ((0.0, 5.0), (0.05, 6.6), (0.25, 13.0), (0.5, 19.0), (0.75, 33.0), (0.95, 44.0), (1.0, 52.0))
"""Share of the pneumothoraces that are narrower -> largest inscribed width, mm; logarithmic between these. The films
give the part up to three quarters; the rest ends where a whole side is full."""
_PATTERNS = (("upright", 0.46), ("apical", 0.20), ("lateral", 0.14), ("loculated", 0.08), ("supine", 0.12))
_INTO = {"apical": "upright", "loculated": "lateral"}
"""What a pocket becomes that is too large for its pattern."""
_LARGEST_LOCAL = 0.35
"""A cap at the apex or a loculated pocket is at most this share of its side."""
_WIDTH_AT_TENTH: Mapping[tuple[str, str], float] = {
    ("flow", "supine"): 18.8,
    ("flow", "upright"): 16.2,
    ("flow", "lateral"): 18.4,
    ("flow", "loculated"): 25.5,
    ("flow", "apical"): 20.5,
    ("offset", "supine"): 24.5,
    ("offset", "upright"): 18.3,
    ("offset", "lateral"): 18.5,
    ("offset", "loculated"): 28.6,
    ("offset", "apical"): 22.0,
}
"""Mechanism and pattern -> median of the largest inscribed width, mm, at an occupancy of 10 %: of 128 plants of 1 to
85 % in the 16 train cases."""
_GROWTH = 0.42
"""The width grows with this power of the occupancy; single chests differ by 20 %."""
_OCCUPANCY = (0.01, 0.85)
_RIGHT_SHARE = 0.58
_TENSION_SHARE, _TENSION_FROM, _TENSION = 0.15, 0.2, (0.2, 1.0)
_EFFUSION_SHARE, _EFFUSION_ML = 0.12, (40.0, 350.0)
_PLEURA_MM: Mapping[str, tuple[float, float]] = {"flow": (0.5, 1.2), "offset": (0.2, 1.2)}


def sample_planting(rng: np.random.Generator, *, mechanism: str | None = None) -> PlantingSettings:
    """Settings of a pneumothorax, drawn from the distribution of real ones; a function of the generator only.

    Args:
        rng: of every choice. Each call takes the same number of draws, whatever they turn out to be.
        mechanism: a name in `MECHANISMS`; None: each of them as often.
    """
    which, side, size, pressed, wet, pleura = rng.random(6)
    pattern = str(rng.choice([name for name, _ in _PATTERNS], p=[share for _, share in _PATTERNS]))
    tension, effusion = float(rng.uniform(*_TENSION)), float(rng.uniform(*_EFFUSION_ML))
    seed = int(rng.integers(2**31))
    kind = MECHANISMS[int(which * len(MECHANISMS))] if mechanism is None else mechanism
    shares, widths = zip(*_WIDTHS, strict=True)
    width_mm = float(np.exp(np.interp(size, shares, np.log(widths))))
    occupancy = _occupancy(width_mm, kind, pattern)
    if occupancy > _LARGEST_LOCAL and pattern in _INTO:
        pattern = _INTO[pattern]
        occupancy = _occupancy(width_mm, kind, pattern)
    thin, thick = _PLEURA_MM[kind]
    return PlantingSettings(
        side="right" if side < _RIGHT_SHARE else "left",
        occupancy=round(occupancy, 4),
        seed=seed,
        pattern=pattern,
        tension=round(tension, 3) if pressed < _TENSION_SHARE and occupancy > _TENSION_FROM else 0.0,
        effusion_ml=round(effusion, 1) if wet < _EFFUSION_SHARE else 0.0,
        pleura_mm=round(float(thin + pleura * (thick - thin)), 3),
        mechanism=kind,
    )


def _occupancy(width_mm: float, mechanism: str, pattern: str) -> float:
    """Occupancy, 0..1, at which a pocket of this kind is so wide in the median chest."""
    share = 0.1 * (width_mm / _WIDTH_AT_TENTH[mechanism, pattern]) ** (1.0 / _GROWTH)
    return float(np.clip(share, *_OCCUPANCY))
