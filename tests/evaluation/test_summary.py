"""What a report says of rows: typical cases, pairs with the baseline, agreement of few pairs."""

from __future__ import annotations

import math

import pytest

from xrecon.errors import InputError
from xrecon.evaluation.statistics.agreement import Agreement, TooFewPairs
from xrecon.evaluation.summary import agreements, pairs_of, pairs_with_baseline, typical_cases, values_of
from xrecon.evaluation.tables import PerCase


def rows_of(model: str, name: str, values: list[float | None]) -> list[PerCase]:
    return [PerCase(f"case {i}", model, {name: value}, 1.0) for i, value in enumerate(values)]


def test_best_median_and_worst_follow_the_direction_of_the_metric() -> None:
    for name, order in (("psnr_2500_db", [2, 1, 0]), ("mae_hu", [0, 1, 2])):
        picked = typical_cases(rows_of("m", name, [10.0, 20.0, 30.0, None, math.nan]), name, model="m")
        assert [row.case for row in picked.values()] == [f"case {i}" for i in order]
        assert list(picked) == ["best", "median", "worst"]
    few = typical_cases(rows_of("m", "mae_hu", [5.0, 4.0]), "mae_hu", model="m")
    assert {word: row.case for word, row in few.items()} == {"best": "case 1"}
    with pytest.raises(InputError, match="no case with a value of mae_hu"):
        typical_cases(rows_of("m", "mae_hu", [None]), "mae_hu", model="m")


def test_pairs_with_the_baseline_need_two_numbers() -> None:
    rows = rows_of("m", "x", [1.0, None, math.inf, 4.0]) + rows_of("base", "x", [2.0, 2.0, 2.0])
    assert pairs_with_baseline(rows, "x", model="m", baseline="base") == [(1.0, 2.0)]
    assert values_of(rows, "x", model="m") == [1.0, 4.0]


def test_pairs_of_volumes_leave_out_what_was_not_measured() -> None:
    rows = rows_of("m", "x", [1.0, 1.0, 1.0])
    details = {
        ("case 0", "m"): {"found": {"right_lung_ml": 90.0, "kinds": []}, "true": {"right_lung_ml": 100.0}},
        ("case 1", "m"): {"found": {"right_lung_ml": None, "refused": "no lungs"}, "true": {"right_lung_ml": 100.0}},
        ("case 2", "m"): {"notes": []},
    }
    assert pairs_of(rows, details, "right_lung_ml") == {"m": [(90.0, 100.0)]}


def test_fewer_than_two_pairs_have_no_agreement() -> None:
    figures = agreements({"none": [], "one": [(1.0, 2.0)], "two": [(1.0, 2.0), (3.0, 5.0)]})
    assert (figures["none"], figures["one"]) == (TooFewPairs(0), TooFewPairs(1))
    assert isinstance(figures["two"], Agreement) and figures["two"].mean_absolute_error == pytest.approx(1.5)
