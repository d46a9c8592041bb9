"""Look-up table of the workstation: from line integrals to display values."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from xrecon.anatomy.morphology import Floats
from xrecon.augmentation.random_streams import log_uniform, uniform, whole
from xrecon.augmentation.ranges import Count, PositiveRange, Range, step_probability
from xrecon.augmentation.steps import Draws, FilmView
from xrecon.config import Config

_STEEPNESS = 6.0
"""Of the S-shaped curve of a film."""


class ToneSettings(Config):
    """Look-up table of the workstation."""

    probability: float = step_probability(0.8)
    gamma: PositiveRange = Field(default=(0.6, 1.6), description="Exponent on the values in the window, log-uniform.")
    sigmoid: Range = Field(default=(0.0, 1.0), description="Blend from a straight line to a film's S-shaped curve.")
    low_percent: Range = Field(default=(0.0, 6.0), description="Percentile that becomes black.")
    high_percent: Range = Field(default=(95.0, 100.0), description="Percentile that becomes white.")
    bits: Count = Field(default=(8, 12), description="Bits per pixel, lowest and highest.")


def apply_tone_curve(
    film: Floats, view: FilmView, settings: ToneSettings, rng: np.random.Generator
) -> tuple[Floats, Draws]:
    """Display values 0..1: window, exponent, S-curve, steps of so many bits."""
    del view  # the same for both films
    low, high = uniform(rng, settings.low_percent), uniform(rng, settings.high_percent)
    gamma, blend, bits = log_uniform(rng, settings.gamma), uniform(rng, settings.sigmoid), whole(rng, settings.bits)
    black, white = np.percentile(film, (low, high))
    grey = np.clip((film - black) / max(float(white - black), 1e-9), 0.0, 1.0) ** gamma
    curve = np.tanh(0.5 * _STEEPNESS * (grey - 0.5)) / (2.0 * np.tanh(0.25 * _STEEPNESS)) + 0.5
    grey = (1.0 - blend) * grey + blend * curve
    steps = float(2**bits - 1)
    return (np.rint(grey * steps) / steps).astype(np.float32), {
        "low_percent": low,
        "high_percent": high,
        "gamma": gamma,
        "sigmoid": blend,
        "bits": bits,
    }
