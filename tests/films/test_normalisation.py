"""The films' normalisation for networks: gain, offset and outliers do not matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.films.normalisation import network_film

Film = NDArray[np.float32]


def smooth_film(seed: int, size: int = 48) -> Film:
    rng = np.random.default_rng(seed)
    rows, cols = np.indices((size, size)) / size
    waves = sum(
        rng.normal() * np.sin(rng.uniform(2, 12) * rows + rng.uniform(2, 12) * cols + rng.uniform(0, 6))
        for _ in range(5)
    )
    return np.asarray(waves, dtype=np.float32)


@given(
    st.integers(0, 1000),
    st.floats(1e-3, 1e4),
    st.floats(-1e3, 1e3),
)
@settings(deadline=None, max_examples=40)
def test_gain_and_offset_do_not_matter(seed: int, gain: float, offset: float) -> None:
    film = smooth_film(seed).astype(np.float64)
    assert np.allclose(network_film(gain * film + offset), network_film(film), atol=1e-5)


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_the_percentiles_get_their_levels(seed: int) -> None:
    scaled = network_film(smooth_film(seed))
    assert scaled.dtype == np.float32
    assert scaled.min() >= 0
    assert scaled.max() <= 1
    assert np.percentile(scaled, (2, 98)) == pytest.approx((0.05, 0.95), abs=0.01)


def test_order_is_kept_and_outliers_are_clipped() -> None:
    film = smooth_film(1)
    film[0, 0], film[0, 1] = 1e6, -1e6
    scaled = network_film(film)
    assert scaled[0, 0] == 1.0
    assert scaled[0, 1] == 0.0
    inner = (scaled > 0) & (scaled < 1)
    assert np.corrcoef(scaled[inner], film[inner])[0, 1] > 0.9999
    assert np.abs(scaled - network_film(smooth_film(1)))[1:].max() < 0.02


def test_constant_and_nearly_empty_films() -> None:
    assert (network_film(np.full((8, 8), 3.0)) == 0.5).all()
    assert (network_film(np.zeros((8, 8))) == 0.5).all()
    spot = np.zeros((32, 32))
    spot[3, 3] = 5.0
    assert network_film(spot)[3, 3] == pytest.approx(0.95)
    assert network_film(spot)[0, 0] == pytest.approx(0.05)


@pytest.mark.parametrize(
    "film", [np.zeros((3, 3, 3)), np.zeros((0, 4)), np.array([[0.0, np.nan]]), np.array([[0.0, np.inf]])]
)
def test_what_is_no_film_is_refused(film: NDArray[np.float64]) -> None:
    with pytest.raises(InputError):
        network_film(film)
