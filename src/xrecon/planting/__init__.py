"""A pneumothorax planted in a healthy chest CT, with exact truth, and other air that is none."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xrecon.planting.confounders import plant_bulla as plant_bulla
    from xrecon.planting.confounders import plant_stomach_gas as plant_stomach_gas
    from xrecon.planting.confounders import plant_subcutaneous_emphysema as plant_subcutaneous_emphysema
    from xrecon.planting.pattern import PATTERNS as PATTERNS
    from xrecon.planting.pneumothorax import plant_pneumothorax as plant_pneumothorax
    from xrecon.planting.population import population_member as population_member
    from xrecon.planting.truth import PlantingSettings as PlantingSettings
    from xrecon.planting.truth import Truth as Truth

_HOME = {
    "PATTERNS": "xrecon.planting.pattern",
    "PlantingSettings": "xrecon.planting.truth",
    "Truth": "xrecon.planting.truth",
    "plant_bulla": "xrecon.planting.confounders",
    "plant_pneumothorax": "xrecon.planting.pneumothorax",
    "plant_stomach_gas": "xrecon.planting.confounders",
    "plant_subcutaneous_emphysema": "xrecon.planting.confounders",
    "population_member": "xrecon.planting.population",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'xrecon.planting' has no attribute {name!r}")
