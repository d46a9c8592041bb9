"""Density of lung, fat and bone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydantic import Field

from xrecon.augmentation.chest import AugmentedChest
from xrecon.augmentation.random_streams import log_uniform, signed
from xrecon.augmentation.ranges import PositiveRange, step_probability
from xrecon.augmentation.steps import Draws
from xrecon.augmentation.tissue.lung import lung_share
from xrecon.config import Config

_BONE_HU = 150.0
_FAT_HU, _FAT_WIDTH_HU = -95.0, 65.0


class DensitySettings(Config):
    """Density of lung, fat and bone: inspiration, emphysema, contrast of the soft parts, osteoporosis."""

    probability: float = step_probability(0.6)
    lung: PositiveRange = Field(
        default=(0.7, 1.5), description="Factor of the lung's density (HU + 1000), log-uniform."
    )
    gradient: float = Field(default=0.25, ge=0, le=0.8, description="Largest change from front to back, share of it.")
    fat_hu: float = Field(default=30.0, ge=0, le=100, description="Largest shift of fat, HU.")
    bone: PositiveRange = Field(default=(0.75, 1.2), description="Factor of what exceeds 150 HU, log-uniform.")


def change_density(
    chest: AugmentedChest, settings: DensitySettings, rng: np.random.Generator
) -> tuple[AugmentedChest, Draws]:
    """Lung denser or thinner, with a slope from front to back; fat shifted; bone scaled above 150 HU."""
    factor = log_uniform(rng, settings.lung)
    slope, fat, bone = signed(rng, settings.gradient), signed(rng, settings.fat_hu), log_uniform(rng, settings.bone)
    hu = chest.hu.copy()
    inside = (chest.sides > 0) & (chest.air == 0)
    lung = lung_share(hu) * inside
    along = np.linspace(-1.0, 1.0, hu.shape[1], dtype=np.float32)[None, :, None] * np.float32(slope)
    hu += lung * (np.float32(factor) * (1.0 + along) - 1.0) * np.maximum(hu + np.float32(1000.0), 0.0)
    fatty = np.clip(1.0 - np.abs(chest.hu - np.float32(_FAT_HU)) / np.float32(_FAT_WIDTH_HU), 0.0, 1.0)
    hu += np.float32(fat) * fatty * ~inside
    hu += np.float32(bone - 1.0) * np.maximum(hu - np.float32(_BONE_HU), 0.0)
    return replace(chest, hu=hu), {"lung": factor, "gradient": slope, "fat_hu": fat, "bone": bone}
