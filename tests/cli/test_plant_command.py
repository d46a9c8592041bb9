from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from xrecon.cli.app import build_app
from xrecon.cli.plant import Pattern
from xrecon.planting.pattern import PATTERN_NAMES
from xrecon.planting.render import PLEURA_MM
from xrecon.volume import RESEARCH_NOTICE


def run_plant(*arguments: object) -> Any:
    return CliRunner().invoke(build_app(), ["plant", *map(str, arguments)])


def test_the_command_offers_every_pattern() -> None:
    assert tuple(pattern.value for pattern in Pattern) == PATTERN_NAMES
    assert "|".join(PATTERN_NAMES) in run_plant("--help").stdout.replace("\n", "")


def test_writes_ct_labels_and_truth(phantom64_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "planted"
    done = run_plant(phantom64_file, "--side", "left", "--occupancy", 0.4, "-o", out, "--json")
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["findings"]["occupancy"]["left"] == pytest.approx(0.4, abs=0.005)
    assert json.loads((out / "truth.json").read_text()) == report["findings"]
    assert report["findings"]["notice"] == RESEARCH_NOTICE
    assert report["findings"]["asked"]["pleura_mm"] == PLEURA_MM
    ct, labels = nib.load(out / "ct.nii.gz"), nib.load(out / "labels.nii.gz")
    assert np.allclose(ct.affine, labels.affine)
    assert b"NOT FOR DIAGNOSIS" in ct.header["descrip"].item()
    air = np.asarray(labels.dataobj) == 3
    # In a NIfTI file x grows to the patient's right.
    assert (ct.affine @ np.append(np.argwhere(air).mean(axis=0), 1))[0] < 0
    assert np.median(np.asarray(ct.dataobj)[air]) < -900
    again = run_plant(phantom64_file, "-o", out)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr


def test_an_impossible_occupancy_is_one_line_and_writes_nothing(phantom64_file: Path, tmp_path: Path) -> None:
    done = run_plant(phantom64_file, "--occupancy", 0.99, "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert "occupancy" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
