"""PTX-Seg: lungs, pneumothorax and what resembles it in a chest CT, without training on a pneumothorax."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xrecon.ptxseg.candidates.features import Features as Features
    from xrecon.ptxseg.hemithoraces.lung_models import LungModel as LungModel
    from xrecon.ptxseg.hemithoraces.lung_models import LungModelEntry as LungModelEntry
    from xrecon.ptxseg.judge import RULES as RULES
    from xrecon.ptxseg.judge import Rule as Rule
    from xrecon.ptxseg.judge import Verdict as Verdict
    from xrecon.ptxseg.pipeline import segment as segment

_HOME = {
    "Features": "xrecon.ptxseg.candidates.features",
    "LungModel": "xrecon.ptxseg.hemithoraces.lung_models",
    "LungModelEntry": "xrecon.ptxseg.hemithoraces.lung_models",
    "RULES": "xrecon.ptxseg.judge",
    "Rule": "xrecon.ptxseg.judge",
    "Verdict": "xrecon.ptxseg.judge",
    "segment": "xrecon.ptxseg.pipeline",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'xrecon.ptxseg' has no attribute {name!r}")
