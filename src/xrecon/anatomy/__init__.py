"""The anatomy of a chest CT that everything shares: the body, its frame, healthy lungs, and morphology in mm."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xrecon.anatomy.body import body_mask as body_mask
    from xrecon.anatomy.body import without_table as without_table
    from xrecon.anatomy.frame import framed as framed
    from xrecon.anatomy.frame import lung_box as lung_box
    from xrecon.anatomy.frame import thorax_centre as thorax_centre
    from xrecon.anatomy.healthy_lungs import ChestAir as ChestAir
    from xrecon.anatomy.healthy_lungs import find_lungs as find_lungs
    from xrecon.anatomy.healthy_lungs import split_lungs as split_lungs

_HOME = {
    "ChestAir": "xrecon.anatomy.healthy_lungs",
    "body_mask": "xrecon.anatomy.body",
    "find_lungs": "xrecon.anatomy.healthy_lungs",
    "framed": "xrecon.anatomy.frame",
    "lung_box": "xrecon.anatomy.frame",
    "split_lungs": "xrecon.anatomy.healthy_lungs",
    "thorax_centre": "xrecon.anatomy.frame",
    "without_table": "xrecon.anatomy.body",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'xrecon.anatomy' has no attribute {name!r}")
