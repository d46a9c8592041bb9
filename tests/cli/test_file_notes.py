"""Commands print on standard error what the readers say of the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from xrecon.cli.app import build_app
from xrecon.films.simulation import simulate
from xrecon.volume import load_ct


def run(*arguments: object) -> Any:
    return CliRunner().invoke(build_app(), list(map(str, arguments)))


@pytest.mark.parametrize("quiet", [False, True])
def test_simulate_prints_the_notes_of_the_ct(phantom64_file: Path, tmp_path: Path, quiet: bool) -> None:
    done = run("simulate", phantom64_file, "-o", tmp_path / "films", "--size", 64, *["--quiet"] * quiet)
    assert done.exit_code == 0, done.stderr
    assert (f"note: {phantom64_file}: the file says that it is synthetic" in done.stderr) is not quiet


def test_reconstruct_prints_the_notes_of_the_films(phantom64_file: Path, tmp_path: Path) -> None:
    for film in simulate(load_ct(phantom64_file), size=64):
        grey = (film.image - film.image.min()) / np.ptp(film.image)
        Image.fromarray(np.rint(grey * 65535).astype(np.uint16)).save(tmp_path / f"{film.view}.png")
    pair = "--pa", tmp_path / "pa.png", "--lateral", tmp_path / "lateral.png"
    done = run("reconstruct", *pair, "-o", tmp_path / "out", "--size", 64, "--model", "atlas")
    assert done.exit_code == 0, done.stderr
    for name in ("pa.png", "lateral.png"):
        assert f"note: {tmp_path / name}: no pixel spacing stated" in done.stderr
