"""Which side of the chest: right and left cores, and a flood to the junction ridge where the lungs touch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.morphology import Mask, Spacing, components, depth_mm, distance_mm, grown, select
from xrecon.ptxseg.flood import flood
from xrecon.segmentation import Side

RIGHT, LEFT = 1, 2
SIDE_NAMES = {Side.RIGHT: "right", Side.LEFT: "left"}
_CORE_LIMITS_HU = (0.0, -600.0, -720.0)
"""HU below which the cores of the lungs are looked for, in this order: where two lungs touch over a wide area only
the ridge between them, thinned by partial volume, parts them."""
_EROSIONS_MM = (0.0, 4.0, 8.0, 13.0)
"""Depths beyond which cores are looked for, in this order."""
_MIN_CORE_ML = 40.0
"""Smallest core of a lung."""
_MIN_SHARE = 0.03
"""The smaller core holds at least this share of the air."""
_MIN_APART_MM = 60.0
"""Least distance between cores of the two lungs from right to left."""
_BESIDE_MM = 35.0
"""Where nothing parts the lungs, what lies this far from the midline is taken for the core of its side."""
_BAND_MM = 16.0
"""Voxels whose distances to the two cores differ by less than this are given to a side by the flood."""
RELIEF_HU = (-1000.0, 50.0)
"""HU between which the flood from both cores tells levels apart."""


def split_sides(
    air: Mask, hu: NDArray[np.float32], *, middle_w: float, spacing: Spacing
) -> tuple[NDArray[np.uint8], str | None]:
    """Side of every voxel of the thoracic air: 0 outside, 1 right, 2 left; and the side without a lung, if any.

    Args:
        air: [D, H, W] air and lung without airways.
        hu: [D, H, W] HU, for the ridge between lungs that touch.
        middle_w: column of the midline (windpipe or body).
        spacing: mm.

    Returns:
        The sides, and "right" or "left" where only the other side has a core of at least 40 mL, else None.
    """
    # Cores and the distances to them need no detail: every second voxel of each axis costs an eighth.
    sparse = np.ascontiguousarray(air[::2, ::2, ::2])
    double: Spacing = (2 * spacing[0], 2 * spacing[1], 2 * spacing[2])
    cores = _cores(sparse, hu[::2, ::2, ::2], middle_w=middle_w / 2, spacing=double)
    present = [bool((cores == side).any()) for side in (RIGHT, LEFT)]
    if not all(present):
        side = RIGHT if present[0] else LEFT
        return np.where(air, np.uint8(side), np.uint8(0)), "left" if side == RIGHT else "right"
    nearer = distance_mm(cores == RIGHT, double) - distance_mm(cores == LEFT, double)
    sides = _doubled(np.where(nearer <= 0, np.uint8(RIGHT), np.uint8(LEFT)), air.shape)
    sides *= air
    band = air & _doubled((np.abs(nearer) < _BAND_MM) & (cores == 0), air.shape)
    guess = sides[band]
    sides[band] = 0
    flood(hu, sides, band, low_hu=RELIEF_HU[0], high_hu=RELIEF_HU[1])
    # Islands that touch neither side keep the nearer one.
    sides[band] = np.where(sides[band] == 0, guess, sides[band])
    return _reunited(sides), None


def _reunited(sides: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Small parts that the other lung surrounds or meets, and not their own, go to the other."""
    sparse = np.ascontiguousarray(sides[::2, ::2, ::2])
    for side, other in ((RIGHT, LEFT), (LEFT, RIGHT)):
        labels, sizes = components(sparse == side)
        main = select(labels, [1 + int(sizes.argmax())], len(sizes))
        meets_other = np.unique(labels[grown(sparse == other)])
        meets_own = np.unique(labels[grown(main, 2)])
        moved = np.setdiff1d(meets_other[meets_other > 0], meets_own)
        if len(moved):
            # Two voxels reach what the sparse grid left out, and no part further off.
            sides[grown(_doubled(select(labels, moved, len(sizes)), sides.shape), 2) & (sides == side)] = other
    return sides


def _doubled(image: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Every voxel repeated twice along each axis, cut to `shape`."""
    for axis, size in enumerate(shape):
        image = np.repeat(image, 2, axis=axis)
        image = image[(slice(None),) * axis + (slice(0, size),)]
    return np.ascontiguousarray(image)


def _cores(air: Mask, hu: NDArray[np.float32], *, middle_w: float, spacing: Spacing) -> NDArray[np.uint8]:
    """The large parts of each side, after the mildest density limit and erosion that part the two lungs."""
    inner = depth_mm(air, spacing)
    for radius in _EROSIONS_MM:
        for limit in _CORE_LIMITS_HU:
            cores, apart = _parts_by_side((inner > radius) & (hu < limit), middle_w=middle_w, spacing=spacing)
            if apart:
                return cores
    # One lung only, or two that no ridge parts: by place.
    off_mm = (np.arange(air.shape[2]) - middle_w) * spacing[2]
    cores = np.zeros(air.shape, dtype=np.uint8)
    voxel_ml = float(np.prod(spacing)) / 1000.0
    for side, beside in ((RIGHT, off_mm < -_BESIDE_MM), (LEFT, off_mm > _BESIDE_MM)):
        part = air & beside
        if part.sum() * voxel_ml >= max(_MIN_CORE_ML, _MIN_SHARE * float(air.sum()) * voxel_ml):
            cores[part] = side
    return cores


def _parts_by_side(mask: Mask, *, middle_w: float, spacing: Spacing) -> tuple[NDArray[np.uint8], bool]:
    """Large components by side of their centre; and whether both sides have one that stays on its side."""
    voxel_ml = float(np.prod(spacing)) / 1000.0
    labels, sizes = components(mask)
    cores = np.zeros(mask.shape, dtype=np.uint8)
    sides: dict[int, list[int]] = {RIGHT: [], LEFT: []}
    centres = []
    for number in 1 + np.flatnonzero(sizes * voxel_ml >= _MIN_CORE_ML):
        columns = (labels == number).sum(axis=(0, 1)).astype(np.float64)
        if _straddles(columns, middle_w):
            return cores, False
        centre = float((columns * np.arange(len(columns))).sum() / columns.sum())
        centres.append(centre * spacing[2])
        sides[RIGHT if centre < middle_w else LEFT].append(int(number))
    if not (sides[RIGHT] and sides[LEFT]) or max(centres) - min(centres) < _MIN_APART_MM:
        return cores, False
    for side, numbers in sides.items():
        cores[select(labels, numbers, len(sizes))] = side
    smaller = min(np.count_nonzero(cores == RIGHT), np.count_nonzero(cores == LEFT))
    return cores, bool(smaller > _MIN_SHARE * np.count_nonzero(mask))


def _straddles(columns: NDArray[np.float64], middle_w: float) -> bool:
    """Whether a fifth or more of a part lies on each side of the midline: two lungs that still hang together."""
    share = columns[: max(0, round(middle_w))].sum() / columns.sum()
    return bool(0.2 < share < 0.8)
