"""Where the mediastinum lies between the two hemithoraces: pushed aside under tension, drawn aside by a lost lung."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from xrecon.quantify.canonical import ChestFrame, Mask
from xrecon.segmentation import Label, Side

USUAL_OFFSET_MM = 9.6
"""Mean offset, to the patient's left, over 12 chests without a pneumothorax (docs/quantification.md), mm."""
USUAL_SPREAD_MM = 5.5
"""Standard deviation of that offset over the same chests, mm."""

_HEIGHTS = (0.2, 0.6)
"""Slices used, as shares of the height of both hemithoraces from the apex: above the liver, below the shoulders."""
_FRONT = 0.6
"""Rows used, as a share of each slice's depth from the front: behind them lies the spine, which cannot shift."""
_FEWEST_SLICES = 3

Direction = Literal["right", "left", "none"]


@dataclass(frozen=True)
class MediastinalShift:
    """Lateral position of the mediastinum.

    Attributes:
        offset_mm: centroid of the mediastinum minus the midline of the chest wall, mm; positive to the patient's left.
        usual_offset_mm: mean of the same in chests without a pneumothorax (the heart lies to the left), mm.
        usual_spread_mm: its standard deviation, mm.
        shift_mm: offset_mm - usual_offset_mm.
        direction: the patient's "right" or "left"; "none" within two standard deviations of such chests.
        away_from_air: whether it goes away from the side with more air; None without a direction or air.
    """

    offset_mm: float
    usual_offset_mm: float
    usual_spread_mm: float
    shift_mm: float
    direction: Direction
    away_from_air: bool | None


def mediastinal_shift(frame: ChestFrame) -> MediastinalShift | None:
    """Offset of the mediastinum's centroid from the midline of the chest wall; None where a side is missing.

    In each slice between 20 % and 60 % of the height of the hemithoraces, the mediastinum is what lies between the most
    medial voxels of both cavities in every row of the front 60 %; the midline is the middle between the most lateral
    voxels of both cavities. The offset is the area-weighted mean over the slices.
    """
    right = (frame.labels == Label.RIGHT_LUNG) | (frame.air_side == Side.RIGHT)
    left = (frame.labels == Label.LEFT_LUNG) | (frame.air_side == Side.LEFT)
    shared = np.flatnonzero(right.any(axis=(1, 2)) & left.any(axis=(1, 2)))
    if shared.size < _FEWEST_SLICES:
        return None
    first, last = int(shared[0]), int(shared[-1])
    weighted = total = 0.0
    for d in range(round(first + _HEIGHTS[0] * (last - first)), round(first + _HEIGHTS[1] * (last - first)) + 1):
        section = _slice_offset(right[d], left[d])
        if section is not None:
            offset, area = section
            weighted += offset * area
            total += area
    if total == 0:
        return None
    offset_mm = weighted / total * frame.spacing_mm[2]
    air_right, air_left = (int(np.count_nonzero(frame.air_side == side)) for side in (Side.RIGHT, Side.LEFT))
    return _against_usual(offset_mm, more_air_left=air_left > air_right, air=air_left != air_right)


def _slice_offset(right: Mask, left: Mask) -> tuple[float, float] | None:
    """(offset in voxels, area in voxels) of the mediastinum in one slice [H, W]; None where it is not enclosed."""
    depth = np.flatnonzero(right.any(axis=1) | left.any(axis=1))
    columns_right, columns_left = (np.flatnonzero(side.any(axis=0)) for side in (right, left))
    if not (columns_right.size and columns_left.size):
        return None
    midline = (columns_right[0] + columns_left[-1]) / 2
    end = int(depth[0] + _FRONT * (depth[-1] - depth[0])) + 1
    rows = np.flatnonzero(right[:end].any(axis=1) & left[:end].any(axis=1))
    low = right.shape[1] - 1 - np.argmax(right[rows, ::-1], axis=1)
    high = np.argmax(left[rows], axis=1)
    widths = np.clip(high - low - 1, 0.0, None)
    area = float(widths.sum())
    if area == 0:
        return None
    return float((((low + high) / 2 - midline) * widths).sum() / area), area


def _against_usual(offset_mm: float, *, more_air_left: bool, air: bool) -> MediastinalShift:
    shift = offset_mm - USUAL_OFFSET_MM
    direction: Direction = "none"
    if math.fabs(shift) > 2 * USUAL_SPREAD_MM:
        direction = "left" if shift > 0 else "right"
    away = None if direction == "none" or not air else (direction == "right") == more_air_left
    return MediastinalShift(offset_mm, USUAL_OFFSET_MM, USUAL_SPREAD_MM, shift, direction, away)
