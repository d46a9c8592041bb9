"""`xrecon prepare-films` as a user runs it: killed, continued, asked for what it refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from support.film_library import SPLIT, library_request, write_people
from xrecon.cli.app import build_app
from xrecon.data.film_library import anatomy_files
from xrecon.preparation.film_library.library_run import prepare_film_library


def run(*arguments: object) -> Result:
    return CliRunner().invoke(build_app(), [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three CTs, and split.yaml, of which `carl` is a test case."""
    folder = write_people(tmp_path_factory.mktemp("film_command"))
    (folder.parent / "split.yaml").write_text(f"train: [{', '.join(SPLIT.train)}]\ntest: [{', '.join(SPLIT.test)}]\n")
    return folder


def options(people: Path, output: Path, anatomies: int) -> list[object]:
    split = people.parent / "split.yaml"
    small = ["--size", 64, "--plants", 1, "--healthy", 2, "--workers", 1, "--quiet"]
    return ["prepare-films", people, "-o", output, "--split", split, "--anatomies", anatomies, *small]


def test_a_killed_run_goes_on_as_if_nothing_had_been(people: Path, tmp_path: Path) -> None:
    output = tmp_path / "library"
    command = [sys.executable, "-m", "xrecon", *(str(option) for option in options(people, output, 4))]
    running = subprocess.Popen(command)
    end = time.monotonic() + 120
    while not anatomy_files(output) and running.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert 1 <= len(anatomy_files(output)) < 4
    result = run(*options(people, output, 4), "--json")
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert (values["anatomies"], values["film_pairs"], values["failures"]) == (4, 12, [])
    whole = tmp_path / "whole"
    prepare_film_library(library_request(people, whole))
    for anatomy in anatomy_files(whole):
        assert (output / "anatomies" / anatomy.path.name).read_bytes() == anatomy.path.read_bytes()


def test_what_it_cannot_do_is_refused(people: Path, tmp_path: Path) -> None:
    command = options(people, tmp_path / "library", 1)
    for option, value, words in (
        ("--split", tmp_path / "no.yaml", "no.yaml"),
        ("--shapes", tmp_path, "lungs_4mm.npz"),
    ):
        result = run(*command, option, value)
        assert result.exit_code == 2
        assert words in result.output
        assert "Traceback" not in result.output
    absent = run(*["prepare-films", tmp_path / "nowhere", *command[2:]])
    assert absent.exit_code == 2
    assert "nowhere" in absent.output
    assert not (tmp_path / "library").exists()
