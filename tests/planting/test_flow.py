"""The flow of a collapsing lung: any volume is reached and nothing folds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrecon.planting.flow import Cavity, collapse_to, inflow_velocity


@settings(max_examples=6, deadline=None)
@given(share=st.floats(0.05, 0.85), seed=st.integers(0, 99))
def test_the_flow_shrinks_to_any_volume_and_never_folds(share: float, seed: int) -> None:
    grid = np.indices((24, 22, 20)) - np.array([12, 11, 10]).reshape(3, 1, 1, 1)
    mask = (grid[0] / 9.0) ** 2 + (grid[1] / 8.0) ** 2 + (grid[2] / 7.0) ** 2 < 1.0
    cavity = Cavity.of(mask, 4.0, np.array([48.0, 44.0, 66.0]))
    rng = np.random.default_rng(seed)
    wind = rng.random() * (grid[1] < 0) + 0.1 + 0.0 * grid[0]
    velocity = inflow_velocity(cavity, wind.astype(np.float32), np.ones(mask.shape, dtype=np.float32))
    collapse = collapse_to(cavity, velocity, share)
    assert collapse.remaining == pytest.approx(share, rel=0.03)
    place = grid * 4.0 + collapse.shift_mm
    jacobian = np.stack([np.stack(np.gradient(place[i], 4.0)) for i in range(3)])
    lung = mask & (cavity.depth > 4.0)
    assert np.linalg.det(np.moveaxis(jacobian, (0, 1), (-2, -1)))[lung].min() > 0.0
    assert np.isfinite(collapse.log_density).all()
