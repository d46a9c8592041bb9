"""Prepared data sets: what is written is read, nothing leaks between subsets, damage is seen."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.dataset_factory import random_case, write_dataset
from xrecon.anatomy.frame import framed
from xrecon.data.case_file import CaseData, case_bytes, read_case, scan_box
from xrecon.data.dataset import PreparedDataset
from xrecon.data.manifest import load_manifest
from xrecon.data.partition import deal_folds, deal_subsets
from xrecon.errors import CheckpointError, InputError
from xrecon.volume import Volume

ARRAYS = ("ct", "pa", "lateral", "sides", "air", "body")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "set", {"a": "train", "b": "train", "c": "train", "d": "test"}, folds=3)


def test_a_case_reads_back_exactly_and_unloaded(tmp_path: Path) -> None:
    case = random_case(24, 3)
    path = tmp_path / "case.safetensors"
    path.write_bytes(case_bytes(case))
    found = read_case(path)
    for name in ARRAYS:
        assert np.array_equal(getattr(found, name), getattr(case, name)), name
        assert getattr(found, name).dtype == getattr(case, name).dtype
    assert np.array_equal(found.affine, case.affine)
    assert found.scan_box == case.scan_box
    assert found.beams == case.beams
    assert found.measured().sum() == 23 * 24 * 20
    assert found.volume().spacing_mm == pytest.approx((16.0, 16.0, 16.0))
    assert found.films()[1].view == "lateral"


def test_the_same_case_gives_the_same_bytes() -> None:
    assert case_bytes(random_case(16, 4)) == case_bytes(random_case(16, 4))
    assert len(case_bytes(random_case(16, 4))) % 8 == 0


def test_mapped_arrays_serve_torch_and_do_not_change_the_file(folder: Path) -> None:
    case = PreparedDataset(folder)[0]
    arrays = case.load()
    tensor = torch.from_numpy(arrays.ct)  # a read-only array would warn, and warnings are errors
    tensor += 1
    case.verify()
    assert np.array_equal(case.load().ct + 1, tensor.numpy())


def test_safetensors_itself_reads_the_file(folder: Path) -> None:
    from safetensors.numpy import load_file

    case = PreparedDataset(folder)[1]
    other = load_file(case.path)
    assert all(np.array_equal(other[name], getattr(case.load(), name)) for name in ARRAYS)


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


@pytest.mark.parametrize("cut", [0, 5, 100, 2000, 20_000])
def test_a_truncated_case_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "case.safetensors"
    path.write_bytes(case_bytes(random_case())[:cut])
    with pytest.raises(InputError, match=r"case\.safetensors"):
        read_case(path)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3000), st.integers(0, 255))
def test_a_damaged_header_never_crashes(position: int, value: int) -> None:
    import tempfile

    content = bytearray(case_bytes(random_case()))
    content[position] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.safetensors"
        path.write_bytes(content)
        try:
            assert isinstance(read_case(path), CaseData)
        except InputError as error:
            assert "case.safetensors" in str(error)


def test_wrong_arrays_are_not_written() -> None:
    with pytest.raises(InputError, match=r"ct of a case of size 16 must be int16 \[16, 16, 16\], got float32"):
        case_bytes(replace(random_case(), ct=random_case().ct.astype(np.float32)))


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


def test_scan_box_of_a_scan_that_ends_inside_the_frame() -> None:
    hu = np.zeros((10, 40, 40), dtype=np.float32)
    hu[0, 0, 0] = 1
    scan = Volume.centred(hu, (10.0, 10.0, 10.0))
    frame = framed(scan, 48, centre_mm=np.zeros(3))  # 8 mm voxels, 384 mm; the scan spans 100 x 400 x 400 mm
    assert scan_box(scan, frame) == ((18, 30), (0, 48), (0, 48))


@settings(max_examples=30, deadline=None)
@given(st.sets(st.text("abcdef", min_size=1, max_size=4), min_size=4, max_size=30), st.integers(0, 9))
def test_dealing_is_by_patient_stable_and_even(patients: set[str], seed: int) -> None:
    subsets = deal_subsets([*patients, *patients], test_share=0.25, seed=seed)
    assert subsets == deal_subsets(sorted(patients, reverse=True), test_share=0.25, seed=seed)
    assert sum(s == "test" for s in subsets.values()) == max(1, round(0.25 * len(patients)))
    folds = deal_folds(patients, 3, seed=seed)
    sizes = [list(folds.values()).count(n) for n in range(3)]
    assert max(sizes) - min(sizes) <= 1
    more = deal_subsets([*patients, "new1", "new2"], test_share=0.25, seed=seed, dealt=subsets)
    assert {name: more[name] for name in patients} == subsets
    grown = deal_folds([*patients, "new1"], 3, seed=seed, dealt=folds)
    assert {name: grown[name] for name in patients} == folds


def test_impossible_deals_are_refused() -> None:
    with pytest.raises(InputError, match="below 1, got 1"):
        deal_subsets(["a", "b"], test_share=1.0, seed=0)
    with pytest.raises(InputError, match="2 training patients cannot be dealt into 5 folds"):
        deal_folds(["a", "b"], 5, seed=0)
