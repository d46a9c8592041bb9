"""Subsets and folds drawn by patient: stable and even."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrecon.data.partition import deal_folds, deal_subsets
from xrecon.errors import InputError


@settings(max_examples=30, deadline=None)
@given(st.sets(st.text("abcdef", min_size=1, max_size=4), min_size=4, max_size=30), st.integers(0, 9))
def test_dealing_is_by_patient_stable_and_even(patients: set[str], seed: int) -> None:
    subsets = deal_subsets([*patients, *patients], test_share=0.25, seed=seed)
    assert subsets == deal_subsets(sorted(patients, reverse=True), test_share=0.25, seed=seed)
    assert sum(s == "test" for s in subsets.values()) == max(1, round(0.25 * len(patients)))
    folds = deal_folds(patients, 3, seed=seed)
    sizes = [list(folds.values()).count(n) for n in range(3)]
    assert max(sizes) - min(sizes) <= 1
    more = deal_subsets([*patients, "new1", "new2"], test_share=0.25, seed=seed, dealt=subsets)
    assert {name: more[name] for name in patients} == subsets
    grown = deal_folds([*patients, "new1"], 3, seed=seed, dealt=folds)
    assert {name: grown[name] for name in patients} == folds


def test_impossible_deals_are_refused() -> None:
    with pytest.raises(InputError, match="below 1, got 1"):
        deal_subsets(["a", "b"], test_share=1.0, seed=0)
    with pytest.raises(InputError, match="2 training patients cannot be dealt into 5 folds"):
        deal_folds(["a", "b"], 5, seed=0)
