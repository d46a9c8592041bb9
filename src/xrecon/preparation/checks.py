"""Checks whether a CT can serve as a training case: whole lungs, calibrated HU, and a true orientation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.orientation import orientation_warnings
from xrecon.errors import InputError
from xrecon.segmentation import Segmentation
from xrecon.volume import Volume

Mask = NDArray[np.bool_]

_EDGES = (("head", "feet"), ("front", "back"), ("right", "left"))
_CUT_WARNING = 0.05
_CUT_REFUSED = 0.35
"""Area of the lungs in the outermost plane over that in their largest: 0.05 is a recess, 0.35 a missing part."""
_MIN_LUNG_ML = 200.0
_WINDPIPE_AIR_HU = (-1050.0, -930.0)
"""Range in which air in the windpipe measures if the scanner is calibrated (air is -1000 HU)."""
_SOFT_TISSUE_HU = (10.0, 95.0)
"""Muscle is 35 to 70 HU, with contrast a little more; fat-poor bowel and blood lie near."""
_THICK_MM = 5.01


@dataclass(frozen=True)
class Thorax:
    """The measured chest of one CT.

    Attributes:
        right_ml, left_ml: volumes of the hemithoraces (lung and free air), mL.
        air_ml: free pleural air, mL.
        warnings: what a user should know, in words.
    """

    right_ml: float
    left_ml: float
    air_ml: float
    warnings: tuple[str, ...]


def hemithoraces(segmentation: Segmentation) -> NDArray[np.uint8]:
    """[D, H, W] 0 outside, 1 right, 2 left: lungs and free air."""
    return np.where(segmentation.air_side > 0, segmentation.air_side, segmentation.labels).astype(np.uint8)


def check_thorax(ct: Volume, segmentation: Segmentation, body: Mask, *, allow_partial: bool = False) -> Thorax:
    """Measure the hemithoraces, collect warnings, and refuse a CT that does not show a whole thorax.

    Args:
        ct: HU in canonical orientation.
        segmentation: its lungs and free air.
        body: `body_mask(ct)`.
        allow_partial: a missing or cut lung is a warning, not a refusal.

    Raises:
        InputError: a lung is missing or cut by the field of view.
    """
    sides = hemithoraces(segmentation)
    voxels = np.bincount(sides.ravel(), minlength=3)
    right, left = (float(voxels[side]) * ct.voxel_ml for side in (1, 2))
    air = float(np.count_nonzero(segmentation.air_side)) * ct.voxel_ml
    incomplete = [*_missing(right, left), *_cut(sides)]
    refused = [text for text, severe in incomplete if severe]
    turned = orientation_warnings(ct)
    if refused and not allow_partial:
        why = "".join(f"; {sentence}" for sentence in turned)
        raise InputError(f"not a whole thorax: {'; '.join(refused)}; --allow-partial takes it all the same{why}")
    warnings = [text for text, _ in incomplete]
    warnings += _calibration(ct, segmentation, body)
    warnings += turned
    if max(ct.spacing_mm) > _THICK_MM:
        warnings.append(f"slices of {max(ct.spacing_mm):.1f} mm: details along that axis are interpolated")
    if air > 0:
        warnings.append(f"{air:.0f} mL of free pleural air found: a pneumothorax, or to be looked at")
    return Thorax(right, left, air, tuple(warnings))


def _missing(right_ml: float, left_ml: float) -> list[tuple[str, bool]]:
    return [
        (f"the {name} lung was not found ({ml:.0f} mL)", True)
        for name, ml in (("right", right_ml), ("left", left_ml))
        if ml < _MIN_LUNG_ML
    ]


def _cut(sides: NDArray[np.uint8]) -> list[tuple[str, bool]]:
    """(text, whether severe) for every face of the scanned box through which a lung leaves it."""
    cuts = []
    for side, name in ((1, "right"), (2, "left")):
        lung = sides == side
        for axis, faces in enumerate(_EDGES):
            areas = lung.sum(axis=tuple(a for a in range(3) if a != axis))
            for face, area in zip(faces, (areas[0], areas[-1]), strict=True):
                share = float(area) / max(float(areas.max()), 1.0)
                if share > _CUT_WARNING:
                    text = f"the {name} lung runs out of the picture ({face}, {100 * share:.0f} % of its largest plane)"
                    cuts.append((text, share > _CUT_REFUSED))
    return cuts


def _calibration(ct: Volume, segmentation: Segmentation, body: Mask) -> list[str]:
    out = []
    air_hu = segmentation.findings.get("air_hu")
    if isinstance(air_hu, (int, float)) and not _WINDPIPE_AIR_HU[0] <= air_hu <= _WINDPIPE_AIR_HU[1]:
        out.append(f"air in the windpipe measures {air_hu:.0f} HU, expected about -1000: is the calibration right?")
    tissue = ct.hu[body & (ct.hu > -30) & (ct.hu < 160)]
    if tissue.size:
        counts, edges = np.histogram(tissue, bins=38, range=(-30, 160))
        mode = float(edges[np.argmax(counts)] + 2.5)
        if not _SOFT_TISSUE_HU[0] <= mode <= _SOFT_TISSUE_HU[1]:
            out.append(f"soft tissue measures {mode:.0f} HU, expected 35 to 70: is the calibration right?")
    return out
