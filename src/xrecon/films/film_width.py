"""How wide a pneumothorax is on a film: the largest circle that fits into it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.geometry import ConeBeam

_WIDTH_FROM_MM = 2.0
"""Air of at least this length along a ray counts."""


def film_width_mm(air_mm: NDArray[np.float32], lung_mm: NDArray[np.float32], view: ConeBeam) -> float:
    """Largest inscribed width of free air on a film, mm at the isocentre.

    Only rays that cross at least as much air as lung count: a thin layer in front of the lung darkens the film, but a
    reader outlines the rim beside the pleural line.

    Args:
        air_mm: [rows, cols] length of free air along every ray, mm.
        lung_mm: [rows, cols] length of lung of the same side, mm.
        view: geometry of the film.
    """
    rows, cols = view.pixel_at_isocentre_mm
    inside = np.pad((air_mm >= _WIDTH_FROM_MM) & (air_mm >= lung_mm), 1)
    distance = ndimage.distance_transform_edt(inside, sampling=(rows, cols))
    return round(2.0 * float(distance.max()), 2)
