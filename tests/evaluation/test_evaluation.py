"""`xrecon evaluate`: results, denominators, going on after a stop, devices, refusals."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import xrecon.evaluation
from xrecon.cli.app import build_app
from xrecon.data.dataset import PreparedDataset
from xrecon.errors import InputError, OutputExistsError
from xrecon.evaluation.case_set import find_case_set
from xrecon.evaluation.evaluation import run_evaluation
from xrecon.evaluation.metrics.anatomy import ANATOMY_METRICS
from xrecon.evaluation.metrics.catalogue import PAIR_METRICS
from xrecon.evaluation.models import ModelChoice, bank_for, choose_models
from xrecon.evaluation.plan import plan_evaluation
from xrecon.evaluation.statistics.comparison import smallest_p
from xrecon.evaluation.store import ResultStore
from xrecon.evaluation.summary import compare_with_baseline, summarise
from xrecon.evaluation.tables import PerCase
from xrecon.phantoms.thorax import Phantom
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
    error = summary["results"]["atlas"]["mae_body_hu"]
    assert error["mean"] == pytest.approx(np.mean([float(row["mae_body_hu"]) for row in rows]))
    assert (error["n"], error["of"]) == (2, 2)
    assert error["ci95"][0] <= error["mean"] <= error["ci95"][1]
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
    plan = plan_evaluation(chests, models=["atlas"], baselines=False)
    results = run_evaluation(plan, store).results
    assert results.rows[0].metrics["mae_hu"] == 12345.0
    assert results.rows[1].metrics["mae_hu"] != 12345.0
    assert results.failures == ()


def test_a_failing_model_is_named_and_counted_nowhere(chests: Path, tmp_path: Path) -> None:
    plan = plan_evaluation(chests, subset="train", models=["atlas"], baselines=False, anatomy=False)
    broken = ModelChoice("broken", str(tmp_path / "gone"), "x")
    report = run_evaluation(replace(plan, models=(*plan.models, broken), baseline="broken"), tmp_path / "results")
    results = report.results
    assert {row.model for row in results.rows} == {"atlas"}
    assert report.baseline == "atlas", "a baseline without results is replaced by a model that has some"
    assert "lungs_dice" not in results.rows[0].metrics
    assert len(results.failures) == 1
    assert results.failures[0].startswith("three, broken: InputError")
    with pytest.raises(InputError, match="nothing could be evaluated: three, broken"):
        run_evaluation(replace(plan, models=(broken,)), tmp_path / "results")


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


def test_the_bank_holds_the_train_cases_only(chests: Path, phantom64: Phantom, tmp_path: Path) -> None:
    cases = find_case_set(chests, default_size=64)
    bank = bank_for(["deform+bank"], cases)
    assert [case.name for case in bank] == ["three"]
    assert bank_for(["deform"], cases) == ()
    (choice,) = choose_models(["deform+bank"], baselines=(), bank=bank)
    assert choice.label == "deform+bank"
    assert choice.digest != choose_models(["deform"], baselines=())[0].digest
    phantom64.volume.save(tmp_path / "alone.nii.gz")
    for folder, subset in ((tmp_path, "test"), (chests, "train")):
        with pytest.raises(InputError, match=r"deform\+bank: .*train cases of a data set"):
            bank_for(["deform+bank"], find_case_set(folder, default_size=64, subset=subset))
    with pytest.raises(InputError, match="needs cases of other patients"):
        choose_models(["deform+bank"], baselines=())
    films = next(iter(PreparedDataset(chests, "test"))).load().films()
    result = choice.run(films, size=64, assets=None, seed=0, case=cases.sources[0])
    assert result.provenance["model"] == "deform+bank"


def test_every_model_computes_on_the_device_and_its_results_are_told_apart(
    chests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trained network among them: nothing is evaluated on the CPU unless that is asked for."""
    devices: list[tuple[str, str]] = []

    def spy(*_films: object, model: str, device: str, **_options: object) -> None:
        devices.append((Path(model).name, device))
        raise InputError("stop")

    monkeypatch.setattr("xrecon.evaluation.models.reconstruct", spy)
    plan = plan_evaluation(chests, models=["xrecon"], device="cuda:1")
    monkeypatch.setattr("xrecon.evaluation.plan.usable_device", lambda name: name)
    with pytest.raises(InputError, match="nothing could be evaluated"):
        run_evaluation(plan, tmp_path / "results")
    assert devices == 2 * [(name, "cuda:1") for name in ("atlas", "pca", "deform", "xrecon-64-v1")]
    on_cpu = plan_evaluation(chests, models=["xrecon"])
    assert all(one.digest != other.digest for one, other in zip(plan.models, on_cpu.models, strict=True))


@pytest.mark.parametrize("device", ["abacus", "meta"])
def test_an_unusable_device_is_refused(chests: Path, tmp_path: Path, device: str) -> None:
    done = run_command("--dataset", chests, "--device", device, "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert f"--device {device}" in done.stderr
    assert not (tmp_path / "out").exists()


def test_options_without_effect_are_refused(chests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    for arguments, message in (
        (("--size", "96"), "--size 96"),
        (("--geometry", "x2ct"), "--geometry x2ct"),
        (("--split", "split.yaml"), "--split split.yaml"),
        (("--baseline", "xrecon"), "--baseline xrecon: is not among the evaluated models"),
        (("--workers", "2", "--scheduler", "tcp://127.0.0.1:1"), "--workers 2: the scheduler"),
    ):
        done = run_command("--dataset", chests, "-o", out, *arguments)
        assert done.exit_code == 2, done.stderr
        assert message in done.stderr
    monkeypatch.setattr("xrecon.evaluation.plan.dask_is_installed", lambda: False)
    done = run_command("--dataset", chests, "-o", out, "--workers", "2")
    assert done.exit_code == 1
    assert "--workers 2 needs Dask" in done.stderr
    assert not out.exists()


def test_the_public_function_writes_what_the_command_writes(evaluated: Path, chests: Path, tmp_path: Path) -> None:
    shutil.copytree(evaluated / "results", tmp_path / "results")
    lines: list[str] = []
    report = xrecon.evaluation.evaluate(
        chests, models=["atlas"], baselines=False, output=tmp_path, progress=lines.append
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["per-case.csv", "results", "summary.json", "table.md"]
    assert lines == ["1 of 2: one", "2 of 2: two"]
    assert report.baseline == "atlas" and [row.case for row in report.results.rows] == ["one", "two"]
    for name in ("per-case.csv", "table.md"):
        assert (tmp_path / name).read_text(encoding="utf-8") == (evaluated / name).read_text(encoding="utf-8")
    assert (
        json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["results"]
        == json.loads((evaluated / "summary.json").read_text(encoding="utf-8"))["results"]
    )
    with pytest.raises(OutputExistsError):
        xrecon.evaluation.evaluate(chests, models=["atlas"], output=tmp_path)


def test_a_folder_that_is_called_like_a_model_stays_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(Path(xrecon.__file__).parent / "assets" / "xrecon-64-v1", tmp_path / "atlas")
    monkeypatch.chdir(tmp_path)
    assert choose_models(["./atlas"], baselines=())[0].model == str(tmp_path / "atlas")


def test_the_baseline_is_named_as_its_model_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(Path(xrecon.__file__).parent / "assets" / "xrecon-64-v1", tmp_path / "net")
    (tmp_path / "cts").mkdir()
    (tmp_path / "cts" / "one.nii.gz").write_bytes(b"a CT")
    monkeypatch.chdir(tmp_path)
    models = ["atlas", "default", "./net"]
    baselines = [plan_evaluation("cts", models=models, baseline=name).baseline for name in ("default", "./net", "net")]
    assert baselines == ["deform", "net", "net"]
