"""Windpipe and main bronchi, and the level of air that this scanner shows in them."""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.morphology import (
    Box,
    Mask,
    Spacing,
    bounding_box,
    components,
    depth_mm,
    filled,
    grown,
    select,
    voxels,
)
from xrecon.jobs import at_once
from xrecon.ptxseg.flood import flood

_LUMEN_THRESHOLDS_HU = (-850.0, -750.0, -650.0, -500.0)
"""HU below which a lumen is looked for, in this order: from sharp CTs to smooth reconstructed ones, whose windpipe is
a shallow valley."""
_AREA_MM2 = (40.0, 700.0)
"""Areas that a lumen of the windpipe may have. In adults it has 100 to 500 mm2; bronchi are smaller, the fork is
larger."""
_MIN_LENGTH_MM = 30.0
"""Shortest chain of lumens that can be the windpipe."""
_MAX_VOLUME_ML = 90.0
"""Windpipe and bronchi to the segments hold 40 to 80 mL in adults; more is a leak into the lung."""
_REACH_MM = 60.0
"""Bronchi are followed this far from the windpipe; a leak into the lung fills this box and is recognised by size."""
_GROWTH_STEPS_HU = (180.0, 140.0, 110.0, 80.0, 60.0, 45.0)
"""Thresholds above the lumen's level that growing tries, the most generous first."""
TRACHEAL_AIR_HU = -975.0
"""Free air in the windpipe as most scans show it, where it cannot be measured."""
_ASSUMED_NOISE_HU = 20.0
"""Noise, where it cannot be measured."""
_PLAUSIBLE_LEVEL_HU = (-1100.0, -700.0)
"""Levels that free air may have. Where another one is measured, the lumen was no windpipe."""
_WIDE = 2.0
"""Lumens that together are wider than this many windpipes are more than the windpipe and its two bronchi."""
_LUNG_HU = -350.0
"""What is darker than this and deeper than `_CORE_MM` is lung or free air."""
_WINDPIPE, _CHEST = np.uint8(1), np.uint8(2)
_CORE_MM = 12.0
"""Air this deep is lung or free air: bronchi are narrower, and the windpipe itself is left out."""
_APART_ML = 5.0
"""Dark parts of this size that do not hang together with the windpipe under the strictest threshold are no airways."""


@dataclass(frozen=True, eq=False)
class Airways:
    """The windpipe, and the level of free air measured in it.

    Attributes:
        mask: [D, H, W] lumen of windpipe and main bronchi; empty if none was found.
        air_hu: level of free air, HU.
        noise_hu: standard deviation of HU inside the lumen, one working voxel.
        carina: [D, H, W] voxel position of the lowest slice in which the windpipe is one lumen; None if not found.
        measured: whether level and noise were measured in a lumen; otherwise they are assumed.
    """

    mask: Mask
    air_hu: float
    noise_hu: float
    carina: tuple[int, int, int] | None
    measured: bool


def find_airways(hu: NDArray[np.float32], body: Mask, spacing: Spacing) -> Airways:
    """Windpipe by a chain of round lumens from the top, bronchi by growing from it with leak control.

    Args:
        hu: [D, H, W] HU, canonical axes.
        body: [D, H, W] the body, filled.
        spacing: (D, H, W) mm.
    """
    for threshold in _LUMEN_THRESHOLDS_HU:
        windpipe = _windpipe(hu, body, spacing, threshold)
        if windpipe is None:
            continue
        windpipe = _followed(windpipe)
        level, noise = _level(hu, windpipe, spacing)
        if not _PLAUSIBLE_LEVEL_HU[0] < level < _PLAUSIBLE_LEVEL_HU[1]:
            continue
        mask = _grown(hu, windpipe, body, level=level, spacing=spacing)
        return Airways(mask, level, noise, _carina(windpipe), True)
    return Airways(np.zeros(hu.shape, dtype=np.bool_), TRACHEAL_AIR_HU, _ASSUMED_NOISE_HU, None, False)


def _windpipe(hu: NDArray[np.float32], body: Mask, spacing: Spacing, threshold: float) -> Mask | None:
    """The best chain of lumens of plausible area over consecutive slices, or None."""
    air = (hu < threshold) & body
    pixel_mm2 = spacing[1] * spacing[2]
    small = np.zeros_like(air)

    def keep_lumens(slices: range) -> None:
        for d in slices:
            labels, count = cc3d.connected_components(np.ascontiguousarray(air[d]), connectivity=4, return_N=True)
            if count == 0:
                continue
            areas = np.bincount(labels.ravel(), minlength=count + 1) * pixel_mm2
            fits = (areas >= _AREA_MM2[0]) & (areas <= _AREA_MM2[1])
            fits[0] = False
            small[d] = fits[labels]

    at_once(keep_lumens, (range(0, len(air), 2), range(1, len(air), 2)))
    labels3, sizes = components(small)
    best, best_score = None, 0.0
    middle = _middle(body)
    statistics = cc3d.statistics(labels3)
    for number in 1 + np.flatnonzero(sizes * pixel_mm2 * spacing[0] > _AREA_MM2[0] * _MIN_LENGTH_MM):
        box = statistics["bounding_boxes"][number]
        score = _windpipe_score(labels3[box] == number, box, middle=middle, spacing=spacing, slices=len(hu))
        if score > best_score:
            best, best_score = int(number), score
    return None if best is None else labels3 == best


def _followed(chain: Mask) -> Mask:
    """The chain followed down from its upper half, until lumens join it that are too wide together.

    Free air beside a bronchus can hang together with it where their walls are thin.
    """
    areas = chain.sum(axis=(1, 2))
    used = np.flatnonzero(areas)
    upper = used[: max(1, len(used) // 2)]
    usual = float(np.median(areas[upper]))
    out = np.zeros_like(chain)
    first = int(upper[len(upper) // 2])
    out[: first + 1] = chain[: first + 1]
    for d in range(first + 1, int(used[-1]) + 1):
        labels, sizes = components(chain[d : d + 1])
        below = np.unique(labels[0][out[d - 1]])
        lumens = select(labels[0], below[below > 0], len(sizes))
        if not lumens.any() or np.count_nonzero(lumens) > _WIDE * usual:
            break
        out[d] = lumens
    return out


def _middle(body: Mask) -> float:
    """Column of the body's midline: the median of the slices' centres."""
    width: Mask = np.any(body, axis=1)
    rows = np.flatnonzero(np.any(width, axis=1))
    centres = [float(np.flatnonzero(width[d]).mean()) for d in rows]
    return float(np.median(centres)) if centres else body.shape[2] / 2


def _windpipe_score(part: Mask, box: Box, *, middle: float, spacing: Spacing, slices: int) -> float:
    """Length (mm), weighted down for a place off the midline, flat lumens and a low start; 0 if it is too short."""
    areas = part.sum(axis=(1, 2))
    used = np.flatnonzero(areas)
    length = len(used) * spacing[0]
    if length < _MIN_LENGTH_MM:
        return 0.0
    upper = part[used[0] : used[0] + max(1, len(used) // 2)]
    w = np.nonzero(upper)[2]
    off_mm = abs(float(w.mean()) + box[2].start - middle) * spacing[2]
    area_mm2 = float(np.median(areas[used])) * spacing[1] * spacing[2]
    # A round lumen's spread follows from its area; one that wanders or is flat has a larger one.
    spread_mm2 = float(np.median([_spread(slice_, spacing) for slice_ in upper if slice_.any()]))
    round_ = min(1.0, area_mm2 / (2 * np.pi) / max(spread_mm2, 1e-6))
    start = box[0].start / max(1, slices)
    return float(length * np.exp(-((off_mm / 35.0) ** 2)) * round_ * np.exp(-((start / 0.5) ** 2)))


def _spread(lumen: Mask, spacing: Spacing) -> float:
    """Sum of the variances (mm2) of a lumen's pixel positions."""
    h, w = np.nonzero(lumen)
    return float(np.var(h * spacing[1]) + np.var(w * spacing[2]))


def _level(hu: NDArray[np.float32], windpipe: Mask, spacing: Spacing) -> tuple[float, float]:
    """Median and robust standard deviation of HU in the middle of the lumen, away from the wall's partial volume."""
    box = bounding_box(windpipe, margin=1)
    assert box is not None
    inner = depth_mm(windpipe[box], spacing)
    reach = min(3.5, float(np.percentile(inner[windpipe[box]], 90)))
    values = hu[box][windpipe[box] & (inner >= reach)]
    level = float(np.median(values))
    noise = float(1.4826 * np.median(np.abs(values - level)))
    return level, max(noise, 3.0)


def _grown(hu: NDArray[np.float32], windpipe: Mask, body: Mask, *, level: float, spacing: Spacing) -> Mask:
    """Windpipe and bronchi: the most generous threshold whose component stays as small as airways are.

    Where lung or free air is nearer over a lower pass than the windpipe, it is no airway.
    """
    voxel_ml = float(np.prod(spacing)) / 1000.0
    limit = max(_MAX_VOLUME_ML, 2.2 * float(windpipe.sum()) * voxel_ml)
    box = bounding_box(windpipe, margin=voxels(_REACH_MM, spacing))
    assert box is not None
    out = np.zeros_like(windpipe)
    values, seeds = np.ascontiguousarray(hu[box]), windpipe[box]
    inside = _own_basin(values, seeds, body[box], level=level, spacing=spacing)
    for step in _GROWTH_STEPS_HU:
        labels, sizes = components((values < level + step) & inside)
        hit = np.unique(labels[seeds])
        hit = hit[hit > 0]
        if sizes[hit - 1].sum() * voxel_ml <= limit:
            out[box] = filled(select(labels, hit, len(sizes)) | seeds)
            return out
    out[box] = grown(seeds) & (values < -500.0) & inside
    return out


def _own_basin(values: NDArray[np.float32], seeds: Mask, body: Mask, *, level: float, spacing: Spacing) -> Mask:
    """What a flood over HU gives to the windpipe (`seeds`), against what is lung or free air beyond doubt."""
    voxel_ml = float(np.prod(spacing)) / 1000.0
    open_ = (values < level + _GROWTH_STEPS_HU[0]) & body
    labels, sizes = components((values < level + _GROWTH_STEPS_HU[-1]) & body)
    apart = sizes * voxel_ml >= _APART_ML
    apart[np.unique(labels[seeds & (labels > 0)]) - 1] = False
    other = select(labels, 1 + np.flatnonzero(apart), len(sizes))
    other |= depth_mm((values < _LUNG_HU) & body & ~grown(seeds, 2), spacing) > _CORE_MM
    markers = np.where(seeds, _WINDPIPE, np.where(other, _CHEST, np.uint8(0)))
    flood(values, markers, open_, low_hu=level - 20.0, high_hu=level + _GROWTH_STEPS_HU[0])
    return np.asarray(markers == _WINDPIPE)


def _carina(windpipe: Mask) -> tuple[int, int, int]:
    """Centre of the lowest slice of the chain that holds a single lumen of at least half the usual area."""
    areas = windpipe.sum(axis=(1, 2))
    usual = float(np.median(areas[areas > 0]))
    for d in np.flatnonzero(areas)[::-1]:
        labels, sizes = components(windpipe[d : d + 1])
        if sizes.max() >= 0.5 * usual and (len(sizes) == 1 or sizes.max() > 0.85 * sizes.sum()):
            _, h, w = np.nonzero(labels)
            return int(d), round(float(h.mean())), round(float(w.mean()))
    d = int(np.flatnonzero(areas)[-1])
    h, w = np.nonzero(windpipe[d])
    return d, round(float(h.mean())), round(float(w.mean()))
