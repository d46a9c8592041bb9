"""A film with dense tissue dark: a file whose polarity is stated wrongly."""

from __future__ import annotations

import numpy as np

from xrecon.anatomy.morphology import Floats
from xrecon.augmentation.ranges import step_probability
from xrecon.augmentation.steps import Draws, FilmView
from xrecon.config import Config


class InversionSettings(Config):
    """Film with dense tissue dark: a file whose polarity is stated wrongly."""

    probability: float = step_probability(0.02)


def invert(film: Floats, view: FilmView, settings: InversionSettings, rng: np.random.Generator) -> tuple[Floats, Draws]:
    """Dense tissue dark."""
    del view, settings, rng  # nothing to draw, and the same for both films
    return np.asarray(film.max() + film.min() - film, dtype=np.float32), {"inverted": True}
