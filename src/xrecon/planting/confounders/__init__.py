"""Air and gas in a chest CT that are no pneumothorax, and what resembles one: negative examples for PTX-Seg.

`plant_bulla`, `plant_subcutaneous_emphysema` and `plant_stomach_gas` take a volume in mL; `catalogue.CONFOUNDERS` holds
every kind by name, each with a size from 0 to 1. All return the changed CT and the mask of the voxels that are at least
half gas.
"""

from __future__ import annotations

from xrecon.planting.confounders.bulla import plant_bulla as plant_bulla
from xrecon.planting.confounders.chest_wall import plant_subcutaneous_emphysema as plant_subcutaneous_emphysema
from xrecon.planting.confounders.stomach import plant_stomach_gas as plant_stomach_gas
