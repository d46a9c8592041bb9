"""Which cases are evaluated: a data set, CT files with a split or without, and options that leave no room."""

from __future__ import annotations

from pathlib import Path

import pytest

from xrecon.errors import InputError
from xrecon.evaluation.case_set import find_case_set
from xrecon.evaluation.models import bank_for, choose_models
from xrecon.phantoms.thorax import Phantom


@pytest.fixture(scope="module")
def folder(phantom64: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three CT files; what they show does not matter here."""
    place = tmp_path_factory.mktemp("files")
    for name in ("a", "b", "c"):
        phantom64.volume.save(place / f"{name}.nii.gz")
    return place


def split_of(folder: Path, text: str) -> Path:
    file = folder / "split.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_data_set_has_its_own_size_films_and_split(chests: Path, tmp_path: Path) -> None:
    cases = find_case_set(chests, default_size=96)
    assert (cases.size, cases.geometry, cases.names) == (64, "chest", ("one", "two"))
    assert find_case_set(chests / "dataset.json", default_size=96, size=64, geometry="chest").sources == cases.sources
    for options, message in (
        ({"size": 96}, "--size 96: .* have 64 voxels per edge"),
        ({"geometry": "prost"}, "--geometry prost: .* have the geometry chest"),
        ({"split": split_of(tmp_path, "test: [a]")}, "--split .*has a split of its own"),
        ({"subset": "aux"}, "no aux cases"),
        ({"subset": "all"}, "--subset all: expected one of train, test, aux"),
    ):
        with pytest.raises(InputError, match=message):
            find_case_set(chests, default_size=96, **options)  # type: ignore[arg-type]


def test_a_plain_folder_is_all_test(folder: Path, tmp_path: Path) -> None:
    cases = find_case_set(folder, default_size=80)
    assert (cases.names, cases.size, cases.geometry, cases.subset) == (("a", "b", "c"), 80, "chest", "test")
    assert "No split was given" in cases.notes[0]
    assert cases.limited(2).names == ("a", "b")
    with pytest.raises(InputError, match=r"--subset train: .* has no split"):
        find_case_set(folder, default_size=64, subset="train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no CT.*dataset\.json.*give --split FILE"):
        find_case_set(tmp_path / "empty", default_size=64)


@pytest.mark.parametrize("train", ["", "train: []\n"])
def test_a_split_needs_no_train_cases_unless_a_bank_does(folder: Path, tmp_path: Path, train: str) -> None:
    split = split_of(tmp_path, f"{train}test: [b, a]")
    cases = find_case_set(folder, default_size=64, split=split, size=72, geometry="x2ct")
    assert (cases.names, cases.size, cases.geometry, cases.notes) == (("b", "a"), 72, "x2ct", ())
    assert set(cases.digests()) == {"a", "b", "split"}
    assert bank_for(["atlas", "xrecon"], cases) == ()
    with pytest.raises(InputError, match=r"deform\+bank: the split lists no train cases"):
        bank_for(["deform+bank"], cases)


def test_the_bank_of_a_split_are_its_train_cases(folder: Path, tmp_path: Path) -> None:
    cases = find_case_set(folder, default_size=64, split=split_of(tmp_path, "train: [c]\ntest: [a, b]"))
    bank = bank_for(["deform+bank"], cases)
    assert [source.name for source in bank] == ["c"]
    digests = {choose_models(["deform+bank"], bank=bank, device=device)[-1].digest for device in ("cpu", "cuda")}
    assert len(digests) == 2
