"""The size of a film by its own pixel spacing: impossible ones are refused, doubtful ones said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.dicom_factory import write_film_dicom
from xrecon.errors import InputError
from xrecon.radiograph import load_radiograph

PICTURE = np.arange(100 * 80, dtype=np.uint16).reshape(100, 80)


def film(folder: Path, **tags: Any) -> Path:
    return write_film_dicom(folder / "film.dcm", PICTURE, ViewPosition="PA", **tags)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"ImagerPixelSpacing": [0.04, 0.04]}, r"ImagerPixelSpacing \(0018,1164\) gives a film 3\.2 mm wide"),
        ({"ImagerPixelSpacing": [17.5, 17.5]}, r"ImagerPixelSpacing .* 1400 mm wide and 1750 mm high"),
        ({"PixelSpacing": [1, 1]}, r"PixelSpacing \(0028,0030\) gives a film 80 mm wide and 100 mm high"),
    ],
)
def test_impossible_sizes_are_refused_and_the_advice_works(tmp_path: Path, tags: dict[str, Any], words: str) -> None:
    path = film(tmp_path, **tags)
    with pytest.raises(InputError, match=rf"film\.dcm: {words}.*impossible.*--pixel-mm"):
        load_radiograph(path, "pa")
    radiograph = load_radiograph(path, "pa", pixel_mm=4.0)
    assert radiograph.geometry.pixel_mm == (4.0, 4.0)
    assert not any("doubtful" in note or "impossible" in note for note in radiograph.notes)


@pytest.mark.parametrize("pitch", [2.0, 6.5])
def test_doubtful_sizes_are_said(tmp_path: Path, pitch: float) -> None:
    notes = load_radiograph(film(tmp_path, ImagerPixelSpacing=[pitch, pitch]), "pa").notes
    assert any(f"{100 * pitch:g} mm high" in note and "doubtful" in note for note in notes)


def test_usual_sizes_are_not(tmp_path: Path) -> None:
    for pitch in (2.6, 4.3, 4.9):
        notes = load_radiograph(film(tmp_path, ImagerPixelSpacing=[pitch, pitch]), "pa").notes
        assert not any("mm wide" in note for note in notes)
