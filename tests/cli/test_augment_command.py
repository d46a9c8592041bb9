from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from support.augment_fixtures import phantom_case
from support.dataset_factory import write_dataset
from xrecon.cli.app import build_app
from xrecon.phantoms.thorax import Phantom
from xrecon.volume import RESEARCH_NOTICE


@pytest.fixture(scope="module")
def dataset(phantom64: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    case = phantom_case(phantom64)
    return write_dataset(tmp_path_factory.mktemp("augment"), {"one": "train", "two": "test"}, cases=[case, case])


def run(*arguments: object) -> Any:
    return CliRunner().invoke(build_app(), ["augment", *map(str, arguments)])


def test_draws_a_sheet_and_records_every_draw(dataset: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    done = run(
        dataset, "-o", sheet, "--count", 2, "--size", 32, "--seed", 5, "--set", "nodules.probability=1", "--json"
    )
    assert done.exit_code == 0, done.stderr
    with Image.open(sheet) as image:
        assert image.info["Description"] == RESEARCH_NOTICE
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape[1] > 1000
    assert (np.abs(pixels - [255, 230, 0]).sum(axis=2) < 60).any() or (pixels[..., 2] > pixels[..., 0] + 60).any()
    content = json.loads(sheet.with_suffix(".json").read_text())
    assert content["notice"] == RESEARCH_NOTICE
    assert content["settings"]["nodules"]["probability"] == 1
    assert [sample["seed"] for sample in content["samples"]] == [5, 6]
    assert {sample["case"] for sample in content["samples"]} == {"one"}
    assert all(sample["nodules"]["nodules"] for sample in content["samples"])
    assert json.loads(done.stdout)["samples"] == content["samples"]


def test_off_leaves_every_step_out(dataset: Path, tmp_path: Path) -> None:
    done = run(dataset, "-o", tmp_path / "off.png", "--count", 1, "--size", 32, "--off", "--subset", "test", "--json")
    assert done.exit_code == 0, done.stderr
    (sample,) = json.loads(done.stdout)["samples"]
    assert sample["case"] == "two"
    assert sample["affine"] is None
    assert sample["tone"] == {"pa": None, "lateral": None}


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--case", "nobody"], "nobody"),
        (["--set", "affine.turn=3"], "affine.turn"),
        (["--size", "128"], "fewer than the 128"),
    ],
)
def test_bad_requests_end_with_a_message(dataset: Path, tmp_path: Path, extra: list[str], message: str) -> None:
    done = run(dataset, "-o", tmp_path / "x.png", *extra)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_nothing_is_replaced_unasked(dataset: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    sheet.write_bytes(b"mine")
    done = run(dataset, "-o", sheet, "--count", 1, "--size", 32)
    assert done.exit_code != 0
    assert sheet.read_bytes() == b"mine"
    assert run(dataset, "-o", tmp_path / "sheet.jpg", "--count", 1, "--size", 32).exit_code == 2
