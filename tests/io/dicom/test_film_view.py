"""The view that a film states: codes, retired terms and words, and what is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from support.dicom_factory import write_film_dicom
from xrecon.errors import InputError
from xrecon.io.dicom.film_view import stated_view, view_of_words
from xrecon.radiograph import load_radiograph

PICTURE = np.arange(600, dtype=np.uint16).reshape(30, 20)


def film(folder: Path, **tags: Any) -> Path:
    return write_film_dicom(folder / "film.dcm", PICTURE, **tags)


def code(value: str = "", meaning: str = "", scheme: str = "SCT") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodeMeaning, item.CodingSchemeDesignator = value, meaning, scheme
    return item


@pytest.mark.parametrize(
    ("words", "beam", "unusual"),
    [
        ("PA", "pa", False),
        ("P.A.", "pa", False),
        ("p a erect", "pa", False),
        ("POSTERO-ANTERIOR", "pa", False),
        ("POSTERIOR TO ANTERIOR", "pa", False),
        ("AP", "ap", False),
        ("ANTERO_POSTERIOR", "ap", False),
        ("AP AXIAL", "ap", True),
        ("AP LLD", "ap", True),
        ("SUPINE AP", "ap", True),
        ("AP PORTABLE", "ap", True),
        ("LL", "lateral", False),
        ("LAT", "lateral", False),
        ("L LAT", "lateral", False),
        ("LEFT LATERAL", "lateral", False),
        ("SEITLICH", "lateral", False),
        ("PROFIL", "lateral", False),
        ("RL", "right_lateral", False),
        ("LAT RT", "right_lateral", False),
        ("CROSS-TABLE LAT", "lateral", True),
        ("X TABLE LATERAL", "lateral", True),
        ("DORSAL DECUBITUS", "lateral", True),
        ("RLO", "lateral", True),
        ("RLD", "frontal", True),
        ("LATERAL DECUB", "frontal", True),
        ("LORDOTIC", "frontal", True),
        ("FRONTAL", "frontal", False),
        ("LPO", None, True),
        ("OBLIQUE", None, True),
        ("PORTABLE", None, True),
    ],
)
def test_words_are_understood(words: str, beam: str | None, unusual: bool) -> None:
    view = view_of_words(words)
    assert view is not None
    assert (view.beam, view.is_unusual, view.is_unknown, view.is_contradictory) == (beam, unusual, False, False)


@pytest.mark.parametrize(
    ("item", "beam"),
    [
        (code("399348003"), "ap"),
        (code("272479007"), "pa"),
        (code("R-10206", scheme="SRT"), "ap"),
        (code("R-10214", scheme="SNM3"), "pa"),
        (code("399198007"), "right_lateral"),
        (code("R-102CD", "something in another language", scheme="SRT"), "lateral"),
        (code("1234", "postero-anterior", scheme="99VENDOR"), "pa"),
        (code("399312000"), "ap"),
    ],
)
def test_view_codes_count_by_code_and_by_meaning(item: Dataset, beam: str) -> None:
    data = Dataset()
    data.ViewCodeSequence = Sequence([item])
    view = stated_view(data)
    assert view is not None and view.beam == beam


def test_statements_that_exclude_each_other_are_said_to(tmp_path: Path) -> None:
    assert load_notes(film(tmp_path, ViewPosition="PA_LAT")).count("contradicts itself in its view, PA LATERAL") == 1
    path = film(tmp_path, ViewPosition="LL", ViewCodeSequence=Sequence([code("399348003", "antero-posterior")]))
    assert "contradicts itself in its view, LEFT LATERAL against AP" in load_notes(path)
    wrong_code = film(tmp_path, ViewPosition="", ViewCodeSequence=Sequence([code("R-10206", "postero-anterior")]))
    assert "contradicts itself in its view, AP against PA" in load_notes(wrong_code)


def load_notes(path: Path, view: str = "pa") -> str:
    return "; ".join(load_radiograph(path, view).notes)


@pytest.mark.parametrize(
    ("position", "view", "words"),
    [
        ("RLD", "lateral", r"frontal view, RLD .right lateral decubitus"),
        ("PA OBLIQUE", "lateral", "frontal view, PA OBLIQUE"),
        ("AP SUPINE", "lateral", "frontal view, AP SUPINE"),
        ("LEFT LAT", "pa", "lateral view, LEFT LATERAL"),
        ("CROSSTABLE LAT", "pa", "lateral view, XTABLE LATERAL .cross-table"),
        ("R L", "pa", "lateral view, RIGHT LATERAL"),
    ],
)
def test_a_contradiction_is_refused_with_both_views(tmp_path: Path, position: str, view: str, words: str) -> None:
    with pytest.raises(InputError, match=rf"{words}.*ViewPosition \(0018,5101\).*given as view '{view}'"):
        load_radiograph(film(tmp_path, ViewPosition=position), view)


@pytest.mark.parametrize(
    ("position", "view", "words"),
    [
        ("RPO", "pa", "an unusual view, RPO (right posterior oblique)"),
        ("SWIMMERS", "lateral", "an unusual view, SWIMMERS"),
        ("PA LORDOTIC", "pa", "an unusual view, PA LORDOTIC"),
        ("FRONTAL", "pa", "not whether PA or AP"),
        ("QQQQ", "pa", "states the view 'unknown'"),
        ("12", "lateral", "states the view 'unknown'"),
    ],
)
def test_unusual_and_unknown_views_are_said(tmp_path: Path, position: str, view: str, words: str) -> None:
    notes = load_notes(film(tmp_path, ViewPosition=position), view)
    assert words in notes and "states no view" not in notes


def test_no_message_repeats_free_text(tmp_path: Path) -> None:
    for position in ("DOE JANE", "PA DOE", "AP JANE LAT"):
        assert not {"DOE", "JANE"} & set(load_notes(film(tmp_path, ViewPosition=position)).replace(",", " ").split())
    with pytest.raises(InputError) as error:
        load_radiograph(film(tmp_path, ViewPosition="LAT DOE"), "pa")
    assert "DOE" not in str(error.value)


def test_plain_views_bring_no_new_note(tmp_path: Path) -> None:
    for position in ("PA", "P A", "POSTEROANTERIOR"):
        assert "view" not in load_notes(film(tmp_path, ViewPosition=position))
    assert "states no view" in load_notes(film(tmp_path, ViewPosition=""))
