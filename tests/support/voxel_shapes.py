"""Shapes on a small grid for the tests of PTX-Seg."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xrecon.ptxseg.levels import AirLevels

LEVELS = AirLevels(-980.0, 10.0, -850.0)
SHAPE = (40, 40, 40)
D, H, W = np.indices(SHAPE)


def ball(radius: float, centre: tuple[float, float, float] = (20, 20, 20)) -> NDArray[np.bool_]:
    """Voxels at most `radius` from `centre` (D, H, W)."""
    return (D - centre[0]) ** 2 + (H - centre[1]) ** 2 + (W - centre[2]) ** 2 <= radius**2
