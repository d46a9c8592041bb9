"""Bullae: thin-walled air inside the lung, which is no pneumothorax."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydantic import Field

from xrecon.augmentation.chest import AugmentedChest
from xrecon.augmentation.random_streams import log_uniform, whole
from xrecon.augmentation.ranges import Count, PositiveRange, step_probability
from xrecon.augmentation.steps import Draws
from xrecon.augmentation.tissue.ball import ball_share, box_around
from xrecon.augmentation.tissue.lung import aerated_voxels, lung_share
from xrecon.config import Config

_BULLA_HU = -970.0


class BullaSettings(Config):
    """Thin-walled air inside the lung: no pneumothorax."""

    probability: float = step_probability(0.1)
    count: Count = Field(default=(1, 3), description="How many, lowest and highest.")
    radius_mm: PositiveRange = Field(default=(8.0, 28.0), description="Radius, mm, log-uniform.")


def add_bullae(
    chest: AugmentedChest, settings: BullaSettings, rng: np.random.Generator
) -> tuple[AugmentedChest, Draws]:
    """Balls of air in the lung; the tissue they displace is pressed into a shell of half their radius."""
    hu = chest.hu.copy()
    places, bullae = aerated_voxels(chest), []
    for _ in range(whole(rng, settings.count) if len(places) else 0):
        place, radius = places[rng.integers(len(places))], log_uniform(rng, settings.radius_mm)
        box, away = box_around(chest, place, 1.5 * radius)
        free = (chest.sides[box] == chest.sides[tuple(place)]) & (chest.air[box] == 0)
        ball = ball_share(away, radius, chest.pitch_mm) * free
        # Mass of the ball over volume of the shell from r to 1.5 r: 1 / (1.5^3 - 1).
        shell = ball_share(away, 1.5 * radius, chest.pitch_mm) * free * lung_share(hu[box]) * (1.0 - ball)
        density = (hu[box] + np.float32(1000.0)) * (1.0 + shell / np.float32(1.5**3 - 1.0))
        hu[box] = (1.0 - ball) * density + ball * np.float32(_BULLA_HU + 1000.0) - np.float32(1000.0)
        bullae.append({"place": place.tolist(), "radius_mm": radius})
    return replace(chest, hu=hu), {"bullae": bullae}
