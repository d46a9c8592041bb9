"""Grids of runs: what they compare, and by which numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xrecon.config import load_config
from xrecon.errors import ConfigError
from xrecon.training.ablations import bootstrap_interval, compare, load_grid
from xrecon.training.run_config import Training
from xrecon.training.validation import CaseFigures

CONFIGS = Path(__file__).parents[2] / "configs"


def _figures(*values: float) -> list[CaseFigures]:
    return [CaseFigures(f"c{i}", psnr=v, mae_hu=v, body_mae_hu=10 * v, ssim=v / 100) for i, v in enumerate(values)]


def test_runs_are_compared_case_by_case_with_the_first() -> None:
    table = compare({"base": _figures(20, 22, 27), "other": _figures(21, 23, 28), "odd": _figures(19, 24)})
    assert table.baseline == "base"
    base, other, odd = (run.to_dict() for run in table.runs)
    assert base["psnr"] == pytest.approx(23)
    assert "psnr_difference" not in base
    assert other["psnr_difference"] == {"mean": pytest.approx(1), "low": pytest.approx(1), "high": pytest.approx(1)}
    assert other["body_mae_hu_difference"]["mean"] == pytest.approx(10)
    assert odd["count"] == 2  # the denominator is printed
    assert odd["psnr_difference"]["mean"] == pytest.approx(0.5)  # over the shared cases only
    assert table.rows[2][1] == "2"
    assert compare({"base": _figures(20), "none": []}).rows[1][2] == "-"


def test_bootstrap_interval_of_the_mean() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    low, high = bootstrap_interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("runs: [{name: a}, {name: a}]", "two runs are called 'a'"),
        ("runs: []", "runs"),
        ("runs: [{name: '../x'}]", "runs"),
        ("run: [{name: a}]", "did you mean 'runs'"),
    ],
)
def test_grids_that_make_no_sense_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_grid(file)


@pytest.mark.parametrize(
    "name", ["xrecon_224_paper", "xrecon_128", "x2ctgan_128", "xrecon_128_slim", "x2ctgan_128_slim", "tiny_cpu"]
)
def test_shipped_settings_are_valid(name: str) -> None:
    training = load_config(Training, CONFIGS / f"{name}.yaml")
    assert training.name


def test_every_shipped_ablation_is_valid_and_changes_something() -> None:
    runs = load_grid(CONFIGS / "ablations.yaml").runs
    dumps = [load_config(Training, CONFIGS / "tiny_cpu.yaml", run.set).model_dump(mode="json") for run in runs]
    assert len({repr(dump) for dump in dumps}) == len(runs) == 7


def test_the_paper_settings_are_those_of_the_specification() -> None:
    paper = load_config(Training, CONFIGS / "xrecon_224_paper.yaml")
    assert (paper.losses.adversarial, paper.losses.voxel, paper.losses.projection) == (1.0, 10.0, 0.1)
    assert paper.losses.projection_compatible
    assert paper.optimiser.learning_rate == 5e-5
    assert paper.optimiser.betas == (0.5, 0.99)
    assert (paper.run.epochs, paper.optimiser.decay_share, paper.data.batch_size) == (200, 0.5, 1)
