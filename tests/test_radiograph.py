"""A film seen by another detector."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xrecon.errors import InputError
from xrecon.geometry import ConeBeam
from xrecon.radiograph import Radiograph


def blob(geometry: ConeBeam, row_mm: float, col_mm: float) -> Radiograph:
    """A bright spot at a position on the isocentre plane, mm from the central ray."""
    rows, cols = geometry.detector_shape
    pitch = geometry.pixel_at_isocentre_mm
    shift = [v / geometry.magnification for v in geometry.detector_shift_mm]
    r = (np.arange(rows) - (rows - 1) / 2) * pitch[0] + shift[0]
    c = (np.arange(cols) - (cols - 1) / 2) * pitch[1] + shift[1]
    image = np.exp(-((r[:, None] - row_mm) ** 2 + (c[None, :] - col_mm) ** 2) / (2 * 12.0**2))
    return Radiograph(image.astype(np.float32), "pa", geometry)


@pytest.mark.parametrize("size", [48, 96, 150])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (25.0, -40.0)])
def test_positions_at_the_isocentre_stay(size: int, shift: tuple[float, float]) -> None:
    film = blob(replace(ConeBeam.preset("chest", "pa", size=120), detector_shift_mm=shift), -30.0, 55.0)
    for other in (ConeBeam.preset("chest", "pa", size=size), ConeBeam.preset("x2ct", "pa", size=size)):
        seen = film.resampled(other)
        expected = blob(other, -30.0, 55.0).image
        assert np.abs(seen.image - expected).max() < 0.08
        assert seen.geometry == other


def test_same_detector_changes_nothing() -> None:
    film = blob(ConeBeam.preset("chest", "pa", size=64), 10.0, 20.0)
    np.testing.assert_allclose(film.resampled(film.geometry).image, film.image, atol=1e-5)


def test_beyond_the_film_its_border_goes_on() -> None:
    small = replace(ConeBeam.preset("chest", "pa", size=64), pixel_mm=(3.0, 3.0))
    image = np.full((64, 64), 2.0, np.float32)
    image[20:40, 20:40] = 5.0
    wide = Radiograph(image, "pa", small).resampled(ConeBeam.preset("chest", "pa", size=64))
    assert wide.image[0, 0] == pytest.approx(2.0, abs=1e-5)
    assert wide.image[-1, -1] == pytest.approx(2.0, abs=1e-5)


@pytest.mark.parametrize(
    ("image", "view", "words"),
    [
        (np.zeros((8, 8)), "pa", "constant"),
        (np.full((8, 8), np.nan), "pa", "NaN"),
        (np.eye(8)[None], "pa", "two axes"),
        (np.eye(9), "pa", "geometry"),
        (np.eye(8), "oblique", "unknown view"),
    ],
)
def test_bad_films_are_refused(image: np.ndarray, view: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Radiograph(image.astype(np.float32), view, ConeBeam.preset("chest", "pa", size=8))
