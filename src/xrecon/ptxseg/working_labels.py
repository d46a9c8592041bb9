"""Labels on the working grid: lung and free air of each side, and what of a hemithorax is neither."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.morphology import Mask, Spacing, bounding_box, closed, components, dilated, opened, select
from xrecon.ptxseg.candidates.side_air import SideAir
from xrecon.ptxseg.hemithoraces.collapse import COMPRESSED_HU
from xrecon.ptxseg.hemithoraces.lungs import WALL_MM
from xrecon.ptxseg.scan import Scan
from xrecon.segmentation import Side

AIR_CLASS = 2
"""Class of air in the working labels is side + 2; lungs are 1 and 2."""
_COMPRESSED_CLOSE_MM = 7.0
"""Gaps of a compressed lung up to twice this are vessels and airless lung."""
_BONE_HU = 250.0
"""What is denser is no lung."""
_AIRLESS_HU = -150.0
"""Mean above which a piece of lung holds no air."""
_STRAY_SHARE = 0.1
"""Share of the largest piece of a lung below which an airless piece is none: the dome of the diaphragm has less."""
_NEAR_AIR_VOXELS, _RIM_VOXELS = 2.51, 1.01
"""What is left of lung this near to free air, thinner than twice the other, is wall. Just above whole voxels."""


def working_labels(
    scan: Scan, hemithoraces: NDArray[np.uint8], air_by_side: Mapping[Side, SideAir]
) -> NDArray[np.uint8]:
    """Classes [D, H, W]: lungs 1 and 2, air 3 and 4; what is left between air and chest wall is wall, not lung.

    Args:
        scan: the working image.
        hemithoraces: [D, H, W] 0 outside, 1 right, 2 left.
        air_by_side: what was found in each.
    """
    spacing = scan.grid.spacing_mm
    classes = hemithoraces.copy()
    for side, result in air_by_side.items():
        if not result.air.any():
            continue
        box = bounding_box(hemithoraces == side, margin=8)
        assert box is not None  # the air is part of it
        air, part, hu = result.air[box], classes[box], scan.hu[box]
        if result.levels.lung_hu >= COMPRESSED_HU:
            dense = dense_lung(hu, part, scan.airways.mask[box], side=side, spacing=spacing)
            part[dense & ~air] = side
        lung = (part == side) & ~air
        near = dilated(air, _NEAR_AIR_VOXELS * max(spacing), spacing)
        part[lung & near & ~opened(lung, _RIM_VOXELS * max(spacing), spacing)] = 0
        part[air] = side + AIR_CLASS
        part[stray_pieces(part == side, hu)] = 0
    return classes


def stray_pieces(lung: Mask, hu: NDArray[np.float32]) -> Mask:
    """Small airless pieces [D, H, W] apart from a lung in free air: the dome of the diaphragm, a mass, wall."""
    labels, sizes = components(lung)
    mean = np.bincount(labels.ravel(), weights=hu.ravel(), minlength=len(sizes) + 1)[1:] / np.maximum(sizes, 1)
    small = sizes < _STRAY_SHARE * sizes.max(initial=0)
    return select(labels, 1 + np.flatnonzero(small & (mean > _AIRLESS_HU)), len(sizes))


def dense_lung(
    hu: NDArray[np.float32], classes: NDArray[np.uint8], airways: Mask, *, side: Side, spacing: Spacing
) -> Mask:
    """Vessels and airless parts [D, H, W] of a compressed lung: what a wide closing of it adds, without the bronchi."""
    wide = closed(classes == int(side), _COMPRESSED_CLOSE_MM, spacing)
    return np.asarray(wide & (classes == 0) & (hu < _BONE_HU) & ~dilated(airways, WALL_MM, spacing))
