"""Occupancy: the share of a hemithorax, and of the whole chest, that free pleural air takes up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from xrecon.segmentation import Label, Segmentation, Side

OCCUPANCY_FORMULAS: Mapping[str, str] = MappingProxyType(
    {
        "whole_chest": "(right_air_ml + left_air_ml) / (right_air_ml + left_air_ml + right_lung_ml + left_lung_ml)",
        "right": "right_air_ml / (right_air_ml + right_lung_ml)",
        "left": "left_air_ml / (left_air_ml + left_lung_ml)",
        "volume": "number of voxels of the label x volume of one voxel (|det| of the affine), mL",
    }
)
"""How each number of `Occupancy` is computed, as text; `docs/quantification.md`."""


@dataclass(frozen=True)
class Occupancy:
    """Occupancy ratios and the volumes that they come from.

    A side on which neither lung nor air was found has no ratio: it is NaN there (null in JSON), and so is
    `whole_chest` where nothing at all was found. A side with air and no lung (the lung was not found or is collapsed
    to nothing) is 1. With one side missing, `whole_chest` is the ratio of what was found.

    Attributes:
        whole_chest: 0..1; air of both sides over air and lungs of both sides.
        right: 0..1; air over air and lung of the patient's right hemithorax.
        left: the same of the left one.
        right_lung_ml: volume, mL.
        left_lung_ml: volume, mL.
        right_air_ml: volume, mL.
        left_air_ml: volume, mL.
    """

    whole_chest: float
    right: float
    left: float
    right_lung_ml: float
    left_lung_ml: float
    right_air_ml: float
    left_air_ml: float

    formulas: ClassVar[Mapping[str, str]] = OCCUPANCY_FORMULAS

    @property
    def air_ml(self) -> float:
        """Free pleural air of both sides, mL."""
        return self.right_air_ml + self.left_air_ml

    @property
    def missing_sides(self) -> tuple[str, ...]:
        """Sides ("right", "left") on which neither lung nor air was found."""
        return tuple(name for name in ("right", "left") if math.isnan(getattr(self, name)))


def occupancy(segmentation: Segmentation) -> Occupancy:
    """Occupancy ratios and volumes of a segmentation; NaN for a side without lung and air (see `Occupancy`).

    Example:
        >>> occupancy(segment(load_ct("ct.nii.gz"))).whole_chest  # doctest: +SKIP
        0.125
    """
    right_lung = segmentation.volume_ml(Label.RIGHT_LUNG)
    left_lung = segmentation.volume_ml(Label.LEFT_LUNG)
    right_air = segmentation.volume_ml(Label.AIR, Side.RIGHT)
    left_air = segmentation.volume_ml(Label.AIR, Side.LEFT)
    return Occupancy(
        whole_chest=_share(right_air + left_air, right_lung + left_lung),
        right=_share(right_air, right_lung),
        left=_share(left_air, left_lung),
        right_lung_ml=right_lung,
        left_lung_ml=left_lung,
        right_air_ml=right_air,
        left_air_ml=left_air,
    )


def _share(air: float, lung: float) -> float:
    return air / (air + lung) if air + lung > 0 else math.nan
