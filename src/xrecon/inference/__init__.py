"""From two films to a CT with any model, and how far to trust it.

`TABLE` is the one list of reconstruction models; `xrecon.reconstruct` (module `reconstruct`) runs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xrecon.inference.models import TABLE as TABLE
    from xrecon.inference.models import baseline_names as baseline_names
    from xrecon.inference.models import find_model as find_model
    from xrecon.inference.models import model_names as model_names
    from xrecon.inference.protocol import ReconstructionModel as ReconstructionModel
    from xrecon.inference.result import Reconstruction as Reconstruction
    from xrecon.inference.result import ViewResidual as ViewResidual

_HOME = {
    "Reconstruction": "xrecon.inference.result",
    "ReconstructionModel": "xrecon.inference.protocol",
    "TABLE": "xrecon.inference.models",
    "ViewResidual": "xrecon.inference.result",
    "baseline_names": "xrecon.inference.models",
    "find_model": "xrecon.inference.models",
    "model_names": "xrecon.inference.models",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'xrecon.inference' has no attribute {name!r}")
