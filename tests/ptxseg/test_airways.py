"""Windpipe and bronchi in a chest of tubes and boxes: followed to their branches, and no further."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from xrecon.anatomy.morphology import Mask, distance_mm
from xrecon.ptxseg.airways import find_airways

SHAPE = (90, 70, 90)
SPACING = (2.0, 2.0, 2.0)
FORK = (42, 35, 45)
D, H, W = np.indices(SHAPE)


def chest() -> tuple[NDArray[np.float32], Mask, Mask]:
    """HU, airways, and free air in front of the right bronchus, whose wall blur has thinned."""
    body = (H > 3) & (H < 66) & (W > 3) & (W < 86)
    hu = np.where(body, 40.0, -1000.0).astype(np.float32)
    lungs = (D > 15) & (D < 80) & (H > 8) & (H < 60) & ((W < 30) | (W > 60)) & (W > 8) & (W < 82)
    hu[lungs] = -850.0
    windpipe = ((H - FORK[1]) ** 2 + (W - FORK[2]) ** 2 <= 16) & (FORK[0] >= D)
    airways = windpipe.copy()
    for way in (-1.0, 1.0):
        along = (D - FORK[0]) * 1.4
        bronchus = (H - FORK[1]) ** 2 + (W - FORK[2] - way * along) ** 2 <= 9
        airways |= bronchus & (FORK[0] < D) & (FORK[0] + 10 > D)
    pocket = lungs & (W < 30) & (H < 30)
    pocket |= (D > 40) & (D < 60) & (H >= 26) & (H < 33) & (W >= 25) & (W < 42)
    pocket &= ~airways
    hu[airways | pocket] = -980.0
    wall = (distance_mm(airways, SPACING) <= 2.0) & ~airways & ~windpipe & (FORK[0] < D)
    hu[wall & pocket] = -925.0
    hu[(distance_mm(windpipe, SPACING) <= 2.0) & ~windpipe & (FORK[0] >= D)] = 40.0
    noise = np.random.default_rng(0).normal(0.0, 8.0, SHAPE).astype(np.float32)
    return hu + noise, airways, pocket


def test_free_air_beside_a_bronchus_is_no_airway() -> None:
    hu, airways, pocket = chest()
    body = (H > 3) & (H < 66) & (W > 3) & (W < 86)
    result = find_airways(hu, body, SPACING)
    assert result.measured
    assert result.air_hu == pytest.approx(-980.0, abs=3.0)
    assert (result.mask & airways).sum() > 0.9 * airways.sum()
    assert (result.mask & pocket).sum() < 0.03 * airways.sum()
    assert result.carina is not None
    assert abs(result.carina[0] - FORK[0]) <= 3
    assert np.hypot(result.carina[1] - FORK[1], result.carina[2] - FORK[2]) < 2.5
