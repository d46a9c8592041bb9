from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from xrecon.cli.app import build_app


def run_program(*arguments: object) -> Any:
    return CliRunner().invoke(build_app(), list(map(str, arguments)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four random adults, three of them training cases."""
    cases = tmp_path_factory.mktemp("adults")
    for seed in range(4):
        done = run_program("phantom", "-o", cases / f"adult_{seed}.nii", "--size", 48, "--random", "--seed", seed)
        assert done.exit_code == 0, done.stderr
    (cases / "split.yaml").write_text("train: [adult_1, adult_2, adult_3]\ntest: [adult_0]\n", encoding="utf-8")
    return cases


def test_learns_from_the_train_cases_only_and_reconstruct_takes_the_result(folder: Path, tmp_path: Path) -> None:
    priors = tmp_path / "priors.safetensors"
    done = run_program("train", "priors", folder, "-o", priors, "--split", folder / "split.yaml", "--quick", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["cases"] == ["adult_1", "adult_2", "adult_3"]
    assert "adult_0" not in done.stderr
    assert json.loads(priors.with_suffix(".json").read_text(encoding="utf-8"))["cases"] == 3
    assert run_program("simulate", folder / "adult_0.nii", "-o", tmp_path, "--size", 64).exit_code == 0
    done = run_program(
        "reconstruct", "--pa", tmp_path / "pa.tiff", "--lateral", tmp_path / "lateral.tiff", "-o", tmp_path / "out",
        "--model", "pca", "--size", 64, "--assets", priors, "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["prior"]["cases"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", "-o", "p.safetensors"), "nowhere: does not exist"),
        (("FOLDER", "-o", "p.npz"), "ends in .safetensors"),
        (("FOLDER", "-o", "p.safetensors", "--split", "nowhere.yaml"), "nowhere.yaml"),
        (("FOLDER",), "--output"),
    ],
)
def test_wrong_input_exits_2_and_writes_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_program("train", "priors", *(folder if argument == "FOLDER" else argument for argument in arguments))
    assert done.exit_code == 2
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["p.safetensors", "p.json"])
def test_existing_priors_are_refused_before_learning(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"mine")
    done = run_program("train", "priors", folder, "-o", tmp_path / "p.safetensors")
    assert done.exit_code == 2
    assert f"{name}: exists already" in done.stderr
    assert (tmp_path / name).read_bytes() == b"mine"


def test_too_few_cases_and_no_split_are_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "adult.nii").write_bytes((folder / "adult_0.nii").read_bytes())
    done = run_program("train", "priors", tmp_path, "-o", tmp_path / "p.safetensors")
    assert done.exit_code == 2
    assert "all CTs of the folder (no --split)" in done.stderr
    assert "at least 3 chest CTs, got 1" in done.stderr
    assert not (tmp_path / "p.safetensors").exists()
