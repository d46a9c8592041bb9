"""Hemithoraces: the lung of each side with its vessels and any free air around it, without airways.

Written for sick chests. Healthy lungs, in which pneumothoraces are planted, are found by
`xrecon.anatomy.healthy_lungs`, which shares none of these thresholds: planted pockets test this search, and a test must
not rest on the decisions of what it tests.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.morphology import (
    Mask,
    Spacing,
    closed,
    components,
    dilated,
    distance_mm,
    filled,
    grown,
    select,
    shrunk,
    voxels,
    widened,
)
from xrecon.errors import InputError
from xrecon.jobs import at_once
from xrecon.ptxseg.airways import Airways
from xrecon.ptxseg.hemithoraces.sides import LEFT, RIGHT, split_sides

EDGE_HU = -350.0
"""What is brighter is no aerated lung. Near the midpoint of aerated lung (-850) and soft tissue (+40)."""
_LUNG_TEXTURE_HU = (60.0, 480.0)
"""How far above the level of free air aerated lung lies."""
_MIN_PART_ML = 3.0
"""Smaller parts of the air are no lung."""
MIN_LUNGS_ML = 300.0
"""Aerated lung that a chest CT holds at least."""
_LARGE_SHARE = 0.1
"""Parts from this share of the largest on are lung wherever they lie."""
_TEXTURE_SHARE = 0.3
"""Share of a part with the density of aerated lung, from which the part is lung."""
_MIN_POCKET_ML = 15.0
"""Smaller parts without lung texture are no free air."""
_PLEURA_GAP_MM = 3.5
"""Visceral pleura of 1 mm, widened by the blur of both edges; diaphragm with the wall of the stomach is thicker."""
_SHARED_SURFACE_SHARE = 0.15
"""Share of a part's surface that lies as near to lung as a pleura is thick, from which the part belongs to the
chest."""
_SKIN_SHARE = 0.1
"""Share of a part's surface that runs along the skin, above which the part lies outside the chest."""
_NECK_MM = 30.0
"""Air that ends above this depth below the apex of the lungs is throat, not chest."""
WALL_MM = 2.0
"""Thickness of the wall of windpipe and bronchi, which is not lung."""
SKIN_VOXELS = 3
"""Outermost voxels of the body that may be outside air, because its outline is coarse."""
CLOSE_MM = 4.5
"""Gaps up to twice this are closed: vessels to about 9 mm belong to the lung."""


@dataclass(frozen=True, eq=False)
class Hemithoraces:
    """Right and left hemithorax.

    Attributes:
        sides: [D, H, W] uint8: 0 outside, 1 right, 2 left; lung and free air, closed over vessels.
        missing: "right" or "left" where no lung was found, else None.
    """

    sides: NDArray[np.uint8]
    missing: str | None


def with_sides(chest: Hemithoraces, other: Hemithoraces, added: Collection[int]) -> Hemithoraces:
    """`chest`, to which `other` adds what it has of the `added` sides (1 right, 2 left) outside both of `chest`'s."""
    sides = chest.sides.copy()
    for side in added:
        sides[(other.sides == side) & (sides == 0)] = side
    missing = {"right": RIGHT, "left": LEFT}.get(chest.missing or "")
    return Hemithoraces(sides, None if missing in added else chest.missing)


def find_hemithoraces(hu: NDArray[np.float32], body: Mask, airways: Airways, spacing: Spacing) -> Hemithoraces:
    """Both hemithoraces from HU, [D, H, W].

    Raises:
        InputError: less than 300 mL of aerated lung: not a chest, or not in HU.
    """
    voxel_ml = float(np.prod(spacing)) / 1000.0
    inner = shrunk(body, SKIN_VOXELS)
    air = (hu < EDGE_HU) & inner & ~dilated(airways.mask, WALL_MM, spacing)
    labels, sizes = components(air)
    low, high = (airways.air_hu + step for step in _LUNG_TEXTURE_HU)
    texture = (hu > low) & (hu < high)
    textured = np.bincount(labels[texture], minlength=len(sizes) + 1)[1:]
    large = sizes * voxel_ml >= _MIN_PART_ML
    lungs = large & (textured >= _TEXTURE_SHARE * sizes)
    found_ml = float(textured[lungs].sum()) * voxel_ml
    if found_ml < MIN_LUNGS_ML:
        raise InputError(
            f"no lungs found: {found_ml:.0f} mL of aerated lung inside the body, expected at least "
            f"{MIN_LUNGS_ML:.0f} mL; is this a chest CT in Hounsfield units?"
        )
    thoracic = _beside_lung(select(labels, 1 + np.flatnonzero(lungs), len(sizes)), inner)
    pockets = 1 + np.flatnonzero((sizes * voxel_ml >= _MIN_POCKET_ML) & ~lungs)
    thoracic |= _pockets(labels, pockets, lung=thoracic, inner=inner, airways=airways, spacing=spacing)
    middle = float(airways.carina[2]) if airways.carina else hu.shape[2] / 2
    sides, missing = split_sides(thoracic, hu, middle_w=middle, spacing=spacing)
    return Hemithoraces(_closed_sides(sides, airways.mask, body, spacing), missing)


def _beside_lung(mask: Mask, inner: Mask) -> Mask:
    """The mask without bowel and skin: small parts in the lower half of the large ones, or at the end of `inner`."""
    labels, sizes = components(mask)
    large = sizes >= _LARGE_SHARE * sizes.max()
    rows = np.flatnonzero(select(labels, 1 + np.flatnonzero(large), len(sizes)).any(axis=(1, 2)))
    middle = (rows[0] + rows[-1]) / 2
    statistics = cc3d.statistics(labels)
    centres, boxes = statistics["centroids"][1:, 0], statistics["bounding_boxes"]
    beside = [int(number) for number in 1 + np.flatnonzero(large)]
    for number in 1 + np.flatnonzero(~large & (centres < middle) & (centres > rows[0])):
        box = widened(boxes[number], 1, mask.shape)
        if not _along_skin(labels[box] == number, inner[box]):
            beside.append(int(number))
    return select(labels, beside, len(sizes))


def _along_skin(part: Mask, inner: Mask) -> bool:
    """Whether a part runs along the end of the body: an arm's skin is dark by partial volume."""
    shell = grown(part) & ~part
    return int(np.count_nonzero(shell & ~inner)) > _SKIN_SHARE * int(np.count_nonzero(shell))


def _pockets(
    labels: NDArray[np.uint32],
    numbers: NDArray[np.int64],
    *,
    lung: Mask,
    inner: Mask,
    airways: Airways,
    spacing: Spacing,
) -> Mask:
    """Air without lung texture that belongs to the chest, of what does not run along the skin (the end of `inner`).

    It runs beside the lung from above the carina down, or only a pleura parts it from the lung. Gas of the stomach and
    bowel lies below, and diaphragm and gut wall keep it further from the lung.
    """
    out = np.zeros_like(lung)
    if not len(numbers):
        return out
    boxes = cc3d.statistics(labels)["bounding_boxes"]
    rows = np.flatnonzero(lung.any(axis=(1, 2)))
    level = airways.carina[0] if airways.carina else (2 * rows[0] + rows[-1]) // 3
    below_neck = rows[0] + round(_NECK_MM / spacing[0])
    for number in numbers:
        box = widened(boxes[number], voxels(_PLEURA_GAP_MM, spacing), lung.shape)
        part = labels[box] == number
        if _along_skin(part, inner[box]):
            continue
        reach = distance_mm(part, spacing) <= _PLEURA_GAP_MM
        shared = np.count_nonzero(reach & lung[box])
        beside = boxes[number][0].start < level and boxes[number][0].stop > below_neck
        if beside or shared > _SHARED_SURFACE_SHARE * np.count_nonzero(grown(part) & ~part):
            out[box] |= part
    return out


def _closed_sides(sides: NDArray[np.uint8], airways: Mask, body: Mask, spacing: Spacing) -> NDArray[np.uint8]:
    """Each side closed over its vessels; neither takes a voxel of the other, of the airways or from outside."""
    out = sides.copy()
    free = (sides == 0) & body & ~airways
    numbers = (RIGHT, LEFT)
    wholes = at_once(lambda side: filled(closed(sides == side, CLOSE_MM, spacing)), numbers)
    for side, whole in zip(numbers, wholes, strict=True):
        out[whole & free & (out == 0)] = side
    return out
