"""`xrecon train films`: options become settings, a run is stopped and goes on, mistakes are said in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from support.film_chests import write_film_chests
from xrecon.cli.app import build_app

QUICK = ("--set", "network.channels=[8,8,8]", "--set", "batch=2", "--set", "steps=2", "--set", "validation_pairs=4")


def run_program(*arguments: object) -> Any:
    return CliRunner().invoke(build_app(), ["train", "films", *map(str, arguments)])


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film_chests(tmp_path_factory.mktemp("film_command"), anatomies=4)


def test_a_run_is_stopped_and_goes_on(library: Path, tmp_path: Path) -> None:
    options = (library, "-o", tmp_path, "--fold", 1, "--views", "pa", "--pixel-mm", 12, *QUICK)
    first = run_program(*options, "--max-seconds", 1, "--json")
    assert first.exit_code == 0, first.stderr
    assert run_program(*options).exit_code == 2  # a run is there
    done = run_program(*options, "--resume", "--json")
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["finished"] and result["step"] == 2
    settings = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert settings["fold"] == 1 and settings["network"]["views"] == ["pa"] and settings["network"]["pixel_mm"] == 12.0
    assert (tmp_path / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--pixel-mm", 7), "cannot serve"),
        (("--set", "stepps=3"), "did you mean 'steps'"),
        (("--fold", 9, "--pixel-mm", 12), "fold 9 does not exist"),
    ],
)
def test_mistakes_are_said_in_words(library: Path, tmp_path: Path, options: tuple[object, ...], words: str) -> None:
    done = run_program(library, "-o", tmp_path / "run", *QUICK, *options)
    assert done.exit_code == 2
    assert words in done.stderr


def test_a_folder_without_a_library_is_named(tmp_path: Path) -> None:
    done = run_program(tmp_path, "-o", tmp_path / "run")
    assert done.exit_code == 2
    assert "no film library" in done.stderr
