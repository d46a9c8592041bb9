"""Habitus of the analytic thorax, and the pneumothorax it may have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from xrecon.errors import InputError

RANGES: Mapping[str, tuple[float, float]] = {
    "chest_width_mm": (200.0, 350.0),
    "chest_depth_mm": (130.0, 260.0),
    "lung_height_mm": (150.0, 280.0),
    "fat_mm": (2.0, 50.0),
    "heart_scale": (0.7, 1.4),
    "inspiration": (0.0, 1.0),
    "breast_mm": (0.0, 60.0),
    "kyphosis_mm": (0.0, 45.0),
    "noise_hu": (0.0, 100.0),
    "pneumothorax_ml": (0.0, 5000.0),
}
"""Smallest and largest accepted value of every number in `ThoraxParameters`."""


@dataclass(frozen=True)
class ThoraxParameters:
    """Habitus of the patient. Ranges are in `RANGES`; the defaults are a slim adult man at full inspiration.

    Attributes:
        chest_width_mm: outer width of the rib cage at its widest, 200..350 mm.
        chest_depth_mm: outer depth of the rib cage, front to back, at its deepest, 130..260 mm.
        lung_height_mm: apex of the lung to the top of the right dome at full inspiration, 150..280 mm. Spine and ribs
            scale with it.
        fat_mm: thickness of the subcutaneous fat, 2..50 mm.
        heart_scale: linear size of the heart relative to the chest, 0.7..1.4; 1 gives a cardiothoracic ratio near 0.46.
        inspiration: 0 (end of expiration: the domes stand a fifth of `lung_height_mm` higher) to 1.
        breast_mm: height of the breasts over the chest wall, 0 (none)..60 mm.
        kyphosis_mm: how far the spine's bow stands back from its ends (T1, T12), 0..45 mm.
        table: a curved CT table lies behind the back.
        noise_hu: standard deviation of white noise, 0..100 HU; 0 adds none.
        seed: of the vessel trees and the noise, >= 0.
        pneumothorax_side: "right", "left" (the patient's) or None.
        pneumothorax_ml: free pleural air, mL, 0..5000; larger than 0 exactly when a side is given.

    Raises:
        InputError: a value is out of its range or not finite, or side and volume contradict each other.
    """

    chest_width_mm: float = 285.0
    chest_depth_mm: float = 190.0
    lung_height_mm: float = 225.0
    fat_mm: float = 12.0
    heart_scale: float = 1.0
    inspiration: float = 1.0
    breast_mm: float = 0.0
    kyphosis_mm: float = 18.0
    table: bool = True
    noise_hu: float = 0.0
    seed: int = 0
    pneumothorax_side: Literal["right", "left"] | None = None
    pneumothorax_ml: float = 0.0

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
                raise InputError(f"ThoraxParameters.{name} must be a number, got {value!r}")
            if not (math.isfinite(value) and low <= value <= high):
                raise InputError(f"ThoraxParameters.{name}={value} is out of its range {low:g}..{high:g}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, (int, np.integer)) or self.seed < 0:
            raise InputError(f"ThoraxParameters.seed must be an integer of at least 0, got {self.seed!r}")
        if self.pneumothorax_side not in (None, "right", "left"):
            raise InputError(
                f'ThoraxParameters.pneumothorax_side must be "right", "left" or None, got {self.pneumothorax_side!r}'
            )
        if (self.pneumothorax_side is None) != (self.pneumothorax_ml == 0):
            raise InputError(
                f"a pneumothorax has a side and a volume: got pneumothorax_side={self.pneumothorax_side!r} with "
                f"pneumothorax_ml={self.pneumothorax_ml:g}; give both, or None and 0"
            )

    @classmethod
    def sample(cls, rng: np.random.Generator) -> ThoraxParameters:
        """A plausible adult, woman or man, lean to obese, without a pneumothorax; fits a 384 mm frame.

        Sizes go together through a common stature factor; fat is skewed towards lean.
        """
        woman = bool(rng.random() < 0.5)
        stature = float(np.clip(rng.normal(0.95 if woman else 1.01, 0.04), 0.86, 1.09))
        width = float(np.clip(rng.normal(280.0 * stature, 8.0), 230.0, 310.0))
        # What is left of the frame beside ribs and muscle bounds the fat, so that the skin stays in the picture.
        fat = float(min(3.0 + rng.gamma(2.2, 6.5), 184.0 - 0.58 * width))
        return cls(
            chest_width_mm=width,
            chest_depth_mm=float(np.clip(rng.normal(184.0 * stature, 9.0), 150.0, 215.0)),
            lung_height_mm=float(np.clip(rng.normal(220.0 * stature, 8.0), 180.0, 248.0)),
            fat_mm=max(fat, 3.0),
            heart_scale=float(np.clip(rng.normal(1.0, 0.07), 0.8, 1.25)),
            inspiration=float(rng.beta(4.0, 1.5)),
            breast_mm=float(rng.uniform(12.0, 45.0)) if woman else 0.0,
            kyphosis_mm=float(rng.uniform(10.0, 34.0)),
            table=bool(rng.random() < 0.7),
            noise_hu=float(rng.uniform(0.0, 20.0)),
            seed=int(rng.integers(0, 2**31)),
        )
