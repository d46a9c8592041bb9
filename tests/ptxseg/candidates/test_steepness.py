"""How steeply HU rise at a surface: a sharp step, a blurred one, and no surface."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from xrecon.anatomy.morphology import grown
from xrecon.ptxseg.candidates.steepness import surface_slope


def test_a_blurred_ball_is_less_steep_than_a_sharp_one_and_no_surface_has_no_slope() -> None:
    index = np.indices((24, 24, 24)) - 12.0
    ball = np.linalg.norm(index, axis=0) < 7.0
    hu = np.where(ball, -1000.0, -800.0).astype(np.float32)
    surface = grown(ball) & ~ball
    sharp = surface_slope(hu, surface, (2.0, 2.0, 2.0))
    assert sharp == pytest.approx(100.0)
    assert surface_slope(hu, surface, (4.0, 4.0, 4.0)) == pytest.approx(50.0)
    assert surface_slope(ndimage.gaussian_filter(hu, 2.0), surface, (2.0, 2.0, 2.0)) < 0.4 * sharp
    assert surface_slope(hu, np.zeros_like(ball), (2.0, 2.0, 2.0)) == 0.0
