"""Agreement, intervals and tests over few patients."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xrecon.evaluation.statistics.agreement import Agreement as Agreement
    from xrecon.evaluation.statistics.agreement import Estimate as Estimate
    from xrecon.evaluation.statistics.agreement import agreement_of as agreement_of
    from xrecon.evaluation.statistics.agreement import bland_altman as bland_altman
    from xrecon.evaluation.statistics.comparison import bootstrap_by_patient as bootstrap_by_patient
    from xrecon.evaluation.statistics.comparison import holm as holm
    from xrecon.evaluation.statistics.comparison import mean_by_patient as mean_by_patient
    from xrecon.evaluation.statistics.comparison import wilcoxon_pairs as wilcoxon_pairs

_HOME = {
    "Agreement": "xrecon.evaluation.statistics.agreement",
    "Estimate": "xrecon.evaluation.statistics.agreement",
    "agreement_of": "xrecon.evaluation.statistics.agreement",
    "bland_altman": "xrecon.evaluation.statistics.agreement",
    "bootstrap_by_patient": "xrecon.evaluation.statistics.comparison",
    "holm": "xrecon.evaluation.statistics.comparison",
    "mean_by_patient": "xrecon.evaluation.statistics.comparison",
    "wilcoxon_pairs": "xrecon.evaluation.statistics.comparison",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'xrecon.evaluation.statistics' has no attribute {name!r}")
