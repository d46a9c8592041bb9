"""HU: whether values can be those of a CT, and padding outside the field of view."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.io.guards.arrays import check_finite, check_not_constant

OUTSIDE_HU = -1024.0
"""What a CT holds where nothing was measured: outside the body once the table is removed, and beyond the scan."""
HU_PADDING_BELOW = -1100.0
HU_ABSURD = 1e5


def check_hu(hu: NDArray[np.float32], source: Path) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """HU values that can be a CT, and notes on what was repaired.

    Values below -1100 HU are padding outside the field of view and become -1024 (in place). Raises InputError for
    NaN, a constant volume, and values that are plainly not HU (0..1, 0..255, HU + 1024, beyond +-1e5).
    """
    check_finite(hu, source, what="voxels")
    check_not_constant(hu, source, what="voxels")
    low, high = float(hu.min()), float(hu.max())
    span = f"{source}: the values run from {low:g} to {high:g}"
    if max(abs(low), abs(high)) > HU_ABSURD:
        raise InputError(f"{span}, which cannot be HU; check rescale slope and intercept, or convert to HU")
    if low >= -1.5 and high <= 1.5:
        raise InputError(f"{span}: normalised values, not HU; convert them back to HU (air -1000, water 0)")
    if low >= 0 and high <= 255:
        raise InputError(f"{span}: 8-bit display values, not HU; export the CT with its HU (air -1000, water 0)")
    if low >= 0 and high > 1000:
        raise InputError(
            f"{span}: nothing is below 0 HU, so this looks like HU + 1024 (a lost rescale intercept); subtract 1024 "
            f"or export the CT with its rescale tags"
        )
    notes: list[str] = []
    if low < HU_PADDING_BELOW:
        padding = hu < HU_PADDING_BELOW
        notes.append(f"{int(padding.sum())} voxels below {HU_PADDING_BELOW:g} HU (padding) set to {OUTSIDE_HU:g} HU")
        hu[padding] = OUTSIDE_HU
        check_not_constant(hu, source, what="voxels above the padding")
    if low > -500:
        notes.append(f"no value below {low:g} HU: no air in the picture; is this a chest CT in HU?")
    return hu, tuple(notes)
