"""Pleural fluid without air."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydantic import Field

from xrecon.augmentation.chest import AugmentedChest
from xrecon.augmentation.random_streams import log_uniform, uniform
from xrecon.augmentation.ranges import PositiveRange, step_probability
from xrecon.augmentation.steps import Draws
from xrecon.augmentation.tissue.lung import filled_below, gravity_depth_mm, healthy_sides, lung_share
from xrecon.config import Config

_FLUID_HU = (0.0, 25.0)
_MENISCUS_MM = 25.0
"""How far the rim of the fluid climbs the chest wall."""


class EffusionSettings(Config):
    """Pleural fluid without air, at the back of one lung (patient on the back) or at its base (upright)."""

    probability: float = step_probability(0.1)
    share: PositiveRange = Field(default=(0.02, 0.25), description="Part of the hemithorax that it fills, log-uniform.")
    upright_probability: float = Field(default=0.5, ge=0, le=1, description="Share of them with the patient upright.")


def add_effusion(
    chest: AugmentedChest, settings: EffusionSettings, rng: np.random.Generator
) -> tuple[AugmentedChest, Draws]:
    """Fluid at the back or at the base of one hemithorax, with a rim that climbs the chest wall; no longer lung.

    A side with free air keeps its flat level and is left alone.
    """
    upright, share = bool(rng.random() < settings.upright_probability), log_uniform(rng, settings.share)
    level_hu, first = uniform(rng, _FLUID_HU), int(rng.integers(2))
    side = next((s for s in healthy_sides(chest, first)), None)
    if side is None:
        return chest, {"skipped": "no side without free air"}
    cavity = chest.sides == side
    depth = gravity_depth_mm(cavity, chest.pitch_mm, axis=0 if upright else 1)
    columns = np.flatnonzero(cavity.any(axis=(0, 1)))
    lateral = (np.arange(cavity.shape[2]) - columns[0]) / max(len(columns) - 1, 1)
    lateral = 1.0 - lateral if side == 1 else lateral  # the right lung's costal wall has the low columns
    depth = depth + (np.clip(lateral, 0.0, 1.0) ** 3 * _MENISCUS_MM).astype(np.float32)
    fluid = filled_below(depth, cavity.astype(np.float32), share * float(cavity.sum()), chest.pitch_mm)
    density = (chest.hu + np.float32(1000.0)) * (1.0 + cavity * lung_share(chest.hu) * np.float32(share))
    hu = density - np.float32(1000.0)
    hu = hu + fluid * (np.float32(level_hu) - hu)
    sides = np.where(fluid >= 0.5, np.uint8(0), chest.sides)
    record = {"side": "right" if side == 1 else "left", "upright": upright, "share": share, "hu": level_hu}
    return replace(chest, hu=hu.astype(np.float32), sides=sides), record
