"""Metrics of a synthetic CT against the true one, and the catalogue that says what each of them is."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xrecon.evaluation.metrics.anatomy import anatomy_metrics as anatomy_metrics
    from xrecon.evaluation.metrics.catalogue import CATALOGUE as CATALOGUE
    from xrecon.evaluation.metrics.catalogue import full_metrics as full_metrics
    from xrecon.evaluation.metrics.image import ImageMetrics as ImageMetrics
    from xrecon.evaluation.metrics.image import image_metrics as image_metrics
    from xrecon.evaluation.metrics.mask_agreement import compare_masks as compare_masks
    from xrecon.evaluation.metrics.mask_agreement import compare_segmentations as compare_segmentations
    from xrecon.evaluation.metrics.metric import Metric as Metric

_HOME = {
    "CATALOGUE": "xrecon.evaluation.metrics.catalogue",
    "ImageMetrics": "xrecon.evaluation.metrics.image",
    "Metric": "xrecon.evaluation.metrics.metric",
    "anatomy_metrics": "xrecon.evaluation.metrics.anatomy",
    "compare_masks": "xrecon.evaluation.metrics.mask_agreement",
    "compare_segmentations": "xrecon.evaluation.metrics.mask_agreement",
    "full_metrics": "xrecon.evaluation.metrics.catalogue",
    "image_metrics": "xrecon.evaluation.metrics.image",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'xrecon.evaluation.metrics' has no attribute {name!r}")
