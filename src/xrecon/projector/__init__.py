"""Line integrals through a volume: cone-beam projection, its exact transpose, and HU to attenuation."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xrecon.geometry import ConeBeam as ConeBeam
    from xrecon.projector.attenuation import hu_to_mu as hu_to_mu
    from xrecon.projector.attenuation import mu_to_hu as mu_to_hu
    from xrecon.projector.backends.registry import BACKENDS as BACKENDS
    from xrecon.projector.operator import backproject as backproject
    from xrecon.projector.operator import project as project
    from xrecon.projector.prost.multi_angle import MultiAngleProjectionLoss as MultiAngleProjectionLoss
    from xrecon.projector.prost.projection import prost_project as prost_project

_HOME = {
    "BACKENDS": "xrecon.projector.backends.registry",
    "ConeBeam": "xrecon.geometry",
    "MultiAngleProjectionLoss": "xrecon.projector.prost.multi_angle",
    "backproject": "xrecon.projector.operator",
    "hu_to_mu": "xrecon.projector.attenuation",
    "mu_to_hu": "xrecon.projector.attenuation",
    "project": "xrecon.projector.operator",
    "prost_project": "xrecon.projector.prost.projection",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'xrecon.projector' has no attribute {name!r}")
