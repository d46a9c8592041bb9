"""NaN round the field of view: padding of tools that compute in floating point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xrecon.io.guards.border_fill import at_border

_LEAST_EDGE = 12
"""Smaller slices have no field of view to speak of."""
_LARGEST_SHARE = 0.9
"""Where more is missing, nothing of a chest is left."""


def clear_nan_padding(hu: NDArray[np.float32], axis: int, outside_hu: float) -> tuple[str, ...]:
    """Set NaN that is connected to the border of its slice to `outside_hu`, in place, and say so.

    Slices that hold nothing else become slices of one value. NaN that measured voxels enclose stays.

    Args:
        hu: three axes, HU.
        axis: across the slices.
        outside_hu: what is outside.
    """
    planes = np.moveaxis(hu, axis, 0)
    if min(planes.shape[1:], default=0) < _LEAST_EDGE:
        return ()
    missing = np.isnan(planes)
    if not missing.any() or missing.mean() > _LARGEST_SHARE:
        return ()
    total = 0
    for k in np.flatnonzero(missing.any(axis=(1, 2))).tolist():
        region = at_border(missing[k])
        planes[k][region] = outside_hu
        total += int(region.sum())
    if not total:
        return ()
    what = f"{total} NaN voxels, connected to the border of their slices,"
    return (f"{what} are padding round the field of view: set to {outside_hu:g} HU",)
