"""Prepared data sets: subsets and folds, nothing leaks between them, damage and missing parts are named."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from support.dataset_factory import write_dataset
from xrecon.data.dataset import PreparedDataset
from xrecon.data.manifest import load_manifest
from xrecon.errors import CheckpointError, InputError

ARRAYS = ("ct", "pa", "lateral", "sides", "air", "body")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "set", {"a": "train", "b": "train", "c": "train", "d": "test"}, folds=3)


def test_subsets_and_folds_part_the_cases(folder: Path) -> None:
    train, test = PreparedDataset(folder, "train"), PreparedDataset(folder / "dataset.json", "test")
    assert [case.name for case in train] == ["a", "b", "c"]
    assert [case.name for case in test] == ["d"]
    held = []
    for number in range(3):
        fit, choose = train.fold(number)
        assert {c.patient for c in fit}.isdisjoint(c.patient for c in choose)
        assert len(fit) + len(choose) == 3
        held += [case.name for case in choose]
    assert sorted(held) == ["a", "b", "c"]
    with pytest.raises(InputError, match="no fold 3"):
        train.fold(3)
    with pytest.raises(InputError, match="only train cases"):
        test.fold(0)
    with pytest.raises(InputError, match="no aux cases"):
        PreparedDataset(folder, "aux")


def test_a_data_set_without_folds_says_how_to_make_them(tmp_path: Path) -> None:
    plain = PreparedDataset(write_dataset(tmp_path / "plain", {"a": "train", "b": "train"}, folds=0))
    with pytest.raises(InputError, match=r"no folds; make them with `xrecon prepare --folds K`"):
        plain.fold(0)


def test_it_travels_to_workers(folder: Path) -> None:
    train = pickle.loads(pickle.dumps(PreparedDataset(folder)))
    assert np.array_equal(train[2].load().pa, PreparedDataset(folder)[2].load().pa)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [("patient", "patient-a", "one patient"), ("source_sha256", "5" * 64, "same content")],
)
def test_a_leak_between_train_and_test_is_refused(tmp_path: Path, field: str, value: str, words: str) -> None:
    folder = write_dataset(
        tmp_path / "set",
        {"a": "train", "b": "test"},
        records={"a": {"source_sha256": "5" * 64}, "b": {field: value}},
    )
    with pytest.raises(InputError, match=f"train case a and test case b: {words.replace('(', '.')}|{words}"):
        PreparedDataset(folder, "train")


def test_a_patient_in_two_folds_is_refused(tmp_path: Path) -> None:
    shared = {"patient": "one"}
    folder = write_dataset(
        tmp_path / "set", {"a": "train", "b": "train", "c": "test"}, folds=2, records={"a": shared, "b": shared}
    )
    with pytest.raises(InputError, match="more than one fold: one"):
        PreparedDataset(folder)


def test_a_flipped_bit_is_found(folder: Path) -> None:
    train = PreparedDataset(folder)
    train.verify()
    content = bytearray(train[1].path.read_bytes())
    content[-5] ^= 1
    train[1].path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"1 of 3 cases are damaged(.|\n)*b\.safetensors"):
        train.verify()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"schema_version":1', '"schema_version":2', "schema_version"),
        ('"size":16', '"size":"x"', "size"),
        ('"frame_mm"', '"frame_cm"', "frame_mm"),
        ('"name":"b"', '"name":"../b"', "cases.1.name"),
        ('"name":"b"', '"name":"A"', "listed more than once"),
    ],
)
def test_another_manifest_is_refused(folder: Path, old: str, new: str, words: str) -> None:
    path = folder / "dataset.json"
    text = path.read_text(encoding="utf-8").replace('": ', '":')
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=words):
        PreparedDataset(folder)


def test_missing_parts_are_named(folder: Path, tmp_path: Path) -> None:
    (folder / "cases" / "b.safetensors").unlink()
    with pytest.raises(InputError, match="1 train cases are missing: b"):
        PreparedDataset(folder)
    with pytest.raises(InputError, match=r"holds no dataset\.json"):
        PreparedDataset(tmp_path)


def test_provenance_names_the_licences(folder: Path) -> None:
    facts = PreparedDataset(folder).provenance()
    assert facts["licences"] == [{"source": "phantom", "licence": "none needed", "cases": 3}]
    assert str(folder) not in str(facts)
    assert load_manifest(folder).licences()[0]["cases"] == 4
