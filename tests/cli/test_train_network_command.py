"""`xrecon train`: a run and a grid as users start them, and what is said where it cannot start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from support.training_runs import small_dataset, small_training
from xrecon.cli.app import build_app


def train(*arguments: object) -> Any:
    return CliRunner().invoke(build_app(), ["train", *map(str, arguments)])


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    training = small_training(small_dataset(folder / "data"), run={"steps": 1})
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(training.model_dump(mode="json")))
    return file


def test_a_grid_trains_every_run_once_and_compares_them(config: Path, tmp_path: Path) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text("runs: [{name: base}, {name: plain, set: [losses.adversarial=0]}]")
    done = train(config, "--grid", grid, "-o", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert [run["name"] for run in result["runs"]] == ["base", "plain"]
    assert all(run["count"] == 2 for run in result["runs"])
    assert "psnr_difference" in result["runs"][1]
    assert "step 1/1" in done.stderr
    stored = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert stored["runs"] == result["runs"]
    models = sorted((tmp_path / "out").glob("*/model/model.safetensors"))
    before = [path.stat().st_mtime_ns for path in models]
    again = train(config, "--grid", grid, "-o", tmp_path / "out")  # nothing to do but the table
    assert again.exit_code == 0
    assert [path.stat().st_mtime_ns for path in models] == before
    assert "plain" in again.stdout
    resumed = train(config, "-o", tmp_path / "out" / "base", "--set", "name=base", "--resume", "auto", "--quiet")
    assert resumed.exit_code == 0, resumed.stderr
    assert "1 steps, finished" in resumed.stdout
    refused = train(config, "-o", tmp_path / "out" / "base")
    assert refused.exit_code == 2
    assert "--resume auto" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "losses.voxl=1"], "did you mean 'losses.voxel'"),
        (["--set", "data.path=nowhere"], "dataset.json"),
        (["--index", "1"], "--grid"),
        (["--set", "generator.name=x-recon"], "did you mean 'xrecon'"),
        (["--set", "generator.settings.size=96"], "prepare the data at 96"),
        (["--set", "data.fold=7"], "no fold 7"),
        (["--resume", "nowhere.ckpt"], "no such checkpoint"),
    ],
)
def test_what_cannot_start_says_why(config: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = train(config, "-o", tmp_path / "out", *arguments)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_the_other_things_to_train_keep_their_names() -> None:
    shown = train("--help").stdout
    assert "network" in shown
    assert "priors" in shown
