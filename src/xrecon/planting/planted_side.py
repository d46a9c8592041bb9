"""What a mechanism of planting hands back: one side of the chest with air in it, drawn in a box."""

from __future__ import annotations

from dataclasses import dataclass

from xrecon.anatomy.morphology import Box, Floats, Mask
from xrecon.planting.truth import LungMass, PlantedShares


@dataclass(frozen=True, eq=False)
class PlantedSide:
    """What was drawn in the box of one side.

    Attributes:
        box: where the arrays below lie in the CT.
        density: [D, H, W] HU + 1000.
        changed: [D, H, W] bool, voxels whose density counts; the others keep the CT's HU.
        air, lung: [D, H, W] bool, the labels.
        fluid_ml: fluid, mL.
        mass: of the lung, g.
        shares: partial-volume shares of air and lung.
    """

    box: Box
    density: Floats
    changed: Mask
    air: Mask
    lung: Mask
    fluid_ml: float
    mass: LungMass
    shares: PlantedShares
