"""CTs in a folder: which files are cases, their names, and the same CT under another name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrecon.data.ct_folder import CT_SUFFIXES, case_name, content_sha256, find_cases
from xrecon.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.nii.gz", "a.mha", "c.NII", "notes.txt", ".hidden.nii"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "0001.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 40)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "film.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return tmp_path


def test_finds_files_by_suffix_and_dicom_folders(folder: Path) -> None:
    assert [(name, path.name) for name, path in find_cases(folder)] == [
        ("a", "a.mha"),
        ("b", "b.nii.gz"),
        ("c", "c.NII"),
        ("d", "d"),
    ]


def test_two_files_of_one_name_are_refused(folder: Path) -> None:
    (folder / "a.nii").write_bytes(b"x")
    with pytest.raises(InputError, match="more than one CT is called a"):
        find_cases(folder)


@pytest.mark.parametrize(("name", "words"), [("nowhere", "does not exist"), ("file", "is a file"), ("empty", "no CT")])
def test_folders_without_cases_are_refused(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=words):
        find_cases(tmp_path / name)


@settings(max_examples=30, deadline=None)
@given(stem=st.from_regex(r"[a-z0-9_.]{1,12}[a-z0-9]", fullmatch=True), suffix=st.sampled_from(CT_SUFFIXES))
def test_a_case_keeps_its_name_under_any_suffix(stem: str, suffix: str) -> None:
    if not f"{stem}{suffix}".endswith(CT_SUFFIXES) or stem.endswith(CT_SUFFIXES):
        return
    assert case_name(Path("x") / f"{stem}{suffix}") == stem


def test_content_tells_the_same_case_under_another_name(folder: Path, tmp_path: Path) -> None:
    copy = folder / "copy.nii.gz"
    copy.write_bytes((folder / "b.nii.gz").read_bytes())
    assert content_sha256(copy) == content_sha256(folder / "b.nii.gz")
    assert content_sha256(copy) != content_sha256(folder / "a.mha")
    other = folder / "e"
    other.mkdir()
    (other / "renamed").write_bytes((folder / "d" / "0001.dcm").read_bytes())
    assert content_sha256(other) == content_sha256(folder / "d")
