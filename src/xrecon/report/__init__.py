"""Figures and self-contained HTML pages, one module by what a page shows. Draws what the layers below computed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xrecon.report.augmentation import augmentation_sheet as augmentation_sheet
    from xrecon.report.evaluation import evaluation_report as evaluation_report
    from xrecon.report.findings import render_findings as render_findings
    from xrecon.report.parts.figures import reconstruction_preview as reconstruction_preview
    from xrecon.report.quality import render_quality_page as render_quality_page
    from xrecon.report.reconstruction import render_report as render_report
    from xrecon.report.study_pneumothorax import study_report as study_report
    from xrecon.report.study_robustness import robustness_report as robustness_report

_HOME = {
    "augmentation_sheet": "xrecon.report.augmentation",
    "evaluation_report": "xrecon.report.evaluation",
    "reconstruction_preview": "xrecon.report.parts.figures",
    "render_findings": "xrecon.report.findings",
    "render_quality_page": "xrecon.report.quality",
    "render_report": "xrecon.report.reconstruction",
    "robustness_report": "xrecon.report.study_robustness",
    "study_report": "xrecon.report.study_pneumothorax",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'xrecon.report' has no attribute {name!r}")
