"""Gaussian smoothing agrees with scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from xrecon.smoothing import gaussian_smoothed


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("sigma", [0.4, 1.5, 9.0, (3.9, 0.0, 4.4)])
def test_the_values_are_scipys(sigma: float | tuple[float, ...], wrapped: bool) -> None:
    values = (300.0 * np.random.default_rng(0).standard_normal((9, 30, 21))).astype(np.float32)
    before = values.copy()
    expected = ndimage.gaussian_filter(values, sigma, mode="wrap" if wrapped else "reflect")
    smooth = gaussian_smoothed(values, sigma, wrapped=wrapped)
    assert smooth.dtype == np.float32
    np.testing.assert_allclose(smooth, expected, rtol=1e-6, atol=1e-4)
    assert np.array_equal(values, before)


def test_without_a_deviation_the_values_are_a_copy() -> None:
    values = np.ones((3, 4, 5), dtype=np.float32)
    smooth = gaussian_smoothed(values, 0.0)
    assert smooth is not values
    assert np.array_equal(smooth, values)
