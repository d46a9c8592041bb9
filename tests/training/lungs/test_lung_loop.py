"""The training loop of the lung network: what it learns, stores and resumes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from xrecon.errors import CheckpointError, InputError
from xrecon.models.lung_network import (
    LungNet,
    LungNetConfig,
)
from xrecon.training.lungs.held_out import held_out
from xrecon.training.lungs.loop import STATE_NAME, LungTraining, train_lungs

TINY = LungNetConfig(channels=(4, 6), pitch_mm=12.0)


QUICK = LungTraining(minutes=0.02, shape=(16, 16, 16), checkpoint_minutes=0.005)


def test_every_fifth_patient_is_held_out() -> None:
    names = [f"p{i}" for i in range(14)]
    assert held_out(names) == ("p2", "p7", "p12")
    assert held_out(["a", "a", "b"]) == ()


def test_training_learns_stores_and_resumes(phantom_cases: list[tuple[str, Path]], tmp_path: Path) -> None:
    lines: list[str] = []
    network, metrics = train_lungs(phantom_cases, tmp_path, settings=QUICK, network=TINY, progress=lines.append)
    assert metrics.held_out_patients == ("c",)
    assert metrics.steps > 0
    assert 0.0 <= metrics.to_dict()["held_out_dice_at_12_mm_healthy"]["mean"] <= 1.0
    assert "held out: c" in lines[0]
    longer = replace_minutes(QUICK, 0.03)
    more, later = train_lungs(
        phantom_cases, tmp_path, settings=longer, network=TINY, resume=True, progress=lines.append
    )
    assert later.steps > metrics.steps
    assert any(not torch.equal(a, b) for a, b in zip(network.parameters(), more.parameters(), strict=True))
    with pytest.raises(CheckpointError, match="another network"):
        train_lungs(phantom_cases, tmp_path, settings=QUICK, network=LungNetConfig(), resume=True)
    (tmp_path / STATE_NAME).unlink()
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train_lungs(phantom_cases, tmp_path, settings=QUICK, network=TINY, resume=True)


def test_training_begins_with_given_weights(phantom_cases: list[tuple[str, Path]], tmp_path: Path) -> None:
    torch.manual_seed(5)
    start = LungNet(TINY)
    before = [weight.detach().clone() for weight in start.parameters()]
    still = QUICK.model_copy(update={"minutes": 0.001, "learning_rate": 0.0, "weight_decay": 0.0})
    network, metrics = train_lungs(phantom_cases, tmp_path, settings=still, start=start, progress=lambda _line: None)
    assert metrics.steps > 0
    assert network.config == TINY
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(before, network.parameters(), strict=True))


def replace_minutes(settings: LungTraining, minutes: float) -> LungTraining:
    return settings.model_copy(update={"minutes": minutes})


def test_no_cases_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training cases"):
        train_lungs([], tmp_path, settings=QUICK)
