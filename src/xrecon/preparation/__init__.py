"""From anybody's CTs to a prepared data set: find, check, frame, project, label, write; on one machine or many."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xrecon.preparation.case import prepare_volume as prepare_volume
    from xrecon.preparation.pull import download as download
    from xrecon.preparation.pull import plan_pull as plan_pull
    from xrecon.preparation.request import PrepareRequest as PrepareRequest
    from xrecon.preparation.run import PrepareReport as PrepareReport
    from xrecon.preparation.run import prepare_dataset as prepare_dataset
    from xrecon.preparation.settings import PrepareSettings as PrepareSettings

_HOME = {
    "PrepareReport": "xrecon.preparation.run",
    "PrepareRequest": "xrecon.preparation.request",
    "PrepareSettings": "xrecon.preparation.settings",
    "download": "xrecon.preparation.pull",
    "plan_pull": "xrecon.preparation.pull",
    "prepare_dataset": "xrecon.preparation.run",
    "prepare_volume": "xrecon.preparation.case",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'xrecon.preparation' has no attribute {name!r}")
