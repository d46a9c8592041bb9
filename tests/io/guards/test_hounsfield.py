"""HU: padding is repaired, other values than HU are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xrecon.errors import InputError
from xrecon.io.guards.hounsfield import check_hu


def test_hu_guard_repairs_padding_and_says_so() -> None:
    hu = np.array([[[-3024, -1000, 0, 500]]], dtype=np.float32)
    fixed, notes = check_hu(hu, Path("a"))
    assert fixed.ravel().tolist() == [-1024, -1000, 0, 500]
    assert any("padding" in note for note in notes)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0, 0.5, 1], "normalised"),
        ([0, 100, 255], "8-bit"),
        ([0, 1024, 3000], "subtract 1024"),
        ([-1000, 0, 1e6], "cannot be HU"),
        ([-1000, 0, np.nan], "NaN"),
        ([-1000, -1000], "same value -1000"),
        ([-2000, -1024], "above the padding"),
    ],
)
def test_hu_guard_refuses_what_is_not_hu(values: list[float], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        check_hu(np.array([[values]], dtype=np.float32), Path("scan.nii"))
    assert "scan.nii" in str(caught.value)
