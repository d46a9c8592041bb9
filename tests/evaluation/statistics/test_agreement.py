"""Agreement and intervals: the table of Shrout and Fleiss, hand values, invariants, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from xrecon.errors import InputError
from xrecon.evaluation.statistics.agreement import agreement, bland_altman, concordance, icc_2_1, icc_3_1, pearson
from xrecon.evaluation.statistics.comparison import (
    auc,
    bootstrap_by_patient,
    holm,
    mean_by_patient,
    wilcoxon_pairs,
    wilson,
)

SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float
)
"""Table 2 of Shrout and Fleiss (1979): six targets, four judges."""


def test_icc_of_shrout_and_fleiss() -> None:
    two, three = icc_2_1(SHROUT_FLEISS), icc_3_1(SHROUT_FLEISS)
    assert (round(two.value or 0, 2), round(three.value or 0, 2)) == (0.29, 0.71)
    # Intervals of the same table as published with R's irr and psych packages: (0.02, 0.76) and (0.34, 0.95).
    assert (two.low, two.high) == pytest.approx((0.019, 0.761), abs=0.002)
    assert (three.low, three.high) == pytest.approx((0.342, 0.946), abs=0.002)


def test_hand_values_of_three_pairs() -> None:
    figures = agreement([1.0, 2.0, 4.0], [1.0, 3.0, 5.0])
    # Differences 0, -1, -1: bias -2/3, SD sqrt(1/3); limits at 1.96 SD.
    altman = figures.bland_altman
    assert altman.bias.value == pytest.approx(-2 / 3)
    assert altman.sd == pytest.approx(math.sqrt(1 / 3))
    assert altman.lower.value == pytest.approx(-2 / 3 - 1.959964 * math.sqrt(1 / 3))
    assert figures.mean_absolute_error == pytest.approx(2 / 3)
    # r = 6 / sqrt(14/3 * 8); concordance 2 cov / (var + var + gap^2) = 4 / (14/9 + 8/3 + 4/9) with N.
    assert figures.pearson.value == pytest.approx(6 / math.sqrt(14 / 3 * 8))
    assert figures.concordance.value == pytest.approx(4 / (14 / 9 + 8 / 3 + 4 / 9))
    assert figures.spearman.value == pytest.approx(1.0)
    assert figures.pearson.low is None  # three pairs have no Fisher interval
    assert figures.n == 3


def test_intervals_by_formula() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(20, 8, 40)
    estimate = 0.6 * truth + rng.normal(2, 3, 40)
    correlation = pearson(estimate, truth)
    reference = stats.pearsonr(estimate, truth).confidence_interval()
    assert (correlation.low, correlation.high) == pytest.approx((reference.low, reference.high))
    altman = bland_altman(estimate, truth)
    t = stats.t.ppf(0.975, 39)
    assert altman.bias.high - altman.bias.value == pytest.approx(t * altman.sd / math.sqrt(40))
    wide = t * altman.sd * math.sqrt(1 / 40 + 1.959964**2 / 78)
    assert altman.upper.high - altman.upper.value == pytest.approx(wide, rel=1e-6)
    assert altman.slope.value < 0 and altman.slope_p < 0.05  # the estimate shrinks large values
    assert concordance(estimate, truth).low < concordance(estimate, truth).value < correlation.value


@given(st.integers(0, 10_000), st.floats(-50, 50), st.floats(0.1, 5))
@settings(max_examples=25, deadline=None)
def test_a_constant_offset_lowers_agreement_but_not_consistency(seed: int, offset: float, noise: float) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 10, 12)
    estimate = truth + rng.normal(0, noise, 12)
    plain, moved = (np.stack([ratings, truth], axis=1) for ratings in (estimate, estimate + offset))
    assert icc_3_1(moved).value == pytest.approx(icc_3_1(plain).value)
    assert icc_2_1(moved).value <= icc_3_1(moved).value + 0.05
    assert concordance(estimate, truth).value <= pearson(estimate, truth).value + 1e-9
    assert agreement(truth, truth).icc_2_1.value == pytest.approx(1.0)
    icc = icc_2_1(plain)
    assert icc.value <= 0 or icc.low <= icc.value <= icc.high <= 1
    assert icc_2_1(np.stack([-truth, truth], axis=1)).low is None
    assert bland_altman(estimate + offset, truth).sd == pytest.approx(bland_altman(estimate, truth).sd)


def test_constant_values_have_no_correlation() -> None:
    figures = agreement([0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0])
    assert figures.pearson.value is None
    assert figures.spearman.value is None
    assert figures.concordance.value == pytest.approx(0.0)
    assert agreement([2.0, 2.0], [2.0, 2.0]).icc_2_1.value is None


@pytest.mark.parametrize("pair", [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, math.nan], [1.0, 2.0])])
def test_unusable_pairs_are_refused(pair) -> None:
    with pytest.raises(InputError, match=r"length|finite"):
        agreement(*pair)
    with pytest.raises(InputError, match="2 targets"):
        icc_2_1([[1.0, 2.0]])


def test_bootstrap_draws_patients_not_cases() -> None:
    """Ten copies of a case add nothing: the interval stays that of the patients."""
    values, patients = [0.0, 10.0, 20.0, 30.0], ["a", "b", "c", "d"]
    once = mean_by_patient(values, patients)
    often = mean_by_patient(values * 10, patients * 10)
    assert (often.value, often.low, often.high) == (once.value, once.low, once.high)
    by_case = mean_by_patient(values * 10, list(range(40)))
    assert by_case.high - by_case.low < (once.high - once.low) / 2
    assert mean_by_patient([1.0, 2.0], ["a", "a"]).low is None
    assert mean_by_patient([None, None], ["a", "b"]).value is None
    assert mean_by_patient(values, patients) == once  # seeded
    assert bootstrap_by_patient(lambda rows: None, patients).value is None


def test_wilcoxon_and_holm() -> None:
    assert wilcoxon_pairs([1, 2, 3, 4], [0, 0, 0, 0]) == pytest.approx(2 / 2**4)
    assert wilcoxon_pairs([1, 2], [1, 2]) == 1.0
    assert wilcoxon_pairs([1], [2]) is None
    # Hand: sorted 0.01 * 3, 0.02 * 2, 0.04 * 1, kept from falling.
    adjusted = holm({"a": 0.04, "b": 0.01, "c": 0.02, "d": None})
    assert adjusted == {"a": pytest.approx(0.04), "b": pytest.approx(0.03), "c": pytest.approx(0.04), "d": None}


def test_wilson_and_auc_by_hand() -> None:
    # 8 of 10: the textbook interval 0.490 to 0.943.
    proportion = wilson(8, 10)
    assert (proportion.value, round(proportion.low, 3), round(proportion.high, 3)) == (0.8, 0.490, 0.943)
    assert wilson(0, 0).value is None
    assert wilson(0, 5).low == 0.0
    with pytest.raises(InputError, match="successes"):
        wilson(3, 2)
    assert auc([1, 2, 3, 4], [0, 0, 1, 1]) == 1.0
    assert auc([1, 1, 1, 1], [0, 0, 1, 1]) == 0.5
    assert auc([1, 3, 2, 4], [0, 0, 1, 1]) == 0.75
    assert auc([1, 2], [1, 1]) is None
