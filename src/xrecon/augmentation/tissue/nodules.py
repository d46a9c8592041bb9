"""Nodules: round soft-tissue lesions inside the lungs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydantic import Field

from xrecon.augmentation.chest import AugmentedChest
from xrecon.augmentation.random_streams import log_uniform, uniform, whole
from xrecon.augmentation.ranges import Count, PositiveRange, Range, step_probability
from xrecon.augmentation.steps import Draws
from xrecon.augmentation.tissue.ball import ball_share, box_around
from xrecon.augmentation.tissue.lung import aerated_voxels
from xrecon.config import Config


class NoduleSettings(Config):
    """Round soft-tissue lesions inside the lungs."""

    probability: float = step_probability(0.2)
    count: Count = Field(default=(1, 4), description="How many, lowest and highest.")
    radius_mm: PositiveRange = Field(default=(4.0, 16.0), description="Radius, mm, log-uniform.")
    hu: Range = Field(default=(-20.0, 80.0), description="Their density, HU.")


def add_nodules(
    chest: AugmentedChest, settings: NoduleSettings, rng: np.random.Generator
) -> tuple[AugmentedChest, Draws]:
    """Balls of soft tissue in the lung. The hemithorax keeps its label: a nodule is part of the lung."""
    hu = chest.hu.copy()
    places, nodules = aerated_voxels(chest), []
    for _ in range(whole(rng, settings.count) if len(places) else 0):
        place, radius = places[rng.integers(len(places))], log_uniform(rng, settings.radius_mm)
        level = uniform(rng, settings.hu)
        box, away = box_around(chest, place, radius)
        share = ball_share(away, radius, chest.pitch_mm) * ((chest.sides[box] > 0) & (chest.air[box] == 0))
        hu[box] = np.maximum(hu[box], hu[box] + share * (np.float32(level) - hu[box]))
        nodules.append({"place": place.tolist(), "radius_mm": radius, "hu": level})
    return replace(chest, hu=hu), {"nodules": nodules}
