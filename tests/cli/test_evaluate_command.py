from __future__ import annotations

import csv
import json
import shutil
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
        "per-case.csv", "report.html", "results", "summary.json", "table.md", "test_1.png", "test_2.png",
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


def rows_of(folder: Path) -> list[dict[str, str]]:
    """The rows of per-case.csv without their wall times."""
    with (folder / "per-case.csv").open(encoding="utf-8", newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def evaluated(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models on the files of a split."""
    out = tmp_path_factory.mktemp("evaluated") / "out"
    done = run_evaluate(
        "--dataset", dataset, "--split", dataset / "split.yaml", "--model", "atlas", "--model", "pca", "-o", out
    )
    assert done.exit_code == 0, done.stderr
    return out


def test_files_have_the_summary_of_a_data_set(evaluated: Path) -> None:
    summary = json.loads((evaluated / "summary.json").read_text(encoding="utf-8"))
    assert summary["baseline"] == "atlas" and summary["failures"] == [] and summary["bank"] == []
    assert {test["model"] for test in summary["tests"]} == {"pca"}
    assert summary["results"]["pca"]["lungs_dice"]["of"] == 2
    assert summary["agreement"]["lung_ml"]["atlas"]["n"] == 4
    assert (summary["settings"]["size"], summary["settings"]["geometry"]) == (64, "chest")
    assert set(summary["inputs"]) == {"test_1", "test_2", "split"}
    page = (evaluated / "report.html").read_text(encoding="utf-8")
    assert "Against atlas" in page and "<script" not in page


def test_a_stopped_run_on_files_goes_on(
    evaluated: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is reconstructed or read again, not even for the pictures; another size is another result."""
    out = tmp_path / "out"
    shutil.copytree(evaluated, out)
    monkeypatch.setattr("xrecon.evaluation.models.reconstruct", None)  # would fail if it were called
    monkeypatch.setattr("xrecon.evaluation.cases.load_ct", None)
    arguments = ("--dataset", dataset, "--split", dataset / "split.yaml", "--model", "atlas", "--model", "pca")
    done = run_evaluate(*arguments, "-o", out, "--overwrite")
    assert done.exit_code == 0, done.stderr
    assert rows_of(out) == rows_of(evaluated)
    assert (out / "test_1.png").read_bytes() == (evaluated / "test_1.png").read_bytes()
    again = run_evaluate(*arguments, "-o", out, "--overwrite", "--size", 65)
    assert again.exit_code == 2 and "nothing could be evaluated" in again.stderr


def test_files_by_workers_give_the_same_rows(evaluated: Path, dataset: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    out = tmp_path / "out"
    done = run_evaluate(
        "--dataset", dataset, "--split", dataset / "split.yaml", "--model", "atlas", "--no-anatomy", "-o", out,
        "--workers", 2, "--baseline", "atlas",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    expected = {row["case"]: row for row in rows_of(evaluated) if row["model"] == "atlas"}
    rows = rows_of(out)
    assert [row["case"] for row in rows] == ["test_1", "test_2"]
    for row in rows:
        for name in ("psnr_2500_db", "mae_hu", "ssim_3d"):
            # Workers have one thread each, and the projector rounds by the number of threads.
            assert float(row[name]) == pytest.approx(float(expected[row["case"]][name]), rel=2e-3)
    assert json.loads((out / "summary.json").read_text(encoding="utf-8"))["settings"]["workers"] == 2
    assert (out / "test_2.png").is_file()


def test_a_plain_folder_and_a_split_without_train_cases(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cts"
    folder.mkdir()
    (folder / "alone.nii.gz").write_bytes((dataset / "test_1.nii.gz").read_bytes())
    done = run_evaluate("--dataset", folder, "--model", "atlas", "--no-anatomy", "-o", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["cases"] == ["alone"] and any("No split was given" in note for note in summary["notes"])
    assert "lungs_dice" not in summary["results"]["atlas"]
    (tmp_path / "split.yaml").write_text("test: [alone]", encoding="utf-8")
    done = run_evaluate(
        "--dataset", folder, "--split", tmp_path / "split.yaml", "--model", "atlas", "--no-anatomy", "-o",
        tmp_path / "out", "--overwrite", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["results"]["atlas"]["mae_hu"] == summary["results"]["atlas"]["mae_hu"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--structures", "maps.yaml"), "--structures maps.yaml: label maps are put on the grid of a data set"),
        (("--model", "atlas", "--baseline", "deform"), "--baseline deform: is not among the evaluated models, atlas"),
        (("--no-baselines",), "give at least one --model"),
        (("--model", "deform+bank"), "deform+bank: "),
    ],
)
def test_options_that_do_not_apply_to_files_exit_2(
    dataset: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = run_evaluate("--dataset", dataset, "-o", tmp_path / "out", *arguments)
    assert done.exit_code == 2, done.stderr
    assert message in done.stderr
    assert not (tmp_path / "out").exists()
