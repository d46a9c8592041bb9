"""Slices without a measurement, and scales that leave soft tissue where it is but move air."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xrecon.errors import InputError
from xrecon.io.guards.hounsfield import check_hu


def _chest() -> np.ndarray:
    """[30, 64, 64] HU with noise: a body of 40 HU in air, two lungs of -850 HU, some bone."""
    hu = np.full((30, 64, 64), -1000.0, dtype=np.float32)
    hu[:, 8:56, 6:58] = 40
    hu[:, 16:48, 12:28] = hu[:, 16:48, 36:52] = -850
    hu[:, 48:53, 30:34] = 600
    noise = np.random.default_rng(0).normal(0, 12, hu.shape)
    return np.maximum(np.rint(hu + noise), -1024).astype(np.float32)


def test_a_chest_stays_as_it_is() -> None:
    hu, notes = check_hu(_chest(), Path("ct"))
    assert notes == ()
    np.testing.assert_array_equal(hu, _chest())


def test_air_above_the_patient_is_no_fault() -> None:
    chest = _chest()
    chest[-4:] = -1024
    assert check_hu(chest, Path("ct"))[1] == ()


@pytest.mark.parametrize("value", [0.0, 55.0, -500.0])
def test_whole_slices_of_tissue_at_an_end_are_padding(value: float) -> None:
    chest = _chest()
    chest[:5] = value
    hu, notes = check_hu(chest, Path("ct"))
    assert (hu[:5] == -1024).all()
    assert "5 slices at an end" in notes[0]


@pytest.mark.parametrize("value", [0.0, -1024.0])
def test_lost_slices_inside_are_interpolated(value: float) -> None:
    chest = _chest()
    chest[12:14] = value
    hu, notes = check_hu(chest, Path("ct"))
    np.testing.assert_allclose(hu[12], _chest()[11] * 2 / 3 + _chest()[14] / 3, rtol=1e-5, atol=1e-3)
    assert "2 slices inside the stack" in notes[0]


def test_a_gap_of_lost_slices_is_refused() -> None:
    chest = _chest()
    chest[12:16] = 0
    with pytest.raises(InputError, match=r"4 neighbouring slices .*from slice 13"):
        check_hu(chest, Path("ct"))


@pytest.mark.parametrize(("slope", "words"), [(2.0, "slope is too large"), (0.5, "slope is too small")])
def test_a_wrong_slope_is_seen_by_the_air(slope: float, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_hu(_chest() * np.float32(slope), Path("ct"))


@pytest.mark.parametrize("scale", [0.001, 0.004])
def test_densities_are_no_hu(scale: float) -> None:
    with pytest.raises(InputError, match=r"too little for HU|normalised"):
        check_hu((_chest() + 1000) * np.float32(scale), Path("ct"))
