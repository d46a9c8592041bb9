"""`xrecon films` and `xrecon reconstruct --film-networks`, with networks of no training and a made calibration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from xrecon.cli.app import build_app
from xrecon.films.film_calibration import FilmCalibration, OccupancyBand, PresenceCalibration
from xrecon.models.checkpoint import save_model
from xrecon.models.film_network import FilmNet, FilmNetConfig


def run(*arguments: object) -> Any:
    return CliRunner().invoke(build_app(), [*map(str, arguments)])


def calibration(intercept: float) -> FilmCalibration:
    return FilmCalibration(
        presence=PresenceCalibration(intercept=intercept, volume=0.0, presence=0.0, threshold=0.5, prevalence=0.25),
        factor=1.0,
        bands=(OccupancyBand(up_to=100.0, below=3.0, above=5.0, pairs=99),),
        cases=("a",),
        pairs=99,
        networks=("0" * 64,),
    )


@pytest.fixture(scope="module")
def films(phantom64_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    folder = tmp_path_factory.mktemp("pair")
    done = run("simulate", phantom64_file, "-o", folder, "--size", 96)
    assert done.exit_code == 0, done.stderr
    return "--pa", folder / "pa.tiff", "--lateral", folder / "lateral.tiff"


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained networks whose last layer sees 20 mm of air and 60 mm of lung everywhere."""
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    network = FilmNet(FilmNetConfig(channels=(8, 8, 8), pixel_mm=6.0, presence=True))
    with torch.no_grad():
        for branch in network.branches:
            branch.head.bias.copy_(
                torch.tensor([4.0, 4.0, 0.5, 0.5, 3.0, 3.0]).repeat_interleave(network.config.fold**2)
            )
    save_model(network, folder, name="films", training_data="none", licence="none")
    return folder


def test_findings_maps_and_picture_are_written(films: tuple[object, ...], networks: Path, tmp_path: Path) -> None:
    calibration(-6.0).save(networks, overwrite=True)
    done = run("films", *films, "-o", tmp_path / "out", "--film-networks", networks, "--json")
    assert done.exit_code == 0, done.stderr
    values = json.loads(done.stdout)
    stored = json.loads((tmp_path / "out" / "film-findings.json").read_text())
    assert stored["notice"] == "SYNTHETIC / RESEARCH ONLY / NOT FOR DIAGNOSIS"
    assert stored["sides"] == values["sides"] and set(stored["sides"]) == {"right", "left"}
    assert stored["sides"]["right"]["is_present"] is False
    assert stored["sides"]["right"]["probability"] == pytest.approx(0.0025, abs=1e-3)
    assert "cannot be excluded" in stored["statement"]
    whole = stored["whole_chest"]
    assert whole["low"] <= whole["percent"] <= whole["high"]
    with np.load(tmp_path / "out" / "maps.npz") as maps:
        assert maps["air_mm"].shape == (2, 2, 64, 64) and list(maps["views"]) == ["pa", "lateral"]
    assert (tmp_path / "out" / "preview.png").read_bytes().startswith(b"\x89PNG")
    assert str(tmp_path) not in (tmp_path / "out" / "film-findings.json").read_text()
    again = run("films", *films, "-o", tmp_path / "out", "--film-networks", networks)
    assert again.exit_code == 2 and "--overwrite" in again.stderr


def test_without_a_calibration_there_is_no_verdict(films: tuple[object, ...], networks: Path, tmp_path: Path) -> None:
    (networks / "calibration.json").unlink(missing_ok=True)
    done = run("films", *films, "-o", tmp_path, "--film-networks", networks)
    assert done.exit_code == 0, done.stderr
    assert "no calibration" in done.stdout
    assert json.loads((tmp_path / "film-findings.json").read_text())["sides"]["left"]["is_present"] is None


def test_a_reconstruction_draws_what_reaches_the_threshold(
    films: tuple[object, ...], networks: Path, tmp_path: Path
) -> None:
    common = ("reconstruct", *films, "--model", "atlas", "--size", 64)
    calibration(6.0).save(networks, overwrite=True)
    sick = run(*common, "-o", tmp_path / "sick", "--film-networks", networks)
    assert sick.exit_code == 0, sick.stderr
    calibration(-6.0).save(networks, overwrite=True)
    healthy = run(*common, "-o", tmp_path / "healthy", "--film-networks", networks)
    assert healthy.exit_code == 0, healthy.stderr
    plain = run(*common, "-o", tmp_path / "plain", "--film-networks", "none")
    assert plain.exit_code == 0, plain.stderr
    said = {
        name: json.loads((tmp_path / name / "reconstruction.json").read_text()) for name in ("sick", "healthy", "plain")
    }
    assert said["sick"]["pneumothorax"]["sides"]["right"]["is_present"] is True
    assert said["sick"]["pneumothorax"]["drawn_ml"]
    assert said["healthy"]["pneumothorax"]["drawn_ml"] == {} and "pneumothorax" not in said["plain"]
    bytes_of = {name: (tmp_path / name / "ct.nii.gz").read_bytes() for name in said}
    assert bytes_of["healthy"] == bytes_of["plain"] != bytes_of["sick"]


def test_a_folder_without_networks_is_refused(films: tuple[object, ...], tmp_path: Path) -> None:
    done = run("films", *films, "-o", tmp_path / "out", "--film-networks", tmp_path)
    assert done.exit_code == 2 and "model.json" in done.stderr
    assert not (tmp_path / "out").exists()
