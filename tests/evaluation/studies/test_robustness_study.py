"""Disturbed films: each one does what it says, and the study runs from films to report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from xrecon.cli.app import build_app
from xrecon.data.dataset import PreparedDataset
from xrecon.errors import InputError
from xrecon.evaluation.cases import Films, prepared_sources
from xrecon.evaluation.studies.disturbances import LEVELS, MEANINGS, disturbed
from xrecon.evaluation.studies.pneumothorax_study import plan_pneumothorax_study
from xrecon.evaluation.studies.robustness_study import plan_robustness_study, run_robustness_study
from xrecon.volume import Volume


@pytest.fixture(scope="module")
def pair(chests: Path) -> tuple[Films, Volume]:
    chest = prepared_sources(PreparedDataset(chests, "test"))[0].open()
    return chest.films(chest.volume), chest.on_frame(chest.volume)


def test_every_disturbance_changes_the_films_and_keeps_what_the_model_is_told(pair: tuple[Films, Volume]) -> None:
    films, truth = pair
    assert set(LEVELS) == set(MEANINGS)
    same = disturbed(films, truth, kind="none", level=0.0)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(same, films, strict=True))
    for kind, levels in LEVELS.items():
        changed = disturbed(films, truth, kind=kind, level=levels[-1])
        assert any(not np.allclose(a.image, b.image, atol=1e-3) for a, b in zip(changed, films, strict=True)), kind
        assert [one.geometry for one in changed] == [one.geometry for one in films], kind
    with pytest.raises(InputError, match="unknown disturbance"):
        disturbed(films, truth, kind="magic", level=1.0)


def test_disturbances_do_what_they_say(pair: tuple[Films, Volume]) -> None:
    films, truth = pair
    pa, lateral = (film.image for film in films)
    swapped = disturbed(films, truth, kind="swap", level=1.0)
    assert np.array_equal(swapped[0].image, lateral) and np.array_equal(swapped[1].image, pa)
    assert np.array_equal(disturbed(films, truth, kind="mirror", level=1.0)[0].image, pa[:, ::-1])
    assert np.allclose(disturbed(films, truth, kind="gain", level=1.1)[1].image, lateral * 1.1)
    assert disturbed(films, truth, kind="gamma", level=0.8)[0].image.max() == pytest.approx(pa.max())
    assert disturbed(films, truth, kind="crop", level=20.0)[0].image[:12].max() == 0.0
    noise = disturbed(films, truth, kind="noise", level=0.05, seed=3)[0].image - pa
    assert noise.std() == pytest.approx(0.05, rel=0.1)
    # A turn of the lateral rig leaves the PA film alone, and more turn changes more.
    errors = []
    for angle in (1.0, 5.0):
        changed = disturbed(films, truth, kind="angle", level=angle)
        assert np.allclose(changed[0].image, pa, atol=1e-5)
        errors.append(float(np.abs(changed[1].image - lateral).mean()))
    assert 0 < errors[0] < errors[1]
    shifted = disturbed(films, truth, kind="shift", level=12.0)[0].image  # two pixels of 6 mm
    assert np.allclose(shifted[:, 2:], pa[:, :-2], atol=1e-4)


@pytest.mark.slow
def test_the_study_runs_and_reports(chests: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    base = ["study", "robustness", "--dataset", str(chests), "--limit", "1", "--model", "atlas"]
    done = CliRunner().invoke(build_app(), [*base, "--kinds", "swap", "-o", str(out)])
    assert done.exit_code == 0, done.stderr
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert [(one["kind"], one["level"], one["n"]) for one in summary["results"]] == [("none", 0.0, 1), ("swap", 1.0, 1)]
    plain, swapped = (one["psnr_2500_db"]["value"] for one in summary["results"])
    assert swapped < plain  # honesty: what is plainly wrong must score worse
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "films exchanged" in page and page.count("<table>") == 1
    done = CliRunner().invoke(build_app(), [*base, "--kinds", "magic", "-o", str(tmp_path / "other")])
    assert done.exit_code == 2 and "unknown disturbances" in done.stderr


@pytest.mark.parametrize("study", ["pneumothorax", "robustness"])
def test_studies_refuse_options_without_effect_and_unusable_devices(chests: Path, tmp_path: Path, study: str) -> None:
    for arguments, message in (
        (["--device", "abacus"], "--device abacus"),
        (["--device", "meta"], "--device meta: computes nothing"),
        (["--size", "80"], "--size 80: the cases of the data set"),
        (["--geometry", "prost"], "--geometry prost"),
        (["--split", "split.yaml"], "--split split.yaml"),
        (["--workers", "2", "--scheduler", "tcp://127.0.0.1:1"], "--workers 2: the scheduler"),
    ):
        command = ["study", study, "--dataset", str(chests), "-o", str(tmp_path / "out"), *arguments]
        done = CliRunner().invoke(build_app(), command)
        assert done.exit_code == 2, done.stderr
        assert message in done.stderr
        assert not (tmp_path / "out").exists()


def test_studies_compute_on_the_device(chests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[str] = []

    def spy(*_films: object, device: str, **_options: object) -> None:
        devices.append(device)
        raise InputError("stop")

    monkeypatch.setattr("xrecon.evaluation.models.reconstruct", spy)
    monkeypatch.setattr("xrecon.evaluation.plan.usable_device", lambda name: name)
    plan = plan_robustness_study(chests, models=["xrecon"], kinds=["swap"], limit=1, device="cuda:1")
    with pytest.raises(InputError, match="nothing could be studied: one, none 0, xrecon: InputError: stop"):
        run_robustness_study(plan, tmp_path)
    assert devices == ["cuda:1", "cuda:1"]
    planted = plan_pneumothorax_study(chests, models=["atlas", "xrecon"], limit=1, device="cuda:1")
    assert planted.device == "cuda:1" and [choice.device for choice in planted.models] == ["cuda:1", "cuda:1"]
