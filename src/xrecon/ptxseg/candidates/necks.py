"""Parts of a candidate that meet the rest over a thin sheet or in a neck: a bulla beside a pocket.

The pleura between them may fill less than half of every voxel that it crosses, so that all of them count as air, or
leak in one place. Within a pocket air is broad and empty where it passes from one part to the next.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.morphology import Mask, Spacing, bounding_box, components, depth_mm, filled
from xrecon.ptxseg.flood import flood
from xrecon.ptxseg.levels import AirLevels

_SHEET_HU = 100.0
"""Rise over free air of a thin sheet between two parts: half of what a pleura of 0.9 mm adds to a voxel of 2 mm where
two voxels share it."""
_SHEET_NOISE = 4.0
"""The same in standard deviations of the noise, where that is more."""
_NECK_MM = 4.5
"""A neck is nowhere deeper."""
_NECK_VOXELS = 2.05
"""The same in voxels, where that is more: a leak is up to three voxels wide."""
_MIN_CORE_ML = 2.0
"""Least volume deeper than a neck that a part on either side of it has."""
_MOST_PARTS = 255
"""Most parts that a candidate may fall into: markers have 8 bits."""


def parts_behind_necks(candidate: Mask, hu: NDArray[np.float32], levels: AirLevels, spacing: Spacing) -> list[Mask]:
    """The parts of a candidate, or nothing if it is all one.

    Args:
        candidate: [D, H, W]. What it encloses belongs to it: speckles would make it shallow everywhere.
        hu: [D, H, W] HU.
        levels: of its hemithorax.
        spacing: mm.

    Returns:
        Disjoint masks [D, H, W] that fill the candidate, each with 2 mL or more deeper than a neck.
    """
    box = bounding_box(candidate, margin=1)
    if box is None:
        return []
    part_hu = np.ascontiguousarray(hu[box])
    whole = filled(candidate[box])
    empty = whole & (part_hu < levels.air_hu + max(_SHEET_HU, _SHEET_NOISE * levels.noise_hu))
    deep = depth_mm(filled(empty), spacing)
    cores, sizes = components(deep > max(_NECK_MM, _NECK_VOXELS * max(spacing)))
    least = 1000.0 * _MIN_CORE_ML / float(np.prod(spacing))
    large = 1 + np.flatnonzero(sizes >= least)
    if not 2 <= len(large) <= _MOST_PARTS:
        return []
    table = np.zeros(len(sizes) + 1, dtype=np.uint8)
    table[large] = np.arange(1, len(large) + 1)
    markers: NDArray[np.uint8] = table[cores]
    flood(part_hu, markers, whole, low_hu=levels.air_hu, high_hu=0.0)
    parts = []
    for number in range(1, len(large) + 1):
        part = np.zeros_like(candidate)
        part[box] = markers == number
        parts.append(part)
    return parts
