"""What the console and its operator do with a film: look-up table, local contrast, shutters, letters, steps of grey."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from xrecon.augmentation.film.collimation import CollimationSettings, collimate
from xrecon.augmentation.film.equalise import EqualiseSettings, equalise_contrast
from xrecon.augmentation.film.markers import MarkerSettings, mark
from xrecon.augmentation.steps import FilmView
from xrecon.geometry import ConeBeam

_EQUALISE, _COLLIMATE, _MARK = EqualiseSettings(), CollimationSettings(), MarkerSettings()
_LINEAR_SHARE, _POWER_SHARE = 0.4, 0.3
"""Of look-up tables; the rest is S-shaped."""
_STEPS = (255, 1023, 4095)
"""Grey values of films of 8, 10 and 12 bits."""


def toned(film: Tensor, rng: np.random.Generator) -> Tensor:
    """A random monotone look-up table on line integrals, as consoles apply them; range about 0..1.

    Args:
        film: [rows, cols] line integrals.
        rng: of every choice.
    """
    low, high = torch.quantile(film.flatten()[::7], torch.tensor([0.02, 0.99]))
    x: Tensor = (film - low) / (high - low).clamp(min=1e-3)
    draw = rng.random()
    if draw < _LINEAR_SHARE:
        return x
    if draw < _LINEAR_SHARE + _POWER_SHARE:
        return x.clamp(min=0.0).pow(float(rng.uniform(0.6, 1.6)))
    centre, steepness = float(rng.uniform(0.35, 0.65)), float(rng.uniform(3.0, 7.0))
    return torch.sigmoid((x - centre) * steepness)


def shown(film: Tensor, name: str, geometry: ConeBeam, rng: np.random.Generator) -> Tensor:
    """The film as it is stored: with local contrast processing, shutters and letters at random, in steps of grey.

    Args:
        film: [rows, cols], dense tissue bright, about 0..1.
        name: "pa" or "lateral".
        geometry: of the film, for widths in mm.
        rng: of every choice.
    """
    view = FilmView(name, geometry)
    image = film.numpy()
    if rng.random() < _EQUALISE.probability:
        image, _ = equalise_contrast(image, view, _EQUALISE, rng)
    if rng.random() < _COLLIMATE.probability:
        image, _ = collimate(image, view, _COLLIMATE, rng)
    if rng.random() < _MARK.probability:
        image, _ = mark(image, view, _MARK, rng)
    steps = float(_STEPS[int(rng.integers(len(_STEPS)))])
    low, high = float(image.min()), float(image.max())
    return torch.from_numpy(np.rint((image - low) * np.float32(steps / max(high - low, 1e-6)))) / steps
