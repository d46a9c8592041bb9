"""Agreement of masks: overlap, surface distances and volumes, region by region of a PTX-Seg segmentation.

Distances come from exact Euclidean distance maps (`edt`) between the centres of boundary voxels, in mm of the true
voxel size; no sampling, no other package's conventions. A pair without a value (one side empty) says None, and every
mean over cases must show how many cases it stands for.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import edt
import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.evaluation.metrics.metric import Metric
from xrecon.segmentation import Label, Segmentation, Side

TOLERANCE_MM = 4.0
"""Default tolerance of the surface Dice: the voxel of a 96^3 reconstruction."""

Mask = NDArray[np.bool_]

MASK_METRICS: tuple[Metric, ...] = (
    Metric(
        "dice", "Dice", "", 3, higher_is_better=True, region="masks",
        convention="Dice = 2 |A and B| / (|A| + |B|); 0 where one mask is empty, no value where both are.",
    ),
    Metric(
        "iou", "IoU", "", 3, higher_is_better=True, region="masks",
        convention="IoU (Jaccard) = |A and B| / |A or B|; empty masks as for Dice.",
    ),
    Metric(
        "hd95_mm", "HD95", "mm", 1, higher_is_better=False, region="masks",
        convention="HD95, mm: the larger of the two 95th percentiles of the distances from one boundary to the other.",
    ),
    Metric(
        "assd_mm", "ASSD", "mm", 1, higher_is_better=False, region="masks",
        convention="ASSD, mm: mean of all distances from both boundaries to the other one.",
    ),
    Metric(
        "nsd", "Surface Dice", "", 3, higher_is_better=True, region="masks",
        convention="Normalised surface Dice: share of the voxels of both boundaries within the tolerance of the other "
        "one.",
    ),
    Metric(
        "volume_error_ml", "Volume error", "mL", 0, higher_is_better=None, region="masks",
        convention="Volume of the estimate minus that of the truth, mL.",
    ),
)  # fmt: skip
"""The metrics of `compare_masks`. Boundary: voxels of the mask with a face neighbour outside it or at the edge of the
grid."""


@dataclass(frozen=True)
class MaskAgreement:
    """Two masks compared; see `MASK_METRICS`.

    Attributes:
        dice: 0..1; None where both masks are empty.
        iou: 0..1; None where both are empty.
        hd95_mm: None where a mask is empty.
        assd_mm: None where a mask is empty.
        nsd: 0..1; 0 where one mask is empty, None where both are.
        found_ml: volume of the estimate, mL.
        true_ml: volume of the truth, mL.
    """

    dice: float | None
    iou: float | None
    hd95_mm: float | None
    assd_mm: float | None
    nsd: float | None
    found_ml: float
    true_ml: float

    @property
    def volume_error_ml(self) -> float:
        """Estimate minus truth, mL."""
        return self.found_ml - self.true_ml

    def to_dict(self) -> dict[str, float | None]:
        """Name -> value, `volume_error_ml` too."""
        return {**asdict(self), "volume_error_ml": self.volume_error_ml}


def compare_masks(
    estimate: Mask, truth: Mask, *, spacing_mm: tuple[float, float, float], tolerance_mm: float = TOLERANCE_MM
) -> MaskAgreement:
    """Overlap, surface distances and volumes of two boolean masks [D, H, W] on one grid.

    Args:
        estimate: the estimate.
        truth: what it should be.
        spacing_mm: voxel pitch (D, H, W).
        tolerance_mm: of the surface Dice, >= 0.

    Raises:
        InputError: not boolean, other shapes, or a spacing or tolerance out of range.
    """
    _check(estimate, truth, spacing_mm, tolerance_mm)
    voxel_ml = math.prod(spacing_mm) / 1000.0
    sizes = int(estimate.sum()), int(truth.sum())
    volumes = sizes[0] * voxel_ml, sizes[1] * voxel_ml
    if not sum(sizes):
        return MaskAgreement(None, None, None, None, None, *volumes)
    if not min(sizes):
        return MaskAgreement(0.0, 0.0, None, None, 0.0, *volumes)
    common = int(np.count_nonzero(estimate & truth))
    forward, backward = surface_distances(estimate, truth, spacing_mm=spacing_mm)
    every = np.concatenate([forward, backward])
    return MaskAgreement(
        dice=2 * common / sum(sizes),
        iou=common / (sum(sizes) - common),
        hd95_mm=float(max(np.percentile(forward, 95), np.percentile(backward, 95))),
        assd_mm=float(every.mean()),
        nsd=float(np.mean(every <= tolerance_mm + 1e-6)),
        found_ml=volumes[0],
        true_ml=volumes[1],
    )


def surface_distances(
    first: Mask, second: Mask, *, spacing_mm: tuple[float, float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances, mm, from each boundary voxel of `first` to the boundary of `second`, and the other way round.

    Raises:
        InputError: not boolean, other shapes, or one mask is empty.
    """
    _check(first, second, spacing_mm, 0.0)
    if not (first.any() and second.any()):
        raise InputError("a mask marks no voxel: it has no surface to measure a distance to")
    # Only the box round both masks: distances within it are the same, and the maps are small.
    index = np.nonzero(first | second)
    box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in index)
    edges = boundary(first[box]), boundary(second[box])
    maps = [edt.edt(~edge, anisotropy=spacing_mm, parallel=1) for edge in edges]
    return maps[1][edges[0]].astype(np.float64), maps[0][edges[1]].astype(np.float64)


def boundary(mask: Mask) -> Mask:
    """Voxels of a mask with a face neighbour that is not part of it; outside the grid nothing is."""
    padded = np.pad(mask, 1)
    inside = mask.copy()
    for axis in range(3):
        for start in (0, 2):
            window = [slice(1, -1)] * 3
            window[axis] = slice(start, start + mask.shape[axis])
            inside &= padded[tuple(window)]
    return np.asarray(mask & ~inside)


REGIONS = ("right_lung", "left_lung", "lungs", "right_air", "left_air", "air", "right_hemithorax", "left_hemithorax")
"""What `compare_segmentations` compares: lung tissue, free pleural air, and both together, per side."""


def region(segmentation: Segmentation, name: str) -> Mask:
    """Mask [D, H, W] of one of `REGIONS`. Raises InputError for another name."""
    labels, air_side = segmentation.labels, segmentation.air_side
    right, left = labels == Label.RIGHT_LUNG, labels == Label.LEFT_LUNG
    right_air, left_air = air_side == Side.RIGHT, air_side == Side.LEFT
    masks = {
        "right_lung": right,
        "left_lung": left,
        "lungs": right | left,
        "right_air": right_air,
        "left_air": left_air,
        "air": right_air | left_air,
        "right_hemithorax": right | right_air,
        "left_hemithorax": left | left_air,
    }
    if name not in masks:
        raise InputError(f"unknown region {name!r}; choose one of {', '.join(REGIONS)}")
    return np.asarray(masks[name])


def compare_segmentations(
    estimate: Segmentation, truth: Segmentation, *, tolerance_mm: float = TOLERANCE_MM
) -> dict[str, MaskAgreement]:
    """Region -> agreement, for all `REGIONS`, of two segmentations on one grid (origins may differ).

    Raises:
        InputError: other shapes or voxel sizes: the estimate must be segmented on the grid of the truth.
    """
    if estimate.shape != truth.shape or not np.allclose(estimate.affine[:3, :3], truth.affine[:3, :3], atol=1e-3):
        raise InputError(
            f"the segmentations have grids {estimate.shape} of {estimate.spacing_mm} mm and {truth.shape} of "
            f"{truth.spacing_mm} mm: resample both CTs to one grid before segmenting them"
        )
    return {
        name: compare_masks(
            region(estimate, name), region(truth, name), spacing_mm=truth.spacing_mm, tolerance_mm=tolerance_mm
        )
        for name in REGIONS
    }


def bone_mask(hu: NDArray[np.floating[Any]], body: Mask) -> Mask:
    """Voxels of the body from 200 HU: ribs, spine, shoulders. A surrogate; contrast agent passes."""
    return np.asarray((hu >= 200.0) & body)


def cardiothoracic_surrogate(segmentation: Segmentation) -> float | None:
    """Width of the heart's shadow over the inner width of the chest, from the hemithoraces alone; None without both.

    The shadow is the gap between the right and the left hemithorax in their frontal silhouettes (any depth), widest
    between 40 % and 80 % of their common height; the chest is widest there, too. A surrogate: a mask of the heart is
    not needed, and fluid or a collapsed lung beside the heart counts as heart.
    """
    sides = [np.asarray(np.any(region(segmentation, f"{side}_hemithorax"), axis=1)) for side in ("right", "left")]
    occupied = [np.flatnonzero(np.any(side, axis=1)) for side in sides]
    if not all(len(rows) for rows in occupied):
        return None
    top, bottom = max(rows[0] for rows in occupied), min(rows[-1] for rows in occupied)
    gaps, widths = [], []
    for d in range(round(top + 0.4 * (bottom - top)), round(top + 0.8 * (bottom - top)) + 1):
        right, left = (np.flatnonzero(side[d]) for side in sides)
        if len(right) and len(left):
            gaps.append(left[0] - right[-1] - 1)
            widths.append(left[-1] - right[0] + 1)
    return max(0.0, max(gaps) / max(widths)) if gaps else None


def _check(first: Mask, second: Mask, spacing_mm: tuple[float, float, float], tolerance_mm: float) -> None:
    for mask in (first, second):
        if mask.dtype != np.bool_ or mask.ndim != 3:
            raise InputError(f"a mask must be a boolean [D, H, W] array, got {mask.dtype} of shape {mask.shape}")
    if first.shape != second.shape:
        raise InputError(f"the masks have shapes {first.shape} and {second.shape}: bring them to one grid")
    if len(spacing_mm) != 3 or not all(math.isfinite(s) and s > 0 for s in spacing_mm):
        raise InputError(f"the spacing must be three positive numbers of mm, got {spacing_mm}")
    if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
        raise InputError(f"the tolerance must be a number of mm from 0, got {tolerance_mm}")
