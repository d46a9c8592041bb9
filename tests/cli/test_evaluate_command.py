from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from xrecon.cli.app import build_app
from xrecon.phantoms.thorax import Phantom

SPLIT = "train: [train_1, train_2]\ntest: [test_1, test_2]\n"


def run_evaluate(*arguments: object) -> Any:
    return CliRunner().invoke(build_app(), ["evaluate", *map(str, arguments)])


@pytest.fixture(scope="module")
def dataset(phantom64: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four thoraces of different sizes, and a split."""
    folder = tmp_path_factory.mktemp("dataset")
    phantom64.volume.save(folder / "test_1.nii.gz")
    affine = phantom64.volume.affine.copy()
    affine[:3, :3] *= 1.1
    for name, volume in (("test_2", phantom64.volume), ("train_1", phantom64.volume), ("train_2", phantom64.volume)):
        type(volume)(volume.hu, affine, synthetic=True).save(folder / f"{name}.nii.gz")
        affine = affine * [[0.98], [0.98], [0.98], [1.0]]
    (folder / "split.yaml").write_text(SPLIT, encoding="utf-8")
    return folder


def test_table_csv_json_and_pictures(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run_evaluate("--dataset", dataset, "--split", dataset / "split.yaml", "--model", "atlas", "-o", out)
    assert done.exit_code == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        "per-case.csv", "summary.json", "table.md", "test_1.png", "test_2.png",
    ]  # fmt: skip
    assert "| atlas | 2 |" in " ".join(done.stdout.split())
    assert (out / "table.md").read_text(encoding="utf-8") in done.stdout
    with (out / "per-case.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["model"]) for row in rows] == [("test_1", "atlas"), ("test_2", "atlas")]
    assert all(5 < float(row["psnr_2500_db"]) < 60 for row in rows)
    assert all(0 < float(row["mae_body_hu"]) < 1000 for row in rows)
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    mean = sum(float(row["mae_hu"]) for row in rows) / 2
    assert summary["results"]["atlas"]["mae_hu"]["mean"] == pytest.approx(mean)
    assert summary["conventions"]["psnr_2500_db"].startswith("PSNR, dB")
    assert summary["cases"] == ["test_1", "test_2"]
    assert summary["film_residuals_before_after"]["test_1"]["atlas"]["pa"][1] < 1
    assert str(dataset) not in (out / "summary.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("split", "arguments", "message"),
    [
        ("train: [train_1]\ntest: [test_1, nobody]", (), "1 of 2 test cases are missing: nobody"),
        ("train: [test_1]\ntest: [test_1]", (), "listed more than once"),
        (SPLIT, ("--model", "magic"), "magic"),
        (SPLIT, ("--size", "16"), "--size"),
        (SPLIT, ("--subset", "aux"), "aux"),
        (SPLIT, ("--dataset", "nowhere"), "nowhere: does not exist"),
        ("train: [nobody]\ntest: [test_1]", ("--model", "deform+bank"), "1 of 1 train cases are missing"),
    ],
)
def test_wrong_input_exits_2_and_writes_nothing(
    dataset: Path, tmp_path: Path, split: str, arguments: tuple[str, ...], message: str
) -> None:
    file = tmp_path / "split.yaml"
    file.write_text(split, encoding="utf-8")
    done = run_evaluate("--dataset", dataset, "--split", file, "-o", tmp_path / "out", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_existing_results_are_refused_at_once(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "test_2.png").write_bytes(b"mine")
    done = run_evaluate("--dataset", dataset, "--split", dataset / "split.yaml", "-o", tmp_path)
    assert done.exit_code == 2
    assert "test_2.png: exists already" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["test_2.png"]
