"""Checks whether a CT can serve as a training case: whole lungs, calibrated HU, and a true orientation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
_BONE_HU = 250.0
_LUMEN_HU = -850.0
_WINDPIPE_MM = 25.0
_LEAST_LUMEN_ML = 2.0
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
    if refused and not allow_partial:
        raise InputError(f"not a whole thorax: {'; '.join(refused)}; --allow-partial takes it all the same")
    warnings = [text for text, _ in incomplete]
    warnings += _calibration(ct, segmentation, body)
    warnings += _orientation(ct, sides)
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


def _orientation(ct: Volume, sides: NDArray[np.uint8]) -> list[str]:
    """Warnings where landmarks lie as if the file stated a wrong orientation; anatomy varies, so they prove nothing."""
    back, feet, left = landmarks(ct, sides)
    out = []
    if back < -0.05:
        out.append("the spine seems to lie in front: front and back may be swapped in the file")
    if feet < -0.3:
        out.append("the windpipe seems to lie below: head and feet may be swapped in the file")
    if left < -6.0:
        out.append(
            f"the heart lies {-left:.0f} mm to the right of the spine: dextrocardia, a shift, or a mirrored file"
        )
    return out


def landmarks(ct: Volume, sides: NDArray[np.uint8]) -> tuple[float, float, float]:
    """Positions of spine, windpipe and heart, from which a flipped file can be recognised.

    Returns:
        How far behind the middle of the lungs the central bone lies (share of the lungs' depth); where the air between
        the lungs lies, from -1 (all in their lower third) to 1 (all in the upper third: the windpipe); how far left of
        the spine the heart lies, mm. Zero where the landmark cannot be seen.
    """
    lungs = sides > 0
    spans = [np.flatnonzero(lungs.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    if any(len(span) < 8 for span in spans):
        return 0.0, 0.0, 0.0
    (d0, d1), (h0, h1), (w0, w1) = ((int(span[0]), int(span[-1]) + 1) for span in spans)
    depth, width = h1 - h0, w1 - w0
    middle = slice(w0 + int(0.35 * width), w1 - int(0.35 * width))
    front, end = max(0, h0 - depth // 4), min(ct.shape[1], h1 + depth // 4)
    bone = ct.hu[d0:d1, front:end, middle] > _BONE_HU
    if bone.sum() < 50:
        return 0.0, 0.0, 0.0
    back = float((np.nonzero(bone)[1].mean() + front - h0) / depth - 0.5)
    spine_w = float(np.nonzero(bone)[2].mean() + middle.start)
    feet = _windpipe_side(ct, sides, slice(d0, d1), slice(h0, int(h0 + (0.5 + back) * depth)), spine_w)
    rows = slice(d0 + int(0.5 * (d1 - d0)), d0 + int(0.8 * (d1 - d0)))
    # Between the lungs, in front of the spine: mostly heart.
    ahead = lungs[rows, h0 : h0 + int(0.6 * depth), w0:w1]
    tissue = ~ahead & (np.cumsum(ahead, axis=2) > 0) & (np.cumsum(ahead[..., ::-1], axis=2)[..., ::-1] > 0)
    if tissue.sum() < 50:
        return back, feet, 0.0
    return back, feet, float(np.nonzero(tissue)[2].mean() + w0 - spine_w) * ct.spacing_mm[2]


def _windpipe_side(ct: Volume, sides: NDArray[np.uint8], rows: slice, front: slice, spine_w: float) -> float:
    """(upper - lower) / (upper + lower) of the air near the midline that is no lung, in thirds of the lungs' height."""
    reach = max(2, round(_WINDPIPE_MM / ct.spacing_mm[2]))
    across = slice(max(0, round(spine_w) - reach), round(spine_w) + reach + 1)
    box = (rows, front, across)
    air = (ct.hu[box] < _LUMEN_HU) & (sides[box] == 0)
    third = max(1, air.shape[0] // 3)
    upper, lower = (float(np.count_nonzero(part)) for part in (air[:third], air[-third:]))
    if (upper + lower) * ct.voxel_ml < _LEAST_LUMEN_ML:
        return 0.0
    return (upper - lower) / (upper + lower)
