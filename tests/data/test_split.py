"""Splits: cases in their order, missing and faulty ones named."""

from __future__ import annotations

from pathlib import Path

import pytest

from xrecon.config import load_config
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
        ("train: [a]\ntest: []", "test"),
        ("train: [a]", "'test' is required"),
        ("train: [../a]\ntest: [b]", "not a plain name"),
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
    train = "003 004 005 006 007 009 010 011 013 101 113 117 118 120 121 122"
    assert split.names("train") == tuple(f"case_{number}" for number in train.split())
    assert split.names("test") == ("case_002", "case_008", "case_012", "case_116")


@pytest.mark.data
def test_the_projects_split_finds_its_cases(shared_data: Path) -> None:
    split = load_config(Split, REPOSITORY / "configs" / "splits" / "shared-data.yaml")
    assert len(cases_in(shared_data / "ct", split, "train")) == 16
    assert len(cases_in(shared_data / "ct", split, "test")) == 4
    assert len(cases_in(shared_data / "ct_partial", split, "aux")) == 6
