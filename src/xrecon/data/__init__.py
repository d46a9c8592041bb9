"""Data sets: CTs in a folder, who trains and who tests, prepared cases on disk, and other layouts of them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xrecon.data.case_file import CaseData as CaseData
    from xrecon.data.ct_folder import find_cases as find_cases
    from xrecon.data.dataset import PreparedCase as PreparedCase
    from xrecon.data.dataset import PreparedDataset as PreparedDataset
    from xrecon.data.manifest import Manifest as Manifest
    from xrecon.data.split import Split as Split
    from xrecon.data.split import Subset as Subset
    from xrecon.data.split import cases_in as cases_in

_HOME = {
    "CaseData": "xrecon.data.case_file",
    "Manifest": "xrecon.data.manifest",
    "PreparedCase": "xrecon.data.dataset",
    "PreparedDataset": "xrecon.data.dataset",
    "Split": "xrecon.data.split",
    "Subset": "xrecon.data.split",
    "cases_in": "xrecon.data.split",
    "find_cases": "xrecon.data.ct_folder",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'xrecon.data' has no attribute {name!r}")
