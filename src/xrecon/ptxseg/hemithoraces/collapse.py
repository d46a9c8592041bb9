"""Lungs that have lost their air: sides where the classical search sees too little of the lung."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from xrecon.ptxseg.hemithoraces.sides import SIDE_NAMES
from xrecon.ptxseg.levels import AirLevels
from xrecon.segmentation import Side

COMPRESSED_HU = -720.0
"""Healthy lung is thinner: above this median a lung that lies in free air was pressed together."""
_DARK_SHARE = 0.33
"""Share of a side that is as dark as free air, without its partial volume, from which the lung may have collapsed."""
AIRLESS_MASS_SHARE = 0.5
"""A collapsed lung keeps its tissue: one that weighs less than this share of the other has lost parts from sight."""
_EMPTY_HU = -1000.0
"""HU of what weighs nothing: weight is HU above it."""


def collapsed_sides(
    hu: NDArray[np.float32], hemithoraces: NDArray[np.uint8], levels: Mapping[Side, AirLevels]
) -> list[Side]:
    """Sides that are dark in good part, whose lung is dense, or too light for half of the other: it is airless in part.

    Args:
        hu: [D, H, W] HU.
        hemithoraces: [D, H, W] aerated lung and air, 1 right and 2 left, before any search for free air.
        levels: of both sides.
    """
    dark: dict[Side, float] = {}
    mass: dict[Side, float] = {}
    for side in SIDE_NAMES:
        values = hu[hemithoraces == side]
        lung = values[values >= levels[side].seed_hu]
        dark[side] = (values.size - lung.size) / max(1, values.size)
        mass[side] = tissue_mass(lung)
    usual = max(mass.values())
    return [
        side
        for side in SIDE_NAMES
        if dark[side] > _DARK_SHARE
        and (levels[side].lung_hu >= COMPRESSED_HU or mass[side] < AIRLESS_MASS_SHARE * usual)
    ]


def tissue_mass(hu: NDArray[np.float32]) -> float:
    """Weight of tissue, in HU times voxels."""
    return float((hu - np.float32(_EMPTY_HU)).sum(dtype=np.float64))
