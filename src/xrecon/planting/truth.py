"""The truth of a planted pneumothorax: a segmentation that also says what was asked for and what was reached."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from xrecon.anatomy.morphology import Floats
from xrecon.errors import InputError
from xrecon.planting.noise import ScanNoise
from xrecon.planting.pattern import MECHANISMS, PATTERNS
from xrecon.planting.render import PLEURA_MM
from xrecon.planting.shift import FULL_SHIFT_MM
from xrecon.segmentation import Segmentation
from xrecon.volume import RESEARCH_NOTICE

_LIMITS = {"occupancy": (0.01, 0.90), "tension": (0.0, 1.0), "effusion_ml": (0.0, 3000.0), "pleura_mm": (0.1, 3.0)}
"""Smallest and largest accepted value of every number in `PlantingSettings` but the seed."""


@dataclass(frozen=True)
class PlantingSettings:
    """What is to be planted.

    Attributes:
        side: "right" or "left", the patient's.
        occupancy: air / (air + lung) of that side, 0.01..0.90.
        seed: of the pocket's shape and of the noise in it, >= 0.
        pattern: a name in `PATTERNS`: where the air collects.
        tension: 0..1, how far the mediastinum is pushed to the other side (1: 20 mm).
        effusion_ml: fluid in the same pleural space, mL, 0..3000.
        pleura_mm: thickness of the line between lung and air, mm, 0.1..3.
        mechanism: a name in `MECHANISMS`.

    Raises:
        InputError: a value of the wrong type or out of its range.
    """

    side: str = "right"
    occupancy: float = 0.25
    seed: int = 0
    pattern: str = "supine"
    tension: float = 0.0
    effusion_ml: float = 0.0
    pleura_mm: float = PLEURA_MM
    mechanism: str = "flow"

    def __post_init__(self) -> None:
        if self.side not in ("right", "left"):
            raise InputError(f'side must be "right" or "left" (the patient\'s), got {self.side!r}')
        if self.pattern not in PATTERNS:
            raise InputError(f"pattern must be one of {', '.join(PATTERNS)}, got {self.pattern!r}")
        if self.mechanism not in MECHANISMS:
            raise InputError(f"mechanism must be one of {', '.join(MECHANISMS)}, got {self.mechanism!r}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, (int, np.integer)) or self.seed < 0:
            raise InputError(f"seed must be an integer of at least 0, got {self.seed!r}")
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
                raise InputError(f"{name} must be a number from {low:g} to {high:g}, got {value!r}")
            if not (math.isfinite(value) and low <= value <= high):
                raise InputError(f"{name} must be from {low:g} to {high:g}, got {value:g}")


@dataclass(frozen=True)
class PlantedVolumes:
    """Volumes of the planted CT, mL. Lungs and air are counted in the labels; the fluid is the sum of its shares."""

    right_lung: float
    left_lung: float
    air: float
    fluid: float


@dataclass(frozen=True)
class PlantedOccupancy:
    """Air / (air + lung) by the labels, 0..1, of each of the patient's sides and of the whole chest."""

    right: float
    left: float
    whole_chest: float

    def of(self, side: str) -> float:
        """Of one side, "right" or "left"."""
        return {"right": self.right, "left": self.left}[side]


@dataclass(frozen=True, eq=False)
class PlantedShares:
    """Exact partial-volume shares of the planted side.

    Attributes:
        box: where the arrays lie in the CT.
        air: [D, H, W] float32 0..1, free pleural air.
        lung: [D, H, W] float32 0..1, lung of that side, with its pleura.
    """

    box: tuple[slice, slice, slice]
    air: Floats
    lung: Floats


@dataclass(frozen=True)
class LungMass:
    """Mass of the lung on the planted side without free air, g, before and after planting."""

    before: float
    after: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Truth(Segmentation):
    """The labels of a CT with a planted pneumothorax, and what is known of it.

    Attributes:
        labels, air_side, affine, notes: as in `Segmentation`; exact, because they were planted.
        settings: what was asked for.
        volumes_ml: volumes that were reached, mL.
        occupancy: air / (air + lung) that was reached, 0..1.
        max_depth_mm: largest distance of the lung's free surface from the wall across the pocket, mm.
        lung_mass_g: mass of the lung, g. A lung that is pressed harder than its own tissue allows loses some (blood).
        noise: level and noise of the air that was drawn.
        shares: partial-volume shares of air and lung on the planted side.
        carina: index (d, h, w) of the fork of the windpipe, where air under tension has pushed it to.
    """

    settings: PlantingSettings
    volumes_ml: PlantedVolumes
    occupancy: PlantedOccupancy
    max_depth_mm: float
    lung_mass_g: LungMass
    noise: ScanNoise
    shares: PlantedShares
    carina: tuple[float, float, float] | None = None

    @property
    def mediastinal_shift_mm(self) -> float:
        """How far the mediastinum was pushed to the other side, mm."""
        return self.settings.tension * FULL_SHIFT_MM

    def to_dict(self) -> dict[str, Any]:
        """The content of `truth.json`: JSON values."""
        return {
            "kind": "planted pneumothorax",
            "notice": RESEARCH_NOTICE,
            "asked": asdict(self.settings),
            "volumes_ml": asdict(self.volumes_ml),
            "occupancy": asdict(self.occupancy),
            "mediastinal_shift_mm": self.mediastinal_shift_mm,
            "max_depth_mm": self.max_depth_mm,
            "lung_mass_g": asdict(self.lung_mass_g),
            "noise": {**asdict(self.noise), "correlation": list(self.noise.correlation)},
        }
