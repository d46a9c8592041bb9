"""`xrecon.train`: one call from settings in a file, a mapping or an object to a model."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

import xrecon
from support.dataset_factory import write_dataset
from support.training_runs import small_dataset, small_training
from xrecon.errors import ConfigError, MissingPartError
from xrecon.training.run import run_folder, training_settings


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_dataset(tmp_path_factory.mktemp("train") / "set")


def test_a_mapping_trains_to_a_model_that_reconstruct_takes(dataset: Path, tmp_path: Path) -> None:
    values = small_training(dataset).model_dump(mode="json")
    seen: list[int] = []
    run = xrecon.train(
        values,
        output=tmp_path / "run",
        overrides=["run.steps=2", "run.validate_every=2"],
        device="cpu",
        progress=lambda step, _steps, _text: seen.append(step),
    )
    assert (run.folder, run.step, run.finished, seen) == (tmp_path / "run", 2, True, [1, 2])
    assert run.validation["body_mae_hu"] > 0
    assert run.model is not None
    assert (run.model / "model.safetensors").is_file()
    assert yaml.safe_load((run.folder / "config.yaml").read_text())["run"]["accelerator"] == "cpu"
    again = xrecon.train(
        values, output=tmp_path / "run", overrides=["run.steps=2", "run.validate_every=2"], resume="auto"
    )
    assert (again.step, again.finished) == (2, True)


def test_file_mapping_and_object_give_the_same_settings(dataset: Path, tmp_path: Path) -> None:
    settings = small_training(dataset)
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(settings.model_dump(mode="json")), encoding="utf-8")
    forms: list[Any] = [settings, settings.model_dump(mode="json"), file, str(file)]
    for form in forms:
        assert training_settings(form) == settings
        assert training_settings(form, ["seed=7"]).seed == 7
    assert settings.seed == 0
    assert forms[1]["seed"] == 0


def test_a_mistake_in_a_mapping_is_named(dataset: Path) -> None:
    values = small_training(dataset).model_dump(mode="json")
    with pytest.raises(ConfigError, match=r"settings: unknown key 'seeed'; did you mean 'seed'"):
        xrecon.train({**values, "seeed": 1})
    with pytest.raises(ConfigError, match=r"--set: unknown key 'run\.stps'"):
        xrecon.train(values, overrides=["run.stps=1"])


def test_the_folder_is_named_after_the_run_where_none_is_given(dataset: Path, tmp_path: Path) -> None:
    settings = small_training(dataset)
    assert run_folder(settings, None) == Path("runs") / settings.name
    assert run_folder(settings, str(tmp_path)) == tmp_path


def test_a_fold_without_folds_names_the_setting(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "set", {"a": "train", "b": "train"})
    with pytest.raises(ConfigError, match=r"data\.fold is 0, but .*set has no folds: set data\.fold to null") as error:
        xrecon.train(small_training(dataset), output=tmp_path / "run")
    assert "--set data.fold=null" in str(error.value)
    assert "xrecon prepare --folds K" in str(error.value)
    assert not (tmp_path / "run").exists()


def test_without_the_engine_the_package_to_install_is_named(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "lightning_fabric" else real(name, *rest)
    )
    with pytest.raises(MissingPartError, match=r"pip install 'xrecon\[train\]'"):
        xrecon.train(small_training(dataset))
