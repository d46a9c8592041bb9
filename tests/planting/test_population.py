"""A population of artificial people: reproducible one by one, varied, with the disease that was asked for."""

from __future__ import annotations

import numpy as np
import pytest

from xrecon.errors import InputError
from xrecon.planting.population import Disease, population_member


def test_a_member_is_the_same_alone_and_in_company() -> None:
    first = population_member(2, seed=7, size=32, spacing_mm=12.0)
    second = population_member(2, seed=7, size=32, spacing_mm=12.0)
    other = population_member(3, seed=7, size=32, spacing_mm=12.0)
    assert np.array_equal(first.volume.hu, second.volume.hu)
    assert first.parameters == second.parameters
    assert first.parameters.chest_width_mm != other.parameters.chest_width_mm


def test_everybody_ill_or_nobody() -> None:
    for number in range(2):
        ill = population_member(number, size=32, spacing_mm=12.0, disease=Disease(1.0, 0.0, 0.0))
        assert (ill.labels == 3).any()
        side, _, name = next(iter(ill.disease)).partition(" ")
        assert name == "pneumothorax"
        air_w = np.argwhere(ill.labels == 3)[:, 2].mean()
        assert (air_w < 15.5) == (side == "right")
        healthy = population_member(number, size=32, spacing_mm=12.0, disease=Disease(0.0, 0.0, 0.0))
        assert not (healthy.labels == 3).any()
        assert healthy.disease == {}
        assert healthy.parameters.chest_width_mm == ill.parameters.chest_width_mm


def test_confounders_are_no_free_air() -> None:
    member = population_member(1, size=64, spacing_mm=6.0, disease=Disease(0.0, 1.0, 1.0))
    assert not (member.labels == 3).any()
    assert any("bulla" in name or "emphysema" in name for name in member.disease)
    assert all(ml > 0 for ml in member.disease.values())


def test_bad_questions() -> None:
    with pytest.raises(InputError, match="numbered from 0"):
        population_member(-1)
    with pytest.raises(InputError, match=r"0\.\.1, got 2"):
        Disease(pneumothorax=2.0)
