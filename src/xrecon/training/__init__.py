"""Training of the reconstruction networks (`loop`, `gan`, `losses`) and of the lung network (`lungs`)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xrecon.errors import DivergedError as DivergedError
    from xrecon.training.ablations import run_grid as run_grid
    from xrecon.training.loop import Outcome as Outcome
    from xrecon.training.loop import fit as fit
    from xrecon.training.lungs.loop import train_lungs as train_lungs
    from xrecon.training.run import train as train
    from xrecon.training.run_config import Training as Training
    from xrecon.training.run_folder import RunFolder as RunFolder

_HOME = {
    "DivergedError": "xrecon.errors",
    "Outcome": "xrecon.training.loop",
    "RunFolder": "xrecon.training.run_folder",
    "Training": "xrecon.training.run_config",
    "fit": "xrecon.training.loop",
    "run_grid": "xrecon.training.ablations",
    "train": "xrecon.training.run",
    "train_lungs": "xrecon.training.lungs.loop",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'xrecon.training' has no attribute {name!r}")
