"""Python values as JSON text: the same rule for every file and for `--json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xrecon.cli.common import Shell
from xrecon.json_text import NonFinite, json_text


def test_json_is_strict() -> None:
    value = {"a": float("nan"), "b": np.array([1.5, np.inf]), 3: Path("x/y"), "c": Shell(), "d": (np.int64(4), True)}
    assert json.loads(json_text(value)) == {
        "a": None,
        "b": [1.5, None],
        "3": str(Path("x/y")),
        "c": {"debug": False, "quiet": False, "json": False},
        "d": [4, True],
    }


@pytest.mark.parametrize(
    ("non_finite", "text"), [("null", '{"a": [null, null]}'), ("literal", '{"a": [NaN, Infinity]}')]
)
def test_nan_and_infinity_become_what_was_chosen(non_finite: NonFinite, text: str) -> None:
    value = {"a": np.array([np.nan, np.inf])}
    assert json_text(value, non_finite=non_finite, indent=None) == text


def test_nan_is_refused_where_it_can_only_be_a_mistake() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        json_text({"a": [float("nan")]}, non_finite="refuse")


def test_a_type_without_a_form_in_json_is_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        json_text({"a": object()})


@pytest.mark.parametrize("value", [{"b": 1, "a": "\u00b5"}, [1, 2.5, None, True], "text", 3])
def test_layout_options_change_the_text_but_not_the_value(value: Any) -> None:
    for text in (
        json_text(value),
        json_text(value, indent=None),
        json_text(value, ascii_only=False),
        json_text(value, sort_keys=True),
    ):
        assert json.loads(text) == value
    assert json_text({"b": 1, "a": 2}, indent=None, sort_keys=True) == '{"a": 2, "b": 1}'
    assert json_text("\u00b5") == '"\\u00b5"'
    assert json_text("\u00b5", ascii_only=False) == '"\u00b5"'
