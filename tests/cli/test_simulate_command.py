from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import xrecon
from xrecon.cli.app import build_app
from xrecon.phantoms.thorax import Phantom

NAMES = ["lateral.json", "lateral.png", "lateral.tiff", "pa.json", "pa.png", "pa.tiff"]


def run_simulate(*arguments: object) -> Any:
    return CliRunner().invoke(build_app(), ["simulate", *map(str, arguments)])


def test_writes_films_that_read_back_exactly(phantom64: Phantom, phantom64_file: Path, tmp_path: Path) -> None:
    done = run_simulate(phantom64_file, "-o", tmp_path / "films", "--size", 64, "--json")
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert sorted(path.name for path in (tmp_path / "films").iterdir()) == NAMES
    expected = xrecon.simulate(xrecon.load_ct(phantom64_file), size=64)
    for film in expected:
        read = xrecon.load_radiograph(tmp_path / "films" / f"{film.view}.tiff", film.view)
        assert np.array_equal(read.image, film.image)
        assert read.geometry == film.geometry
        assert read.is_quantitative
        assert report["range"][film.view] == pytest.approx([film.image.min(), film.image.max()])
        with Image.open(tmp_path / "films" / f"{film.view}.png") as picture:
            assert np.asarray(picture).dtype == np.uint16


def test_the_side_car_says_how_and_not_where(phantom64_file: Path, tmp_path: Path) -> None:
    done = run_simulate(phantom64_file, "-o", tmp_path / "films", "--size", 48, "--geometry", "x2ct", "--keep-table")
    assert done.exit_code == 0, done.stderr
    text = (tmp_path / "films" / "pa.json").read_text(encoding="utf-8")
    side_car = json.loads(text)
    assert side_car["notice"] == "SYNTHETIC / RESEARCH ONLY / NOT FOR DIAGNOSIS"
    assert side_car["settings"] == {"size": 48, "geometry": "x2ct", "energy_kev": 60.0, "keep_table": True}
    assert side_car["geometry"]["name"] == "x2ct"
    assert len(side_car["inputs"]["ct"]["sha256"]) == 64
    assert side_car["environment"]["xrecon"] == xrecon.__version__
    assert str(phantom64_file.parent) not in text
    assert phantom64_file.name not in text


def test_keeping_the_table_changes_the_film(phantom64_file: Path, tmp_path: Path) -> None:
    for name, more in (("without", ()), ("with", ("--keep-table",))):
        assert run_simulate(phantom64_file, "-o", tmp_path / name, "--size", 32, *more).exit_code == 0
    films = [xrecon.load_radiograph(tmp_path / name / "lateral.tiff", "lateral") for name in ("without", "with")]
    assert films[1].image.mean() > films[0].image.mean() + 0.02
    notes = [
        json.loads((tmp_path / name / "pa.json").read_text(encoding="utf-8"))["notes"] for name in ("without", "with")
    ]
    assert any("table" in note for note in notes[0])
    assert not any("table" in note for note in notes[1])


def test_existing_films_stay_unless_overwrite(phantom64_file: Path, tmp_path: Path) -> None:
    (tmp_path / "lateral.json").write_text("mine", encoding="utf-8")
    done = run_simulate(phantom64_file, "-o", tmp_path, "--size", 32)
    assert done.exit_code == 2
    assert "lateral.json: exists already" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["lateral.json"]
    assert run_simulate(phantom64_file, "-o", tmp_path, "--size", 32, "--overwrite").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == NAMES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.nii",), "nowhere.nii"),
        (("PHANTOM", "--size", "8"), "--size"),
        (("PHANTOM", "--geometry", "dental"), "dental"),
        (("PHANTOM", "--device", "abacus"), "--device abacus"),
        (("PHANTOM", "--series", "2"), "--series"),
        (("film.png",), "not a volume"),
    ],
)
def test_wrong_input_exits_2_and_writes_nothing(
    phantom64_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.arange(4096, dtype=np.uint8).reshape(64, 64)).save("film.png")
    done = run_simulate(*(phantom64_file if argument == "PHANTOM" else argument for argument in arguments), "-o", "out")
    assert done.exit_code == 2
    assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["film.png"]


def test_a_ct_without_lungs_exits_2(phantom64: Phantom, tmp_path: Path) -> None:
    solid = np.where(phantom64.structures["body"], np.float32(40.0), np.float32(-1000.0))
    path = phantom64.volume.with_hu(solid).save(tmp_path / "solid.nii")
    done = run_simulate(path, "-o", tmp_path / "films", "--size", 32)
    assert done.exit_code == 2
    assert "no lungs found" in done.stderr
    assert not (tmp_path / "films").exists()
