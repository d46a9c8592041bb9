"""`xrecon evaluate` on a prepared data set: results, denominators, going on after a stop, refusals."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from xrecon.cli.app import build_app
from xrecon.data.dataset import PreparedDataset
from xrecon.errors import InputError
from xrecon.evaluation.metrics.anatomy import ANATOMY_METRICS
from xrecon.evaluation.metrics.catalogue import PAIR_METRICS
from xrecon.evaluation.models import BANK_MODEL, ModelChoice, bank_for, choose_models
from xrecon.evaluation.prepared import evaluate_dataset
from xrecon.evaluation.statistics.comparison import smallest_p
from xrecon.evaluation.store import ResultStore
from xrecon.evaluation.summary import compare_with_baseline, summarise
from xrecon.evaluation.tables import PerCase
from xrecon.volume import RESEARCH_NOTICE


def run_command(*arguments: object) -> Any:
    return CliRunner().invoke(build_app(), ["evaluate", *map(str, arguments)])


@pytest.fixture(scope="module")
def evaluated(chests: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluated") / "out"
    done = run_command("--dataset", chests, "--no-baselines", "--model", "atlas", "-o", out)
    assert done.exit_code == 0, done.stderr
    assert "| atlas |   2 |" in done.stdout
    return out


def test_files_rows_and_denominators(evaluated: Path, chests: Path) -> None:
    assert sorted(path.name for path in evaluated.iterdir()) == [
        "per-case.csv", "report.html", "results", "summary.json", "table.md",
    ]  # fmt: skip
    with (evaluated / "per-case.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["model"]) for row in rows] == [("one", "atlas"), ("two", "atlas")]
    assert {metric.name for metric in (*PAIR_METRICS, *ANATOMY_METRICS)} < set(rows[0])
    for row in rows:
        assert 10 < float(row["psnr_2500_db"]) < 40
        assert float(row["psnr_x2ct_slices_db"]) > float(row["psnr_2500_db"]) + 4
        assert 0.3 < float(row["lungs_dice"]) <= 1
        assert float(row["body_dice"]) > 0.7
    summary = json.loads((evaluated / "summary.json").read_text(encoding="utf-8"))
    found = summary["results"]["atlas"]["mae_body_hu"]
    assert found["mean"] == pytest.approx(np.mean([float(row["mae_body_hu"]) for row in rows]))
    assert (found["n"], found["of"]) == (2, 2)
    assert found["ci95"][0] <= found["mean"] <= found["ci95"][1]
    assert summary["agreement"]["lung_ml"]["atlas"]["n"] == 4
    text = (evaluated / "summary.json").read_text(encoding="utf-8")
    assert summary["notice"] == RESEARCH_NOTICE
    assert str(chests) not in text
    page = (evaluated / "report.html").read_text(encoding="utf-8")
    assert page.count(RESEARCH_NOTICE) >= 2
    assert "<script" not in page and 'src="http' not in page
    assert "2 patients are few" in page


def test_a_stopped_run_goes_on(evaluated: Path, chests: Path, tmp_path: Path) -> None:
    """Stored results are used as they are, missing ones are made."""
    store = tmp_path / "results"
    shutil.copytree(evaluated / "results", store)
    files = sorted(store.glob("atlas/*.json"))
    assert len(files) == 2
    marked = json.loads(files[0].read_text(encoding="utf-8"))
    marked["metrics"]["mae_hu"] = 12345.0
    files[0].write_text(json.dumps(marked), encoding="utf-8")
    files[1].unlink()
    dataset = PreparedDataset(chests, "test")
    models = choose_models(["atlas"], baselines=())
    found = evaluate_dataset(dataset, models, store)
    assert found.rows[0].metrics["mae_hu"] == 12345.0
    assert found.rows[1].metrics["mae_hu"] != 12345.0
    assert found.failures == ()


def test_a_failing_model_is_named_and_counted_nowhere(chests: Path, tmp_path: Path) -> None:
    dataset = PreparedDataset(chests, "train")
    models = (*choose_models(["atlas"], baselines=()), ModelChoice("broken", str(tmp_path / "gone"), "x"))
    found = evaluate_dataset(dataset, models, tmp_path / "results", anatomy=False)
    assert {row.model for row in found.rows} == {"atlas"}
    assert "lungs_dice" not in found.rows[0].metrics
    assert len(found.failures) == 1
    assert found.failures[0].startswith("three, broken: InputError")
    with pytest.raises(InputError, match="nothing could be evaluated: three, broken"):
        evaluate_dataset(dataset, models[1:], tmp_path / "results", anatomy=False)


def test_unusable_requests_are_refused_before_any_work(chests: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for arguments, message in (
        (("--dataset", chests, "--model", "magic"), "unknown model 'magic'"),
        (("--dataset", chests, "--subset", "aux"), "aux"),
        (("--dataset", tmp_path), "give --split"),
        (("--dataset", chests, "--no-baselines"), "at least one --model"),
    ):
        done = run_command(*arguments, "-o", out)
        assert done.exit_code == 2
        assert message in done.stderr
        assert not out.exists()
    out.mkdir()
    (out / "summary.json").write_text("mine", encoding="utf-8")
    done = run_command("--dataset", chests, "-o", out)
    assert done.exit_code == 2 and "summary.json: exists already" in done.stderr


def test_models_are_told_apart(tmp_path: Path) -> None:
    assert [one.label for one in choose_models(["atlas"])] == ["atlas", "pca", "deform"]
    folders = [tmp_path / name / "model" for name in ("a", "b")]
    for index, folder in enumerate(folders):
        folder.mkdir(parents=True)
        (folder / "model.json").write_text(str(index), encoding="utf-8")
    (choice,) = choose_models([str(folders[0])], baselines=())
    assert choice.label == "model"
    assert choice.digest != choose_models([str(folders[1])], baselines=())[0].digest
    with pytest.raises(InputError, match="two models are called 'model'"):
        choose_models([str(folder) for folder in folders])


def test_store_keeps_values_by_their_settings(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    assert store.values("a/b", {"x": 1}, lambda: {"v": float("inf")}) == {"v": float("inf")}
    assert store.values("a/b", {"x": 1}, lambda: {"v": 2.0}) == {"v": float("inf")}
    assert store.values("a/b", {"x": 2}, lambda: {"v": 2.0}) == {"v": 2.0}
    # A point in the name, as of a level of 0.05, must not swallow what comes after it.
    assert store.values("c-0.05", {"x": 1}, lambda: {"v": 1.0}) == {"v": 1.0}
    assert store.values("c-0.05", {"x": 2}, lambda: {"v": 2.0}) == {"v": 2.0}
    assert store.values("c-0.2", {"x": 1}, lambda: {"v": 3.0}) == {"v": 3.0}
    made = store.arrays("c", {}, lambda: {"n": np.arange(3)})
    again = store.arrays("c", {}, lambda: {"n": np.zeros(1)})
    assert np.array_equal(made["n"], again["n"])


def test_summary_states_what_is_missing_and_tests_are_paired() -> None:
    rows = []
    for index in range(4):
        for model, error in (("good", 10.0 + index), ("bad", 20.0 + 2 * index)):
            metrics = {"mae_body_hu": error, "psnr_2500_db": 40 - error, "lungs_dice": None if index else 0.5}
            rows.append(PerCase(f"case {index}", model, metrics, 1.0, patient=f"p{index}"))
    found = summarise(rows, cases=5)
    assert found["good"]["mae_body_hu"].mean == pytest.approx(11.5)
    assert (found["good"]["lungs_dice"].n, found["good"]["lungs_dice"].of) == (1, 5)
    tests = {(test.model, test.metric): test for test in compare_with_baseline(rows, "bad")}
    mae = tests["good", "mae_body_hu"]
    assert (mae.n, mae.better_in) == (4, 4)
    assert mae.mean_difference == pytest.approx(-11.5)
    assert mae.p == pytest.approx(0.125) == smallest_p(4)  # the least that four pairs allow
    assert mae.p_holm == pytest.approx(0.25)  # two tests have a p
    assert tests["good", "lungs_dice"].p is None
    with pytest.raises(InputError, match="baseline"):
        compare_with_baseline(rows, "nobody")


def test_the_bank_holds_the_train_cases_only(chests: Path) -> None:
    bank = bank_for([BANK_MODEL], chests, "test")
    assert [case.name for case in bank] == ["three"]
    assert bank_for(["deform"], chests, "test") == ()
    (choice,) = choose_models([BANK_MODEL], baselines=(), bank=bank)
    assert choice.label == BANK_MODEL
    assert choice.digest != choose_models(["deform"], baselines=())[0].digest
    for folder, subset in ((None, "test"), (chests, "train")):
        with pytest.raises(InputError, match="train cases of a data set"):
            bank_for([BANK_MODEL], folder, subset)
    with pytest.raises(InputError, match="needs cases of other patients"):
        choose_models([BANK_MODEL], baselines=())
    films = next(iter(PreparedDataset(chests, "test"))).load().films()
    made = choice.run(films, size=64, assets=None, seed=0)
    assert made.provenance["model"] == BANK_MODEL
