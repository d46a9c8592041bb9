"""Occupancy against volumes known on paper, and what happens where a side is missing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xrecon
from xrecon.quantify.occupancy import OCCUPANCY_FORMULAS, Occupancy
from xrecon.segmentation import Segmentation


def counted(right_lung: int, left_lung: int, right_air: int, left_air: int) -> Segmentation:
    labels = np.repeat(np.array([0, 1, 2, 3, 3], np.uint8), [5, right_lung, left_lung, right_air, left_air])
    sides = np.repeat(np.array([0, 0, 0, 1, 2], np.uint8), [5, right_lung, left_lung, right_air, left_air])
    return Segmentation(labels.reshape(1, 1, -1), sides.reshape(1, 1, -1), np.diag([10.0, 10.0, -10.0, 1.0]))


def test_ball_in_ball(two_balls) -> None:
    shares = xrecon.occupancy(two_balls(right=((0, 0, -75), 48.0), spacing_mm=(1.5, 1.5, 1.5)))
    assert shares.right == pytest.approx(1 - (48 / 60) ** 3, abs=0.003)
    assert shares.left == 0.0
    ball_ml = 4 / 3 * math.pi * 60**3 / 1000
    assert shares.left_lung_ml == pytest.approx(ball_ml, rel=0.003)
    assert shares.right_air_ml + shares.right_lung_ml == pytest.approx(ball_ml, rel=0.003)
    assert shares.whole_chest == pytest.approx(shares.right / 2, rel=1e-3)
    assert shares.air_ml == shares.right_air_ml


@settings(deadline=None, max_examples=30)
@given(st.tuples(*[st.integers(0, 40)] * 4))
def test_the_ratios_follow_their_formulas(counts: tuple[int, int, int, int]) -> None:
    shares = xrecon.occupancy(counted(*counts))
    values = {name: getattr(shares, name) for name in Occupancy.__dataclass_fields__}
    assert [shares.right_lung_ml, shares.left_lung_ml, shares.right_air_ml, shares.left_air_ml] == pytest.approx(counts)
    for name in ("whole_chest", "right", "left"):
        try:
            expected = eval(OCCUPANCY_FORMULAS[name], {}, values)
        except ZeroDivisionError:
            assert math.isnan(values[name])
        else:
            assert values[name] == pytest.approx(expected)
            assert 0 <= values[name] <= 1


def test_missing_sides_are_nan_and_named() -> None:
    left_only = xrecon.occupancy(counted(0, 30, 0, 10))
    assert math.isnan(left_only.right)
    assert left_only.missing_sides == ("right",)
    assert left_only.whole_chest == left_only.left == pytest.approx(0.25)
    assert xrecon.occupancy(counted(0, 10, 5, 0)).right == 1.0, "air without lung fills its side"
    nothing = xrecon.occupancy(counted(0, 0, 0, 0))
    assert math.isnan(nothing.whole_chest) and nothing.missing_sides == ("right", "left")


def test_spacing_counts_and_orientation_does_not() -> None:
    plain = counted(7, 5, 3, 1)
    affine = plain.affine.copy()
    affine[:3, 0] *= 2
    flipped = Segmentation(plain.labels[..., ::-1].copy(), plain.air_side[..., ::-1].copy(), affine)
    assert xrecon.occupancy(flipped).right_air_ml == pytest.approx(2 * xrecon.occupancy(plain).right_air_ml)
    assert xrecon.occupancy(flipped).right == xrecon.occupancy(plain).right
