"""Modality and VOI transformations of DICOM films: what turns or bends grey values is applied and said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from support.dicom_factory import write_film_dicom
from xrecon.errors import InputError
from xrecon.io.dicom.film import read_dicom_film

STORED = (np.arange(40 * 50, dtype=np.uint16).reshape(40, 50) * 2) % 4096


def film(path: Path, **tags: Any) -> Path:
    return write_film_dicom(path, STORED, BitsStored=12, HighBit=11, **tags)


def table(values: np.ndarray, bits: int = 12) -> Sequence:
    """A look-up table of 4096 entries."""
    item = Dataset()
    item.LUTDescriptor = [len(values), 0, bits]
    item["LUTDescriptor"].VR = "US"
    item.LUTData = values.astype(np.uint16).tobytes()
    item["LUTData"].VR = "OW"
    item.ModalityLUTType = "US"
    return Sequence([item])


RISING = np.round(4095 * (np.arange(4096) / 4095) ** 2)
FALLING = 4095 - np.arange(4096)


def test_without_transformations_the_stored_values_are_read_without_a_note(tmp_path: Path) -> None:
    read = read_dicom_film(film(tmp_path / "a.dcm"))
    assert np.allclose(read.pixels, STORED / 4095, atol=1e-6)
    rescaled = read_dicom_film(film(tmp_path / "b.dcm", RescaleSlope=2, RescaleIntercept=-100))
    assert np.allclose(rescaled.pixels, read.pixels, atol=1e-6) and rescaled.notes == read.notes


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"RescaleSlope": -1, "RescaleIntercept": 4095}, "is negative: dark and bright were exchanged"),
        ({"ModalityLUTSequence": table(FALLING)}, "the modality look-up table"),
        ({"VOILUTSequence": table(FALLING)}, "the VOI look-up table"),
    ],
)
def test_what_exchanges_dark_and_bright_is_applied(tmp_path: Path, tags: dict[str, Any], words: str) -> None:
    read = read_dicom_film(film(tmp_path / "a.dcm", **tags))
    assert np.allclose(read.pixels, 1 - STORED / 4095, atol=1e-3)
    assert any(words in note for note in read.notes)
    back = read_dicom_film(film(tmp_path / "b.dcm", PhotometricInterpretation="MONOCHROME1", **tags))
    assert np.allclose(back.pixels, STORED / 4095, atol=1e-3)


@pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
def test_a_bent_table_is_applied(tmp_path: Path, keyword: str) -> None:
    read = read_dicom_film(film(tmp_path / "a.dcm", **{keyword: table(RISING)}))
    assert np.allclose(read.pixels, (STORED / 4095) ** 2, atol=1e-3)


def test_a_falling_rescale_and_a_falling_table_cancel_out(tmp_path: Path) -> None:
    lut = table(FALLING)
    del lut[0].LUTDescriptor
    lut[0].add_new("LUTDescriptor", "SS", [4096, -4095, 12])
    read = read_dicom_film(film(tmp_path / "a.dcm", RescaleSlope=-1, RescaleIntercept=0, VOILUTSequence=lut))
    assert np.allclose(read.pixels, STORED / 4095, atol=1e-3)


def test_windows_are_said_where_they_would_change_more_than_contrast(tmp_path: Path) -> None:
    wide = read_dicom_film(film(tmp_path / "a.dcm", WindowCenter=2048, WindowWidth=4096))
    assert not any("window" in note for note in wide.notes)
    narrow = read_dicom_film(film(tmp_path / "b.dcm", WindowCenter=2048, WindowWidth=1000))
    assert any("window would cut off the values of 7" in note and "was not applied" in note for note in narrow.notes)
    bent = read_dicom_film(film(tmp_path / "c.dcm", WindowCenter=2048, WindowWidth=4096, VOILUTFunction="SIGMOID"))
    assert any("sigmoid window" in note for note in bent.notes)
    several = read_dicom_film(film(tmp_path / "d.dcm", WindowCenter=[2048, 900], WindowWidth=[4096, 100]))
    assert not any("window" in note for note in several.notes)


@pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
def test_a_damaged_table_is_refused_by_its_name(tmp_path: Path, keyword: str) -> None:
    lut = table(RISING)
    del lut[0].LUTData
    with pytest.raises(InputError, match=f"look-up table {keyword} .* is damaged"):
        read_dicom_film(film(tmp_path / "a.dcm", **{keyword: lut}))
