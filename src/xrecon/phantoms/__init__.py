"""Artificial chests: analytic ones of any habitus, NURBS surfaces, and ellipsoids with exact line integrals."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xrecon.phantoms.analytic import Ellipsoid as Ellipsoid
    from xrecon.phantoms.nurbs_thorax import NurbsPhantom as NurbsPhantom
    from xrecon.phantoms.nurbs_thorax import nurbs_phantom as nurbs_phantom
    from xrecon.phantoms.parameters import ThoraxParameters as ThoraxParameters
    from xrecon.phantoms.thorax import Phantom as Phantom
    from xrecon.phantoms.thorax import thorax_phantom as thorax_phantom

_HOME = {
    "Ellipsoid": "xrecon.phantoms.analytic",
    "NurbsPhantom": "xrecon.phantoms.nurbs_thorax",
    "Phantom": "xrecon.phantoms.thorax",
    "ThoraxParameters": "xrecon.phantoms.parameters",
    "nurbs_phantom": "xrecon.phantoms.nurbs_thorax",
    "thorax_phantom": "xrecon.phantoms.thorax",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'xrecon.phantoms' has no attribute {name!r}")
