"""Commands that read a CT say when its anatomy contradicts the file, and only then."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from xrecon.cli.app import build_app
from xrecon.inference.bank_files import BankFiles
from xrecon.phantoms.thorax import Phantom
from xrecon.quantify.findings import Findings

pytestmark = pytest.mark.filterwarnings("default")


def run(*arguments: object) -> Any:
    return CliRunner().invoke(build_app(), list(map(str, arguments)))


@pytest.fixture(scope="module", params=["mirrored", "head and feet", "look exchanged"])
def flipped_file(phantom64: Phantom, tmp_path_factory: pytest.TempPathFactory, request: Any) -> tuple[Path, str]:
    ct = phantom64.volume
    hu = np.swapaxes(ct.hu, 1, 2) if request.param == "look exchanged" else None
    axis = {"mirrored": 2, "head and feet": 0}.get(request.param)
    bad = replace(ct, hu=np.ascontiguousarray(np.flip(ct.hu, axis) if hu is None else hu))
    return bad.save(tmp_path_factory.mktemp("flipped") / "ct.nii.gz"), request.param


def test_segment_warns_on_the_face_of_the_report_and_in_findings(
    flipped_file: tuple[Path, str], tmp_path: Path
) -> None:
    path, words = flipped_file
    done = run("segment", path, "-o", tmp_path / "out", "--lung-model", "classical")
    assert done.exit_code == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if words in line]
    assert len(lines) == 1 and lines[0].startswith("warning:")
    text = (tmp_path / "out" / "findings.json").read_text(encoding="utf-8")
    findings = Findings.from_json(text)
    assert len(findings.warnings) == 1 and words in findings.warnings[0]
    assert not any(words in note for note in findings.notes)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.index(words) < page.index('class="lead"') < page.index('class="tiles"')
    older = json.loads(text)
    del older["warnings"]
    assert Findings.from_json(json.dumps(older)).warnings == ()


def test_segment_says_nothing_of_an_ordinary_chest(phantom64_file: Path, tmp_path: Path) -> None:
    done = run("segment", phantom64_file, "-o", tmp_path / "out", "--lung-model", "classical")
    assert done.exit_code == 0, done.stderr
    assert "warning" not in done.stderr
    assert "Look at this first" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "out" / "findings.json").read_text())["warnings"] == []


def test_simulate_and_plant_warn(flipped_file: tuple[Path, str], phantom64_file: Path, tmp_path: Path) -> None:
    path, words = flipped_file
    done = run("simulate", path, "-o", tmp_path / "films", "--size", 64)
    assert done.exit_code == 0, done.stderr
    assert words in done.stderr
    assert words in (tmp_path / "films" / "pa.json").read_text(encoding="utf-8")
    if words == "mirrored":
        assert words in run("plant", path, "--side", "left", "--occupancy", 0.2, "-o", tmp_path / "planted").stderr
    good = run("simulate", phantom64_file, "-o", tmp_path / "good", "--size", 64)
    assert good.exit_code == 0 and words not in good.stderr


def test_a_bank_of_ct_files_warns(flipped_file: tuple[Path, str], phantom64_file: Path) -> None:
    path, words = flipped_file
    with pytest.warns(UserWarning, match=words):
        BankFiles((("bad", path),), ()).load()
    assert not any(words in note for note in BankFiles((("good", phantom64_file),), ()).load()[0].notes)
