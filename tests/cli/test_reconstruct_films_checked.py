"""`xrecon reconstruct` on pictures that look wrong: what it refuses, and that its advice works."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from xrecon.cli.app import build_app
from xrecon.films.simulation import simulate
from xrecon.volume import load_ct


@pytest.fixture(scope="module")
def pictures(phantom64_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """PA and lateral film of the phantom as PNG, right and as negatives."""
    folder = tmp_path_factory.mktemp("pictures")
    places = {}
    for film in simulate(load_ct(phantom64_file), size=128):
        grey = (film.image - film.image.min()) / np.ptp(film.image)
        for name, picture in ((film.view, grey), (f"{film.view}_negative", 1 - grey)):
            places[name] = folder / f"{name}.png"
            Image.fromarray(np.rint(picture * 65535).astype(np.uint16)).save(places[name])
    return places


def run(pa: Path, lateral: Path, output: Path, *options: str) -> Any:
    arguments = ["reconstruct", "--pa", str(pa), "--lateral", str(lateral), "-o", str(output), "--size", "64"]
    return CliRunner().invoke(build_app(), [*arguments, "--model", "atlas", *options])


def test_swapped_pictures_are_refused_and_both_ways_out_work(pictures: dict[str, Path], tmp_path: Path) -> None:
    done = run(pictures["lateral"], pictures["pa"], tmp_path / "out")
    assert done.exit_code == 2 and "look swapped" in done.stderr and not (tmp_path / "out").exists()
    assert run(pictures["pa"], pictures["lateral"], tmp_path / "right").exit_code == 0
    forced = run(pictures["lateral"], pictures["pa"], tmp_path / "out", "--force")
    assert forced.exit_code == 0, forced.stderr
    written = json.loads((tmp_path / "out" / "reconstruction.json").read_text(encoding="utf-8"))
    assert written["films"]["pair"]["looks_swapped"] and any("look swapped" in note for note in written["notes"])


def test_negatives_are_inverted_unless_the_user_says_otherwise(pictures: dict[str, Path], tmp_path: Path) -> None:
    dark = pictures["pa_negative"], pictures["lateral_negative"]
    done = run(*dark, tmp_path / "out", "--report")
    assert done.exit_code == 0 and "looks inverted" in done.stderr
    assert "was inverted" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    asked = run(*dark, tmp_path / "asked", "--invert")
    assert asked.exit_code == 0 and "looks inverted" not in asked.stderr
    kept = run(*dark, tmp_path / "kept", "--no-invert")
    assert kept.exit_code == 0 and "left as --invert or --no-invert" in kept.stderr


def test_one_picture_twice_is_refused(pictures: dict[str, Path], tmp_path: Path) -> None:
    done = run(pictures["pa"], pictures["pa"], tmp_path / "out")
    assert done.exit_code == 2 and "the same picture" in done.stderr
