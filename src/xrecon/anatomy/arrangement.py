"""Which axes of an array hold the patient's? A script may have exchanged axes under an unchanged header.

Each of the six orders of the axes is taken for true in turn, and weighed by what every chest has:

- the spine is a column of bone that runs from the upper to the lower end of the lungs;
- it lies behind the middle of the body and of the lungs, not beside it;
- the body is wider than deep, and goes on beyond the first and the last slice;
- air that is enclosed in axial slices is the whole of the lungs.

The order stated by the file is doubted only where another one weighs clearly more. Which way round an axis runs is the
question of `anatomy.orientation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, permutations
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.anatomy.coarse_chest import CoarseChest
from xrecon.anatomy.morphology import Mask, Spacing

Order = tuple[int, int, int]
"""Axes of the array that run from head to feet, front to back and right to left."""

STATED: Order = (0, 1, 2)

_TISSUE_HU = -350.0
_SLABS = 4
"""The column is followed through so many parts of the lungs' height, so that it may lean or bend."""
_LEAN_DEG = 15.0
_REACH_MM = 100.0
"""Farthest place of the spine from the middle of the body: bones of the arms lie beyond."""
_BONE_QUARTILE = 25.0
_LARGEST_BONE_HU = 250.0
_LARGEST_COLUMN_HU = 200.0
_LEAST_OFFSET_MM, _LARGEST_LOG = 12.0, 1.5
"""Offsets count from here on; the logarithm of their ratio counts up to there."""
_LEAST_PLACE_MM = 20.0
"""A spine nearer to the middle of the body says nothing of front and sides."""
_LARGEST_ASPECT_LOG = 0.5
_LARGEST_FACE = 0.6
_LEAST_SIDE, _LEAST_FACE, _LEAST_AIR_ML = 0.2, 0.15, 1000.0
"""What another order must show at least: share of the lungs on each side, of the body at the ends, and air. The train
CTs have 0.33, 0.35 and 1984 mL in their true order."""
_LARGEST_CUT, _LEAST_SIDE_OF_CUT = 0.4, 0.38
"""Where the field of view cuts more of the body's sides, both lungs must be seen more alike: a crop that holds one lung
and a part of the other has the spine at its side, as a chest with exchanged axes has. The train CTs cut to 60 % of the
lungs' width hold 0.44 and more there; whole ones hold 0.23 at most, but for one whose shoulders are cut."""
_WEIGHTS = {
    "column": 1.5,
    "weakest": 1.2,
    "behind_body": 1.4,
    "behind_lungs": 0.5,
    "wider": 3.6,
    "enclosed": 0.7,
    "goes_on": 2.4,
}
"""Logistic weights of the terms, rounded, fitted on the 16 train CTs as they are and in altered forms (cropped, rotated
by 20 degrees about each axis, one lung white, full of air or collapsed, under tension, noisy, smooth, thick)."""
DOUBT_LIMIT = 1.5
"""How much more another order must weigh. Chosen on the 16 train CTs: the true order of a whole chest weighs more than
any other by 1.9 at least with weights fitted on the other 15."""


@dataclass(frozen=True)
class Doubt:
    """Another order of the axes that fits a chest better than the one stated.

    Attributes:
        order: which axes of the canonical array run from head to feet, front to back and right to left.
        margin: how much more it weighs than the order stated.
    """

    order: Order
    margin: float


def doubted_order(hu: NDArray[np.float32], spacing: Spacing, blocks: tuple[int, int, int]) -> Doubt | None:
    """A better order of the axes; None where the one stated fits, or where no order fits clearly.

    Args:
        hu: [D, H, W] means over blocks of about 4 mm, axes as the file states them.
        spacing: mm per voxel that the file states along D, H, W.
        blocks: voxels per block along D, H, W.
    """
    orders = cast("list[Order]", list(permutations(range(3))))
    views = {}
    for axis in range(3):
        order = next(order for order in orders if order[0] == axis)
        view = _View.of(hu, order, spacing, blocks)
        if view is not None:
            views[axis] = view
    if 0 not in views:
        return None
    most = max(view.air_ml for view in views.values())
    weights = {
        order: views[order[0]].weight(is_exchanged=order[1] > order[2], most_ml=most)
        for order in orders
        if order[0] in views
    }
    best = max(weights, key=lambda order: weights[order])
    margin = weights[best] - weights[STATED]
    if margin < DOUBT_LIMIT or not views[best[0]].is_whole(is_exchanged=best[1] > best[2]):
        return None
    return Doubt(best, margin)


def reordered(
    hu: NDArray[np.float32], order: Order, spacing: Spacing, blocks: tuple[int, int, int]
) -> tuple[NDArray[np.float32], Spacing]:
    """The blocks with their axes in an order, and mm per block if the file's spacing is that of the patient's axes."""
    d, h, w = (mm * blocks[axis] for mm, axis in zip(spacing, order, strict=True))
    return np.transpose(hu, order), (d, h, w)


@dataclass(frozen=True)
class _View:
    """What is seen when one axis is taken for that from head to feet, and the others for front-back and right-left.

    Attributes:
        column_hu, weakest_hu: bone of the best column through the lungs' height: mean and least of its parts.
        from_body_mm, from_lungs_mm: where it lies from the middle of the body and of the lungs, along the other axes.
        width_over_depth: of the body.
        air_ml: air enclosed in the slices.
        goes_on: share of the body's section that the first and the last slice hold at least.
        ends_beside: the largest share of the body's side view that an end of the array along the other axes holds:
            large where the field of view cuts the body.
        lesser_side: share of the lungs on the lesser side of the column, along each of the other axes.
    """

    column_hu: float
    weakest_hu: float
    from_body_mm: tuple[float, float]
    from_lungs_mm: tuple[float, float]
    width_over_depth: float
    air_ml: float
    goes_on: float
    ends_beside: float
    lesser_side: tuple[float, float]

    @classmethod
    def of(cls, hu: NDArray[np.float32], order: Order, spacing: Spacing, blocks: tuple[int, int, int]) -> _View | None:
        turned, mm = reordered(hu, order, spacing, blocks)
        chest = CoarseChest.find(turned, mm)
        body = None if chest is None else _section(chest)
        if chest is None or body is None:
            return None
        places = np.argwhere(body)
        middle = places.mean(axis=0)
        column, weakest, place = _column(chest, middle)
        shadow = chest.lungs.sum(axis=0)
        lungs = [float(np.average(np.arange(shadow.shape[k]), weights=shadow.sum(axis=1 - k))) for k in (0, 1)]
        across = np.array(mm[1:])
        spread = places.std(axis=0) * across
        tissue = turned > _TISSUE_HU
        from_body, from_lungs = (place - middle) * across, (place - lungs) * across
        return cls(
            column_hu=column,
            weakest_hu=weakest,
            from_body_mm=(float(from_body[0]), float(from_body[1])),
            from_lungs_mm=(float(from_lungs[0]), float(from_lungs[1])),
            width_over_depth=float(spread[1] / max(float(spread[0]), 1.0)),
            air_ml=float(chest.lungs.sum()) * float(np.prod(mm)) / 1000.0,
            goes_on=min(_end_shares(tissue, 0)),
            ends_beside=max(share for axis in (1, 2) for share in _end_shares(tissue[chest.rows(0.0, 1.0)], axis)),
            lesser_side=(_lesser_side(shadow.sum(axis=1), place[0]), _lesser_side(shadow.sum(axis=0), place[1])),
        )

    def is_whole(self, *, is_exchanged: bool) -> bool:
        """Whether this order shows two lungs beside the spine in a body that goes on: one lung alone proves nothing."""
        beside = self.lesser_side[0 if is_exchanged else 1]
        least = _LEAST_SIDE if self.ends_beside <= _LARGEST_CUT else _LEAST_SIDE_OF_CUT
        return beside >= least and self.goes_on >= _LEAST_FACE and self.air_ml >= _LEAST_AIR_ML

    def weight(self, *, is_exchanged: bool, most_ml: float) -> float:
        """How well this order fits a chest; with `is_exchanged` the two other axes are taken the other way round."""
        sign = -1.0 if is_exchanged else 1.0
        has_place = float(np.hypot(*self.from_body_mm)) >= _LEAST_PLACE_MM
        terms = {
            "column": min(self.column_hu, _LARGEST_COLUMN_HU) / 100.0,
            "weakest": min(self.weakest_hu, _LARGEST_COLUMN_HU) / 100.0,
            "behind_body": sign * _log_ratio(self.from_body_mm) * has_place,
            "behind_lungs": sign * _log_ratio(self.from_lungs_mm) * has_place,
            "wider": sign * float(np.clip(np.log(self.width_over_depth), -_LARGEST_ASPECT_LOG, _LARGEST_ASPECT_LOG)),
            "enclosed": float(np.log(self.air_ml / most_ml)),
            "goes_on": min(self.goes_on, _LARGEST_FACE),
        }
        return sum(_WEIGHTS[name] * value for name, value in terms.items())


def _end_shares(tissue: Mask, axis: int) -> tuple[float, float]:
    """Tissue of the first and of the last plane along an axis, as shares of all that is seen along it."""
    planes, seen = np.moveaxis(tissue, axis, 0), max(float(tissue.any(axis=axis).mean()), 1e-3)
    return float(planes[0].mean()) / seen, float(planes[-1].mean()) / seen


def _lesser_side(lungs: NDArray[np.int64], place: float) -> float:
    """Share of the lungs, counted along an axis, before or behind a place: whichever is less."""
    before = float(lungs[: round(place)].sum()) / float(lungs.sum())
    return min(before, 1.0 - before)


def _log_ratio(place_mm: tuple[float, float]) -> float:
    """Of the offset along the first axis over that along the second; positive where the spine lies behind or before."""
    first, second = (max(abs(mm), _LEAST_OFFSET_MM) for mm in place_mm)
    return float(np.clip(np.log(first / second), -_LARGEST_LOG, _LARGEST_LOG))


def _section(chest: CoarseChest) -> Mask | None:
    """[H, W] what belongs to the body in half of the lungs' slices; None without a body."""
    rows = chest.rows(0.0, 1.0)
    tissue = (chest.hu[rows] > _TISSUE_HU) | chest.lungs[rows]
    usual = ndimage.binary_opening(np.median(tissue, axis=0) > 0.5, iterations=2)
    parts, count = ndimage.label(usual)
    return np.asarray(parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])) if count else None


def _column(chest: CoarseChest, middle: NDArray[np.float64]) -> tuple[float, float, NDArray[np.float64]]:
    """The chain of windows, one in each slab of the lungs' height, with the most bone: mean and least HU, mean place.

    From slab to slab it may lean by 15 degrees.
    """
    mm = chest.spacing
    edges = np.linspace(chest.low[0], chest.high[0], _SLABS + 1).astype(int)
    low = [max(0, int(middle[k] - _REACH_MM / mm[k + 1])) for k in (0, 1)]
    high = [int(middle[k] + _REACH_MM / mm[k + 1]) + 1 for k in (0, 1)]
    box = (slice(low[0], high[0]), slice(low[1], high[1]))
    maps = []
    for first, last in pairwise(edges.tolist()):
        bone = np.percentile(chest.hu[(slice(first, last), *box)], _BONE_QUARTILE, axis=0)
        maps.append(np.minimum(ndimage.uniform_filter(bone, 3, mode="nearest"), _LARGEST_BONE_HU))
    step = chest.size(0) * mm[0] / _SLABS * np.tan(np.radians(_LEAN_DEG))
    half = [max(1, round(step / mm[k])) for k in (1, 2)]
    sums = [maps[0]]
    for bone in maps[1:]:
        reach = ndimage.maximum_filter(sums[-1], size=[2 * n + 1 for n in half], mode="nearest")
        sums.append(bone + reach)
    path: list[tuple[int, int]] = []
    for total in reversed(sums):
        start = [max(0, path[-1][k] - half[k]) if path else 0 for k in (0, 1)]
        stop = [path[-1][k] + half[k] + 1 if path else total.shape[k] for k in (0, 1)]
        near = total[start[0] : stop[0], start[1] : stop[1]]
        row, column = np.unravel_index(int(np.argmax(near)), near.shape)
        path.append((int(row) + start[0], int(column) + start[1]))
    bones = [float(bone[place]) for bone, place in zip(reversed(maps), path, strict=True)]
    return float(np.mean(bones)), min(bones), np.mean(path, axis=0) + low
