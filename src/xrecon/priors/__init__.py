"""Statistical priors of the chest that need no network: atlas, linear modes, deformation, and a bank of cases."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xrecon.priors.asset import PriorAsset as PriorAsset
    from xrecon.priors.asset import load_priors as load_priors
    from xrecon.priors.bank import fit_bank as fit_bank
    from xrecon.priors.build import BuildSettings as BuildSettings
    from xrecon.priors.build import build_priors as build_priors
    from xrecon.priors.chest import ChestPrior as ChestPrior
    from xrecon.priors.deformation import fit_deformation as fit_deformation
    from xrecon.priors.linear import fit_linear as fit_linear

_HOME = {
    "BuildSettings": "xrecon.priors.build",
    "ChestPrior": "xrecon.priors.chest",
    "PriorAsset": "xrecon.priors.asset",
    "build_priors": "xrecon.priors.build",
    "fit_bank": "xrecon.priors.bank",
    "fit_deformation": "xrecon.priors.deformation",
    "fit_linear": "xrecon.priors.linear",
    "load_priors": "xrecon.priors.asset",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'xrecon.priors' has no attribute {name!r}")
