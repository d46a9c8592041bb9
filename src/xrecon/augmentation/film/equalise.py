"""Local contrast processing, like CLAHE or a vendor's multi-scale processing."""

from __future__ import annotations

import numpy as np
from pydantic import Field
from scipy import ndimage

from xrecon.anatomy.morphology import Floats
from xrecon.augmentation.random_streams import log_uniform, uniform
from xrecon.augmentation.ranges import PositiveRange, Range, step_probability
from xrecon.augmentation.steps import Draws, FilmView
from xrecon.config import Config


class EqualiseSettings(Config):
    """Local contrast processing, like CLAHE or a vendor's multi-scale processing."""

    probability: float = step_probability(0.3)
    strength: Range = Field(default=(0.2, 0.9), description="Blend with the locally normalised film, 0..1.")
    window_mm: PositiveRange = Field(default=(30.0, 100.0), description="Width of the neighbourhood, mm.")


def equalise_contrast(
    film: Floats, view: FilmView, settings: EqualiseSettings, rng: np.random.Generator
) -> tuple[Floats, Draws]:
    """A blend with the film whose local mean and contrast are made alike everywhere."""
    strength, window = uniform(rng, settings.strength), log_uniform(rng, settings.window_mm)
    sigma = [0.5 * window / pitch for pitch in view.beam.pixel_at_isocentre_mm]
    mean = ndimage.gaussian_filter(film, sigma, mode="reflect")
    spread = np.sqrt(np.maximum(ndimage.gaussian_filter((film - mean) ** 2, sigma, mode="reflect"), 0.0))
    whole_mean, whole_spread = float(film.mean()), float(film.std())
    # The floor keeps the noise of empty places from being blown up.
    local = whole_mean + (film - mean) * (0.7 * whole_spread / (spread + np.float32(0.35 * whole_spread + 1e-9)))
    out = (1.0 - strength) * film + strength * local
    return out.astype(np.float32), {"strength": strength, "window_mm": window}
