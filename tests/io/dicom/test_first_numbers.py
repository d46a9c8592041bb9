"""Slices whose numbers do not begin at 1: the first ones may have stayed behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.dicom_factory import write_series
from xrecon.io.dicom.unused import first_numbers_note
from xrecon.volume import load_ct

WORDS = "the InstanceNumbers begin at"


def numbered(number: Callable[[int], int], keep: Callable[[int], bool] = lambda _k: True) -> Callable[[Any, int], Any]:
    """An edit that gives slice k (from the feet) a number, and drops those not kept."""

    def edit(ds: Any, k: int) -> Any:
        ds.InstanceNumber = number(k)
        return keep(k)

    return edit


@pytest.mark.parametrize(
    ("edit", "end"),
    [
        (numbered(lambda k: 20 - k, lambda k: k < 18), "head end: the apices"),
        (numbered(lambda k: k + 1, lambda k: k >= 2), "feet end: the bases"),
    ],
)
def test_missing_first_slices_are_said_with_their_end(tmp_path: Path, edit: Any, end: str) -> None:
    notes = [note for note in load_ct(write_series(tmp_path / "s", edit=edit)).notes if WORDS in note]
    assert len(notes) == 1
    assert "begin at 3: images 1 to 2 are not among the files" in notes[0] and end in notes[0]


@pytest.mark.parametrize("edit", [numbered(lambda k: 20 - k), numbered(lambda k: k + 134), None])
def test_whole_series_numbers_counted_on_and_shuffled_ones_have_no_note(tmp_path: Path, edit: Any) -> None:
    assert not any(WORDS in note for note in load_ct(write_series(tmp_path / "s", edit=edit)).notes)


def test_an_overview_with_the_first_number_is_not_missed(tmp_path: Path) -> None:
    def edit(ds: Any, k: int) -> None:
        ds.InstanceNumber = k + 2
        ds.SeriesInstanceUID = "1.2.3"

    folder = write_series(tmp_path / "s", edit=edit)
    assert any("begin at 2: image 1 is not" in note for note in load_ct(folder).notes)

    def overview(ds: Any, k: int) -> bool:
        ds.InstanceNumber, ds.SeriesInstanceUID = 1, "1.2.3"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        return k == 0

    write_series(folder / "overview", np.zeros((2, 24, 28), np.float32), edit=overview)
    assert not any(WORDS in note for note in load_ct(folder).notes)


def test_gaps_in_the_numbers_say_nothing() -> None:
    heights = [float(k) for k in range(20)]
    assert first_numbers_note([3 + 2 * k for k in range(20)], heights) == ()
    assert first_numbers_note([None, *range(4, 23)], heights) == ()
    assert first_numbers_note(list(range(3, 23)), heights) != ()
