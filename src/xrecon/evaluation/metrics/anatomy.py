"""What PTX-Seg finds on a reconstruction, beside what it finds on the true CT: the same code on the same grid."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.body import body_mask
from xrecon.errors import InputError
from xrecon.evaluation.metrics.mask_agreement import (
    MASK_METRICS,
    bone_mask,
    cardiothoracic_surrogate,
    compare_masks,
    compare_segmentations,
)
from xrecon.ptxseg.pipeline import segment
from xrecon.quantify.occupancy import occupancy
from xrecon.segmentation import Segmentation
from xrecon.volume import Volume

_REGIONS = ("lungs", "right_lung", "left_lung", "air", "right_hemithorax", "left_hemithorax")
_NAMES = {"lungs": "lungs", "right_lung": "right lung", "left_lung": "left lung", "air": "free air"}
_LABELS = {
    "dice": ("Dice", "", 3),
    "iou": ("IoU", "", 3),
    "hd95_mm": ("HD95", "mm", 1),
    "assd_mm": ("ASSD", "mm", 1),
    "nsd": ("Surface Dice", "", 3),
    "volume_error_ml": ("Volume error", "mL", 0),
}

ANATOMY_CONVENTIONS: Mapping[str, str] = MappingProxyType(
    {
        **{
            f"{region}_{name}": f"{_NAMES.get(region, region.replace('_', ' '))}, by PTX-Seg on both volumes. {text}"
            for region in _REGIONS
            for name, text in MASK_METRICS.items()
        },
        "body_dice": "Dice of the body masks of both volumes.",
        "bone_dice": "Dice of the body's voxels from 200 HU in both volumes: a surrogate of the skeleton.",
        "occupancy_error_pp": "Occupancy of the whole chest by PTX-Seg, estimate minus truth, percentage points.",
        "ctr_error": "Cardiothoracic surrogate (gap between the hemithoraces over chest width), estimate minus truth.",
    }
)
"""Metric name -> definition."""

ANATOMY_DISPLAY: Mapping[str, tuple[str, str, int]] = MappingProxyType(
    {
        **{
            f"{region}_{name}": (f"{label}, {_NAMES.get(region, region.replace('_', ' '))}", unit, decimals)
            for region in _REGIONS
            for name, (label, unit, decimals) in _LABELS.items()
        },
        "body_dice": ("Dice, body", "", 3),
        "bone_dice": ("Dice, bone from 200 HU", "", 3),
        "occupancy_error_pp": ("Occupancy error", "percentage points", 1),
        "ctr_error": ("Cardiothoracic error", "", 3),
    }
)
"""Metric name -> (label, unit, decimals)."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """PTX-Seg on one volume; `segmentation` is None where it refused, with the `reason`."""

    segmentation: Segmentation | None
    reason: str = ""

    def volumes(self) -> dict[str, float | None]:
        """Occupancy, percent, and volumes, mL, whole and per side; None without a segmentation or a side."""
        names = ("whole_chest", "right", "left", "right_lung_ml", "left_lung_ml", "right_air_ml", "left_air_ml")
        if self.segmentation is None:
            return dict.fromkeys(names)
        found = occupancy(self.segmentation)
        percents = {name: 100 * value for name in names[:3] if not math.isnan(value := getattr(found, name))}
        return {name: percents.get(name) if name in names[:3] else getattr(found, name) for name in names}


def find_anatomy(volume: Volume) -> Anatomy:
    """PTX-Seg on a volume, as a user would run it; what it refuses is a result, too, not an end."""
    try:
        return Anatomy(segment(volume))
    except InputError as error:
        return Anatomy(None, str(error))


def anatomy_metrics(
    estimate: Volume, truth: Volume, *, found: Anatomy, wanted: Anatomy, body: NDArray[np.bool_]
) -> dict[str, float | None]:
    """Every metric of `ANATOMY_CONVENTIONS`; None where one of the two has no value.

    Args:
        estimate: the reconstruction.
        truth: the CT, on the same grid.
        found: PTX-Seg on the estimate.
        wanted: PTX-Seg on the truth.
        body: the true body, [D, H, W] bool.
    """
    values: dict[str, float | None] = dict.fromkeys(ANATOMY_CONVENTIONS)
    outline = _body(estimate)
    if outline is not None:
        spacing = truth.spacing_mm
        values["body_dice"] = compare_masks(outline, body, spacing_mm=spacing).dice
        bones = bone_mask(estimate.hu, outline), bone_mask(truth.hu, body)
        values["bone_dice"] = compare_masks(*bones, spacing_mm=spacing).dice
    if found.segmentation is None or wanted.segmentation is None:
        return values
    compared = compare_segmentations(found.segmentation, wanted.segmentation)
    for region in _REGIONS:
        values.update({f"{region}_{key}": compared[region].to_dict()[key] for key in MASK_METRICS})
    shares = found.volumes()["whole_chest"], wanted.volumes()["whole_chest"]
    values["occupancy_error_pp"] = _difference(*shares)
    ratios = (cardiothoracic_surrogate(one) for one in (found.segmentation, wanted.segmentation))
    values["ctr_error"] = _difference(*ratios)
    return values


def _difference(found: float | None, wanted: float | None) -> float | None:
    return None if found is None or wanted is None else found - wanted


def _body(volume: Volume) -> NDArray[np.bool_] | None:
    try:
        return body_mask(volume)
    except InputError:
        return None


def component_kinds(anatomy: Anatomy) -> dict[str, Any]:
    """Flags of the image and the kinds of all candidates: why PTX-Seg decided as it did."""
    if anatomy.segmentation is None:
        return {"refused": anatomy.reason}
    findings = anatomy.segmentation.findings
    return {
        "flags": sorted(key for key, value in findings.get("flags", {}).items() if value is True),
        "kinds": sorted({str(one["kind"]) for one in findings.get("components", ())}),
    }
