"""The width of a pneumothorax on a film is that of the rim that a reader outlines."""

from __future__ import annotations

import numpy as np
import pytest

from xrecon.films.film_width import film_width_mm
from xrecon.geometry import ConeBeam

VIEW = ConeBeam.preset("chest", "pa", size=128)  # 3 mm per pixel at the isocentre


def test_a_rim_is_as_wide_as_its_largest_circle() -> None:
    air, lung = np.zeros((128, 128), dtype=np.float32), np.zeros((128, 128), dtype=np.float32)
    air[20:100, 30:40] = 40.0
    assert film_width_mm(air, lung, VIEW) == pytest.approx(30.0, abs=3.0)


def test_a_layer_of_air_before_the_lung_is_no_rim() -> None:
    air, lung = np.zeros((128, 128), dtype=np.float32), np.zeros((128, 128), dtype=np.float32)
    air[20:100, 30:90], lung[20:100, 36:90] = 15.0, 80.0
    assert film_width_mm(air, lung, VIEW) == pytest.approx(18.0, abs=3.0)
    assert film_width_mm(np.zeros_like(air), lung, VIEW) == 0.0
    assert film_width_mm(np.full_like(air, 1.0), lung, VIEW) == 0.0  # less than 2 mm along the ray
