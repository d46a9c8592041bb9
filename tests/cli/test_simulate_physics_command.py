"""`xrecon simulate --physics`: what is written, what the side-car says, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import xrecon
from xrecon.cli.app import build_app


def run_simulate(*arguments: object) -> Any:
    return CliRunner().invoke(build_app(), ["simulate", *map(str, arguments)])


def side_car(folder: Path) -> Any:
    return json.loads((folder / "pa.json").read_text(encoding="utf-8"))


def test_clinical_films_say_how_they_were_made_and_read_back(phantom64_file: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 7), ("same", 7), ("other", 8)):
        more = ("--physics", "clinical", "--set", "beam.kvp=110", "--set", "noise.exposure=0.5", "--seed", seed)
        done = run_simulate(phantom64_file, "-o", tmp_path / name, "--size", 48, *more)
        assert done.exit_code == 0, done.stderr
    record = side_car(tmp_path / "one")
    assert record["seed"] == 7
    assert record["quantity"] == "display"
    assert record["notice"] == "SYNTHETIC / RESEARCH ONLY / NOT FOR DIAGNOSIS"
    physics = record["settings"]["physics"]
    assert (physics["preset"], physics["beam"]["kvp"], physics["noise"]["exposure"]) == ("clinical", 110.0, 0.5)
    assert "energy_kev" not in record["settings"]
    first, same, other = (xrecon.load_radiograph(tmp_path / n / "pa.tiff", "pa") for n in ("one", "same", "other"))
    assert not first.is_quantitative
    assert np.array_equal(first.image, same.image)
    assert not np.array_equal(first.image, other.image)


def test_single_parts_on_the_linear_film(phantom64_file: Path, tmp_path: Path) -> None:
    done = run_simulate(phantom64_file, "-o", tmp_path, "--size", 48, "--set", "scatter.grid=false")
    assert done.exit_code == 0, done.stderr
    record = side_car(tmp_path)
    assert record["quantity"] == "line_integral"
    assert record["seed"] is None  # nothing was drawn
    assert record["settings"]["energy_kev"] == 60.0
    assert record["settings"]["physics"]["scatter"]["grid"] is False
    assert record["settings"]["physics"]["noise"] is None


def test_plain_films_are_those_of_before(phantom64_file: Path, tmp_path: Path) -> None:
    done = run_simulate(phantom64_file, "-o", tmp_path, "--size", 48, "--physics", "linear")
    assert done.exit_code == 0, done.stderr
    record = side_car(tmp_path)
    assert "physics" not in record["settings"] and record["seed"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--physics", "dental"), "dental"),
        (("--physics", "clinical", "--set", "noise.exposur=1"), "did you mean 'noise.exposure'?"),
        (("--set", "beam.kvp=999"), "beam.kvp = 999"),
        (("--physics", "clinical", "--energy-kev", "70"), "--set beam.kvp="),
        (("--physics", "clinical", "--set", "display.invert=true"), "display.invert"),
    ],
)
def test_wrong_physics_exits_2_and_writes_nothing(
    phantom64_file: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = run_simulate(phantom64_file, "-o", tmp_path / "films", "--size", 32, *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "films").exists()
