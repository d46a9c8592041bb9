"""The scanner that saw the chest: its kernel and its noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydantic import Field
from scipy import ndimage

from xrecon.augmentation.chest import AugmentedChest
from xrecon.augmentation.random_streams import uniform
from xrecon.augmentation.ranges import Range, step_probability
from xrecon.augmentation.steps import Draws
from xrecon.config import Config
from xrecon.volume import OUTSIDE_HU


class ScannerSettings(Config):
    """Kernel and noise of the CT scanner."""

    probability: float = step_probability(0.4)
    blur_mm: Range = Field(default=(0.0, 2.5), description="Standard deviation of a further smoothing, mm.")
    noise_hu: Range = Field(
        default=(0.0, 15.0), description="Standard deviation of the noise on the frame's voxels, HU."
    )
    grain_mm: Range = Field(default=(0.0, 4.0), description="Standard deviation of the noise's correlation, mm.")


def scan(chest: AugmentedChest, settings: ScannerSettings, rng: np.random.Generator) -> tuple[AugmentedChest, Draws]:
    """A softer kernel, and noise with its grain, inside the patient and the measured part only."""
    blur, noise, grain = (uniform(rng, limits) for limits in (settings.blur_mm, settings.noise_hu, settings.grain_mm))
    hu = chest.hu
    if blur > 0.2 * chest.pitch_mm:
        hu = ndimage.gaussian_filter(hu, blur / chest.pitch_mm, mode="nearest", truncate=3.0)
    else:
        hu, blur = hu.copy(), 0.0
    pattern = rng.standard_normal(hu.shape, dtype=np.float32)
    if grain > 0.2 * chest.pitch_mm:
        pattern = ndimage.gaussian_filter(pattern, grain / chest.pitch_mm, mode="wrap", truncate=3.0)
    pattern *= np.float32(noise / max(float(pattern.std()), 1e-6))
    hu += pattern * (chest.measured & (chest.hu > OUTSIDE_HU + 4.0))
    return replace(chest, hu=np.maximum(hu, np.float32(OUTSIDE_HU))), {
        "blur_mm": blur,
        "noise_hu": noise,
        "grain_mm": grain,
    }
