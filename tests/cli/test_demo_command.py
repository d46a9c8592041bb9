from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from xrecon.cli.app import build_app


def run_demo(*arguments: object) -> Any:
    return CliRunner().invoke(build_app(), ["demo", *map(str, arguments)])


@pytest.mark.slow
def test_the_phantom_demo_runs_twice_and_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_demo("--phantom", "--size", 64)
    assert done.exit_code == 0, done.stderr
    assert "artificial thorax" in done.stdout
    assert "RESEARCH ONLY" in done.stdout
    assert f"report: {tmp_path / 'demo-report' / 'report.html'}" in done.stdout
    page = (tmp_path / "demo-report" / "report.html").read_text(encoding="utf-8")
    for words in ("SYNTHETIC / RESEARCH ONLY / NOT FOR DIAGNOSIS", "This is no patient", "atlas", "pca", "deform"):
        assert words in page
    assert re.search(r"peak memory", page)
    assert "A pneumothorax: in the films, and in the CT" in page and "planted pneumothorax" in done.stdout
    assert (tmp_path / "demo-report" / "pneumothorax.png").read_bytes().startswith(b"\x89PNG")
    assert not re.search(r"""(?:src|href)=["']https?:""", page), "the page asks for something from elsewhere"
    assert str(tmp_path) not in page
    refused = run_demo("--phantom", "--size", 64)
    assert refused.exit_code == 2
    assert "--overwrite" in refused.stderr
    again = run_demo("--phantom", "--size", 64, "--overwrite", "--json")
    assert again.exit_code == 0, again.stderr
    report = json.loads(again.stdout)
    assert report["is_phantom"] is True
    assert list(report["metrics"]) == ["atlas", "pca", "deform"]
    assert report["metrics"]["deform"]["mae_body_hu"] < report["metrics"]["atlas"]["mae_body_hu"]
    stored = json.loads((tmp_path / "demo-report" / "demo.json").read_text(encoding="utf-8"))
    assert stored["metrics"] == report["metrics"]


def test_an_existing_report_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("mine", encoding="utf-8")
    done = run_demo("-o", tmp_path)
    assert done.exit_code == 2
    assert "report.html: exists already" in done.stderr
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("arguments", [("--size", "32"), ("--size", "512"), ("--device", "abacus")])
def test_wrong_options_exit_2_and_write_nothing(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run_demo("-o", tmp_path / "out", "--phantom", *arguments)
    assert done.exit_code == 2
    assert arguments[0] in done.stderr
    assert not (tmp_path / "out").exists()
