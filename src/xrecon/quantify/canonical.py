"""The labelled part of a segmentation in canonical axes, and one hemithorax of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from xrecon.segmentation import Label, Segmentation, Side
from xrecon.volume import CANONICAL

SideName = Literal["right", "left"]
SIDES: tuple[SideName, SideName] = ("right", "left")
Points = NDArray[np.float64]
Mask = NDArray[np.bool_]

_MARGIN_MM = 8.0
"""Kept round the labels, so that every wall has its outside, also once it is smoothed."""
_SIDE = {"right": (Label.RIGHT_LUNG, Side.RIGHT), "left": (Label.LEFT_LUNG, Side.LEFT)}


@dataclass(frozen=True, eq=False)
class ChestFrame:
    """A box round the labels, in canonical axes: D to the feet, H to the back, W to the patient's left.

    Attributes:
        labels: [D, H, W] uint8.
        air_side: [D, H, W] uint8.
        affine: 4 x 4; (d, h, w, 1) of the box to LPS mm.
        cut: ends of the scan that the labels touch ("head", "feet", "front", "back", "right", "left"): the chest may
            go on beyond them.
        first: index (d, h, w) of the box's first voxel in the whole canonical volume.
    """

    labels: NDArray[np.uint8]
    air_side: NDArray[np.uint8]
    affine: Points
    cut: tuple[str, ...]
    first: tuple[int, int, int]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel pitch (D, H, W), mm."""
        d, h, w = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(d), float(h), float(w)

    def hemithorax(self, side: SideName) -> Hemithorax | None:
        """One side, or None where it holds neither lung nor air."""
        label, number = _SIDE[side]
        lung, air = self.labels == label, self.air_side == number
        box = _box(lung | air, self.spacing_mm)
        if box is None:
            return None
        return Hemithorax(
            side=side,
            lung=np.ascontiguousarray(lung[box]),
            air=np.ascontiguousarray(air[box]),
            affine=_moved(self.affine, box),
            first=(box[0].start, box[1].start, box[2].start),
        )


@dataclass(frozen=True, eq=False)
class Hemithorax:
    """One pleural cavity.

    Attributes:
        side: "right" or "left", the patient's.
        lung: [D, H, W] bool, canonical axes, a box round this side.
        air: [D, H, W] bool, free air.
        affine: 4 x 4; (d, h, w, 1) of the box to LPS mm.
        first: index (d, h, w) of the box's first voxel in the `ChestFrame`.
    """

    side: SideName
    lung: Mask
    air: Mask
    affine: Points
    first: tuple[int, int, int]

    @property
    def cavity(self) -> Mask:
        """Lung and air together."""
        return self.lung | self.air

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel pitch (D, H, W), mm."""
        d, h, w = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(d), float(h), float(w)

    def to_lps(self, index: Points) -> Points:
        """LPS mm [n, 3] of fractional voxel indices [n, 3]."""
        return index @ self.affine[:3, :3].T + self.affine[:3, 3]


def chest_frame(segmentation: Segmentation) -> ChestFrame | None:
    """The box round all labels, in canonical axes; None where nothing is labelled."""
    order, flips = canonical_axes(segmentation.affine)
    turn = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    labels = segmentation.labels.transpose(order)[turn]
    d, h, w = np.linalg.norm(segmentation.affine[:3, list(order)], axis=0)
    box = _box(labels > 0, (float(d), float(h), float(w)))
    if box is None:
        return None
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1.0
    for canonical, (stored, flip) in enumerate(zip(order, flips, strict=True)):
        matrix[stored, canonical] = -1.0 if flip else 1.0
        matrix[stored, 3] = segmentation.shape[stored] - 1 if flip else 0
    return ChestFrame(
        labels=np.ascontiguousarray(labels[box]),
        air_side=np.ascontiguousarray(segmentation.air_side.transpose(order)[turn][box]),
        affine=_moved(segmentation.affine @ matrix, box),
        cut=_touched(labels),
        first=(box[0].start, box[1].start, box[2].start),
    )


def canonical_axes(affine: Points) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """(stored axis of each canonical axis, whether it is flipped) for an affine to LPS."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    alignment = CANONICAL.T @ directions  # [canonical axis, stored axis]
    a, b, c = max(permutations(range(3)), key=lambda order: sum(abs(alignment[i, s]) for i, s in enumerate(order)))
    return (a, b, c), (bool(alignment[0, a] < 0), bool(alignment[1, b] < 0), bool(alignment[2, c] < 0))


def _box(mask: Mask, spacing_mm: tuple[float, float, float]) -> tuple[slice, slice, slice] | None:
    ranges = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        used = np.flatnonzero(mask.any(axis=others))
        if used.size == 0:
            return None
        margin = math.ceil(_MARGIN_MM / spacing_mm[axis])
        ranges.append(slice(max(0, int(used[0]) - margin), min(mask.shape[axis], int(used[-1]) + 1 + margin)))
    return ranges[0], ranges[1], ranges[2]


def _moved(affine: Points, box: tuple[slice, slice, slice]) -> Points:
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ np.array([part.start for part in box], dtype=np.float64)
    return moved


def _touched(labels: NDArray[np.uint8]) -> tuple[str, ...]:
    ends = (("head", "feet"), ("front", "back"), ("right", "left"))
    return tuple(
        name
        for axis, names in enumerate(ends)
        for name, place in zip(names, (0, -1), strict=True)
        if labels.take(place, axis=axis).any()
    )
