"""`xrecon train calibrate-films`: a calibration from the cases that a run left out, and from no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from support.film_chests import write_film_chests
from xrecon.cli.app import build_app
from xrecon.films.film_calibration import load_calibration
from xrecon.models.checkpoint import load_information, save_model
from xrecon.models.film_network import FilmNet, FilmNetConfig


def run(*arguments: object) -> Any:
    return CliRunner().invoke(build_app(), ["train", "calibrate-films", *map(str, arguments)])


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film_chests(tmp_path_factory.mktemp("calibrated_chests"), anatomies=44)


def networks(folder: Path, seed: int, fold: int | None) -> Path:
    torch.manual_seed(seed)
    network = FilmNet(FilmNetConfig(channels=(8, 8, 8), pixel_mm=12.0))
    metrics = {"fold": fold, "folds": 4}
    save_model(network, folder, name="films", training_data="none", licence="none", metrics=metrics)
    return folder


def test_only_cases_left_out_are_used(library: Path, tmp_path: Path) -> None:
    model = networks(tmp_path / "model", 0, 1)
    done = run(model, "--library", library, "--json")
    assert done.exit_code == 0, done.stderr
    calibration = load_calibration(model)
    assert calibration is not None
    assert calibration.cases == ("bert",) and calibration.networks == (load_information(model).sha256,)
    assert calibration.pairs == 44 == sum(band.pairs for band in calibration.bands)
    assert json.loads(done.stdout)["presence"]["threshold"] == calibration.presence.threshold
    again = run(model, "--library", library)
    assert again.exit_code == 2 and "--overwrite" in again.stderr


def test_networks_of_all_cases_are_calibrated_with_runs_of_folds(library: Path, tmp_path: Path) -> None:
    model = networks(tmp_path / "model", 0, None)
    refused = run(model, "--library", library)
    assert refused.exit_code == 2 and "train with --fold" in refused.stderr
    assert load_calibration(model) is None
    folds = [networks(tmp_path / f"fold-{k}", k + 1, k) for k in (0, 1)]
    done = run(model, "--library", library, *(part for fold in folds for part in ("--fold-run", fold)))
    assert done.exit_code == 0, done.stderr
    calibration = load_calibration(model)
    assert calibration is not None
    assert calibration.cases == ("anna", "bert")
    assert calibration.networks == tuple(load_information(fold).sha256 for fold in folds)
