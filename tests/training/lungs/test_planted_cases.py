"""Training cases of the lung network: every variant, its truth, and its file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from xrecon.errors import InputError
from xrecon.phantoms.thorax import Phantom
from xrecon.training.lungs.planted_cases import OCCUPANCIES, Recipe, coarse_case, make_cases, read_case, recipes


def test_every_patient_gets_every_size_and_each_its_own() -> None:
    first, second = recipes(0), recipes(1)
    assert first == recipes(0)
    assert first != second
    for variants in (first, second):
        assert sorted(r.occupancy for r in variants if r.kind == "pneumothorax") == sorted(OCCUPANCIES)
        assert {r.kind for r in variants} == {"healthy", "bulla", "stomach", "subcutaneous", "pneumothorax"}
        assert len({r.name for r in variants}) == len(variants)


def test_more_rounds_add_to_the_first() -> None:
    once, often = recipes(2), recipes(2, rounds=3)
    assert often[: len(once)] == once
    added = often[len(once) :]
    assert sorted(r.occupancy for r in added) == sorted(2 * OCCUPANCIES)
    assert len({r.seed for r in often if r.kind == "pneumothorax"}) == 3 * len(OCCUPANCIES)
    assert len({r.name for r in often}) == len(often)


def test_the_coarse_truth_keeps_volumes(phantom64: Phantom) -> None:
    case = coarse_case(phantom64.volume, np.minimum(phantom64.labels, 2), 12.0)
    assert case.hu.shape == case.sides.shape == (32, 32, 32)
    for side in (1, 2):
        ml = float((case.sides == side).sum()) * 12.0**3 / 1000.0
        assert ml == pytest.approx(float((phantom64.labels == side).sum()) * phantom64.volume.voxel_ml, rel=0.1)


def test_planted_air_belongs_to_its_side(phantom_cases: list[tuple[str, Path]]) -> None:
    files = {path.stem.split("__")[1]: path for _, path in phantom_cases}
    healthy = read_case(files["healthy"])
    sick = read_case(files["left_65_supine"])
    dark = [(sick.hu[sick.sides == side] < -900).mean() for side in (1, 2)]
    assert dark[0] < 0.05 < 0.2 < dark[1]
    dice = 2.0 * ((sick.sides > 0) & (healthy.sides > 0)).sum() / ((sick.sides > 0).sum() + (healthy.sides > 0).sum())
    assert dice > 0.85


@pytest.mark.usefixtures("small_recipes")
def test_cases_are_made_once(phantom64_file: Path, phantom_cases: list[tuple[str, Path]]) -> None:
    folder = phantom_cases[0][1].parent
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.npz")}
    files = make_cases([("one", phantom64_file)], folder, pitch_mm=12.0, progress=lambda _line: None)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.npz")} == before
    assert len(files) == len(before)


def test_a_damaged_case_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"x\.npz: not a training case"):
        read_case(tmp_path / "x.npz")


def test_a_variant_that_does_not_fit_is_told(
    phantom64_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wet = replace(Recipe("pneumothorax", occupancy=0.5), effusion_ml=3000.0)
    monkeypatch.setattr("xrecon.training.lungs.planted_cases.recipes", lambda _index, seed=0, rounds=1: [wet])
    lines: list[str] = []
    assert make_cases([("one", phantom64_file)], tmp_path, pitch_mm=12.0, progress=lines.append) == []
    assert "does not fit" in lines[0]
