"""The pleural line: what parts thin lung that a flood took for air from air behind a pleura."""

from __future__ import annotations

from collections.abc import Iterator

import cc3d
import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.morphology import Mask, components, filled, grown, select, shrunk, widened
from xrecon.ptxseg.levels import AirLevels

_PURE_HU = 40.0
"""Rise over free air (or 2.5 times the noise) up to which a voxel is pure air."""
LINE_HU = 20.0
"""Rise over the lung of the side (lower quartile) from which what bounds a part is a pleural line."""
_MIN_CORE_SHARE = 0.01
"""Share of a part that no outer voxel touches; with less it is a film along pure air."""


def without_line(hu: NDArray[np.float32], hemithorax: Mask, air: Mask, levels: AirLevels, *, least: float) -> Mask:
    """Parts of `air` that are not pure, lie off what is, and meet the lung without a pleural line: thin lung.

    What is not pure beside pure air is partial volume. A pocket that holds nothing pure, thin as it is, lies between
    the wall and the pleura, which is brighter than the lung behind it. Thick slices do not show that line.

    Args:
        hu: [D, H, W] HU.
        hemithorax: [D, H, W] the side.
        air: [D, H, W] what a flood took for air.
        levels: of the hemithorax.
        least: voxels from which a part counts.
    """
    labels, count, rises = line_rises(hu, hemithorax, air, levels, least=least)
    return select(labels, [number for number, rise_hu in rises if rise_hu < LINE_HU], count)


def line_rises(
    hu: NDArray[np.float32], hemithorax: Mask, air: Mask, levels: AirLevels, *, least: float
) -> tuple[NDArray[np.uint32], int, list[tuple[int, float]]]:
    """Parts of `air` off pure air, and by how many HU what bounds them lies above the lung of the side.

    Args as for `without_line`.

    Returns:
        Labels [D, H, W], how many there are, and of those large enough to judge (number, HU: lower quartile).
    """
    pure = air & (hu < levels.air_hu + max(_PURE_HU, 2.5 * levels.noise_hu))
    labels, sizes = components(air & ~grown(pure))
    return labels, len(sizes), list(_rises(hu, hemithorax, air, levels, labels=labels, sizes=sizes, least=least))


def _rises(
    hu: NDArray[np.float32],
    hemithorax: Mask,
    air: Mask,
    levels: AirLevels,
    *,
    labels: NDArray[np.uint32],
    sizes: NDArray[np.int64],
    least: float,
) -> Iterator[tuple[int, float]]:
    cores = np.bincount(labels[shrunk(labels > 0)], minlength=len(sizes) + 1)[1:]
    boxes = cc3d.statistics(labels)["bounding_boxes"]
    for number in 1 + np.flatnonzero((sizes >= least) & (cores >= _MIN_CORE_SHARE * sizes)):
        box = widened(boxes[number], 1, hu.shape)
        part = filled(labels[box] == number)
        beside = grown(part) & ~part & hemithorax[box] & ~air[box]
        if beside.any():
            yield int(number), float(np.percentile(hu[box][beside], 25)) - levels.lung_hu
