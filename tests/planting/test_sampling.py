"""The distribution of planted pneumothoraces: shares of sides, patterns and mechanisms, and sizes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from xrecon.planting.pattern import MECHANISMS, PATTERNS
from xrecon.planting.sampling import sample_planting
from xrecon.planting.truth import PlantingSettings


@pytest.fixture(scope="module")
def many() -> list[PlantingSettings]:
    rng = np.random.default_rng(0)
    return [sample_planting(rng) for _ in range(4000)]


def _shares(values: list[str]) -> dict[str, float]:
    return {name: count / len(values) for name, count in Counter(values).items()}


def test_sides_mechanisms_and_patterns_are_as_common_as_they_should_be(many: list[PlantingSettings]) -> None:
    assert _shares([s.side for s in many])["right"] == pytest.approx(0.58, abs=0.03)
    assert _shares([s.mechanism for s in many]) == pytest.approx(dict.fromkeys(MECHANISMS, 0.5), abs=0.03)
    patterns = _shares([s.pattern for s in many])
    assert set(patterns) == set(PATTERNS)
    assert patterns["upright"] + patterns["apical"] == pytest.approx(2 / 3, abs=0.03)


def test_sizes_reach_from_one_to_eighty_five_percent(many: list[PlantingSettings]) -> None:
    sizes = np.array([s.occupancy for s in many])
    assert sizes.min() == 0.01
    assert sizes.max() == 0.85
    assert 0.05 < np.quantile(sizes, 0.5) < 0.14
    assert max(s.occupancy for s in many if s.pattern in ("apical", "loculated")) <= 0.35
    assert 0.09 < np.mean([s.effusion_ml > 0 for s in many]) < 0.15
    assert 0.02 < np.mean([s.tension > 0 for s in many]) < 0.1
    assert min(s.occupancy for s in many if s.tension > 0) > 0.19


def test_the_draw_is_a_function_of_the_generator() -> None:
    first, second = (sample_planting(np.random.default_rng([3, 4])) for _ in range(2))
    assert first == second
    # A fixed mechanism takes the same draws, so that the next pneumothorax is the same, too.
    free, fixed = np.random.default_rng(5), np.random.default_rng(5)
    sample_planting(free)
    assert sample_planting(fixed, mechanism="offset").mechanism == "offset"
    assert sample_planting(free) == sample_planting(fixed)
