"""Splits by patient, and the CTs of a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrecon.config import load_config
from xrecon.data.cases import CT_SUFFIXES, case_name, content_sha256, find_cases
from xrecon.data.split import Split, cases_in
from xrecon.errors import ConfigError, InputError

REPOSITORY = Path(__file__).resolve().parents[2]


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


def test_cases_come_in_the_order_of_the_split(folder: Path) -> None:
    split = Split(train=("c", "a"), test=("d",))
    assert [name for name, _ in cases_in(folder, split, "train")] == ["c", "a"]
    assert cases_in(folder, split, "test") == (("d", folder / "d"),)
    with pytest.raises(InputError, match="no aux cases"):
        cases_in(folder, split, "aux")


def test_all_missing_cases_are_named(folder: Path) -> None:
    with pytest.raises(InputError, match="2 of 3 train cases are missing: x, y"):
        cases_in(folder, Split(train=("x", "a", "y"), test=("b",)), "train")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: [a, b]\ntest: [b]", "listed more than once: b"),
        ("train: [a, a]\ntest: [b]", "listed more than once: a"),
        ("train: [a]\ntest: [b]\naux: [a]", "listed more than once: a"),
        ("train: []\ntest: [b]", "train"),
        ("train: [a]", "'test' is required"),
        ("train: [../a]\ntest: [b]", "no plain name"),
        ("train: [a]\ntest: [b]\nvalidation: [c]", "unknown key 'validation'"),
    ],
)
def test_faulty_splits_are_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "split.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        load_config(Split, file)


def test_the_projects_split_is_the_fixed_one() -> None:
    split = load_config(Split, REPOSITORY / "configs" / "splits" / "shared-data.yaml")
    train = "003 004 005 006 007 009 010 011 013 101 113 117 118 120"
    assert split.names("train") == tuple(f"case_{number}" for number in train.split())
    assert split.names("test") == ("case_002", "case_008", "case_012", "case_116")


@pytest.mark.data
def test_the_projects_split_finds_its_cases(shared_data: Path) -> None:
    split = load_config(Split, REPOSITORY / "configs" / "splits" / "shared-data.yaml")
    assert len(cases_in(shared_data / "ct", split, "train")) == 14
    assert len(cases_in(shared_data / "ct", split, "test")) == 4
    assert len(cases_in(shared_data / "ct_partial", split, "aux")) == 6
