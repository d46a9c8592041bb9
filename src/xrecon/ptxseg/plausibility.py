"""Whether the input can be a chest CT in HU, and what about it deserves a remark."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.morphology import Mask, Spacing
from xrecon.errors import InputError
from xrecon.volume import Volume

_MIN_EXTENT_MM = 80.0
"""Smallest extent of a chest CT."""
_MAX_EXTENT_MM = 2500.0
"""Largest extent."""
_THICK_MM = 4.5
"""Voxels longer than this hide thin pockets."""
_AIR_BELOW_HU = -300.0
"""A CT whose lowest value is above this shows no air."""
_TISSUE_ABOVE_HU = -150.0
"""A CT whose highest value is below this shows no tissue."""
_CUT_SHARE = 0.08
"""Section of the lungs in the outermost plane, as a share of the largest, from which they run out of the picture."""
_SMOOTH_EDGE_MM = 7.0
"""Width of the lungs' edges above which the pleura cannot be seen."""
CONTRAST_HU = 900.0
"""Rise from lung to tissue, from which that width is computed."""


def check_units(volume: Volume) -> None:
    """Refuse what cannot be a chest CT in Hounsfield units.

    Raises:
        InputError: constant, scaled to [0, 1], offset to 0..4095, no air or no tissue, or of an impossible size.
    """
    extent = [n * s for n, s in zip(volume.shape, volume.spacing_mm, strict=True)]
    if min(extent) < _MIN_EXTENT_MM or max(extent) > _MAX_EXTENT_MM or min(volume.shape) < 8:
        raise InputError(
            f"the CT is {extent[0]:.0f} x {extent[1]:.0f} x {extent[2]:.0f} mm ({'x'.join(map(str, volume.shape))} "
            f"voxels, D x H x W); a chest is {_MIN_EXTENT_MM:.0f} mm or more each way: check the spacing in the file"
        )
    low, high = float(volume.hu.min()), float(volume.hu.max())
    values = f"the values run from {low:.6g} to {high:.6g}"
    if high - low <= 2.0:
        raise InputError(
            f"{values}: constant, or scaled to [0, 1]; expected Hounsfield units (air near -1000, water 0)"
        )
    if low >= _AIR_BELOW_HU:
        hint = "; this looks like HU + 1024: subtract 1024" if low >= -5.0 and high > 1000.0 else ""
        raise InputError(f"{values}: no air; expected a chest CT in Hounsfield units (air near -1000, water 0){hint}")
    if high <= _TISSUE_ABOVE_HU:
        raise InputError(f"{values}: nothing as dense as soft tissue; expected a chest CT in Hounsfield units")


def cut_sides(sides: NDArray[np.uint8]) -> list[str]:
    """Where the lungs run out of the picture: "head", "feet", "front", "back", "right", "left".

    A lung that ends in the picture tapers; one that is cut shows a section of some size in the last plane.
    """
    lung = sides > 0
    cut = []
    for axis, (first, last) in enumerate((("head", "feet"), ("front", "back"), ("right", "left"))):
        others = tuple(a for a in range(3) if a != axis)
        areas = lung.sum(axis=others)
        limit = _CUT_SHARE * float(areas.max(initial=0))
        for name, area in ((first, areas[0]), (last, areas[-1])):
            if area > max(limit, 20.0):
                cut.append(name)
    return cut


def edge_width_mm(hu: NDArray[np.float32], lung: Mask, spacing: Spacing) -> float:
    """How blurred the CT is: width (mm) over which HU would rise from lung to tissue at the steepest usual slope.

    The slope is the 75th percentile of the gradient in the voxels on either side of the lungs' surface.
    """
    steep = []
    for axis, pitch in enumerate(spacing):
        ahead, behind = [slice(None)] * 3, [slice(None)] * 3
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        edge = lung[tuple(ahead)] != lung[tuple(behind)]
        steep.append(np.abs(hu[tuple(ahead)][edge] - hu[tuple(behind)][edge]) / pitch)
    slopes = np.concatenate(steep)
    return CONTRAST_HU / max(float(np.percentile(slopes, 75)), 1.0) if slopes.size else float("inf")


def is_smooth(edge_mm: float) -> bool:
    """Whether edges are as wide as in reconstructions from radiographs."""
    return edge_mm > _SMOOTH_EDGE_MM


def is_thick(spacing_mm: Spacing) -> bool:
    """Whether the voxels are so long that thin pockets are lost."""
    return max(spacing_mm) > _THICK_MM
