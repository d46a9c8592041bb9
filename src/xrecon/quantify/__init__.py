"""A segmentation in numbers: occupancy, depths, indices, location, and the findings document that holds them all."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xrecon.quantify.findings import Findings as Findings
    from xrecon.quantify.findings import build_findings as build_findings
    from xrecon.quantify.measures import ChestMeasures as ChestMeasures
    from xrecon.quantify.measures import measure as measure
    from xrecon.quantify.occupancy import Occupancy as Occupancy
    from xrecon.quantify.remarks import Remark as Remark
    from xrecon.quantify.remarks import remarks_on as remarks_on

_HOME = {
    "ChestMeasures": "xrecon.quantify.measures",
    "Findings": "xrecon.quantify.findings",
    "Occupancy": "xrecon.quantify.occupancy",
    "Remark": "xrecon.quantify.remarks",
    "build_findings": "xrecon.quantify.findings",
    "measure": "xrecon.quantify.measures",
    "remarks_on": "xrecon.quantify.remarks",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'xrecon.quantify' has no attribute {name!r}")
