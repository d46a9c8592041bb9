"""How good a synthetic CT is: every model on every known case, image metrics with their conventions, and studies."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xrecon.evaluation.evaluation import evaluate as evaluate
    from xrecon.evaluation.metrics.image import image_metrics as image_metrics
    from xrecon.evaluation.models import choose_models as choose_models
    from xrecon.evaluation.results import EvaluationReport as EvaluationReport
    from xrecon.evaluation.studies.pneumothorax_study import plan_pneumothorax_study as plan_pneumothorax_study
    from xrecon.evaluation.studies.pneumothorax_study import run_pneumothorax_study as run_pneumothorax_study
    from xrecon.evaluation.studies.robustness_study import plan_robustness_study as plan_robustness_study
    from xrecon.evaluation.studies.robustness_study import run_robustness_study as run_robustness_study

_HOME = {
    "EvaluationReport": "xrecon.evaluation.results",
    "choose_models": "xrecon.evaluation.models",
    "evaluate": "xrecon.evaluation.evaluation",
    "image_metrics": "xrecon.evaluation.metrics.image",
    "plan_pneumothorax_study": "xrecon.evaluation.studies.pneumothorax_study",
    "plan_robustness_study": "xrecon.evaluation.studies.robustness_study",
    "run_pneumothorax_study": "xrecon.evaluation.studies.pneumothorax_study",
    "run_robustness_study": "xrecon.evaluation.studies.robustness_study",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'xrecon.evaluation' has no attribute {name!r}")
