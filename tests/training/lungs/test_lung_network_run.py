"""A whole run of `xrecon train lungs`: cases, training, weights with their description."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from xrecon.data.split import Split
from xrecon.errors import CheckpointError, InputError, OutputExistsError
from xrecon.models import create
from xrecon.models.checkpoint import load_model, save_model
from xrecon.models.lung_network import LungNetConfig
from xrecon.training.lungs import lung_run
from xrecon.training.lungs.loop import LungTraining
from xrecon.training.lungs.lung_run import train_lung_network
from xrecon.training.lungs.planted_cases import Recipe

TINY = LungNetConfig(channels=(4, 6), pitch_mm=12.0)


@pytest.fixture(autouse=True)
def small_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """One healthy variant per CT, a network that fits into a few kB, small volumes."""
    monkeypatch.setattr("xrecon.training.lungs.planted_cases.recipes", lambda _i, seed=0, rounds=1: [Recipe("healthy")])
    monkeypatch.setattr(lung_run, "LungNetConfig", lambda: TINY)
    monkeypatch.setattr(lung_run, "LungTraining", functools.partial(LungTraining, shape=(16, 16, 16)))


def test_a_run_stores_weights_with_their_origin_and_another_goes_on_from_them(
    phantom64_file: Path, tmp_path: Path
) -> None:
    cases = [("anna", phantom64_file)]
    split = Split(train=("anna",), test=("bert",), source="one phantom", licence="CC0")
    first = train_lung_network(cases, tmp_path / "first", minutes=0.01, split=split)
    network, information = load_model(first.weights.parent)
    assert network.config == TINY
    assert information.name == "lungs"
    assert information.training_data == "1 chest CTs with planted air (1 volumes). one phantom"
    assert information.licence == "Apache-2.0; training data CC0"
    assert first.cases == ("anna",)
    assert first.metrics["training_volumes"] == 1
    with pytest.raises(OutputExistsError):
        train_lung_network(cases, tmp_path / "first", minutes=0.01)
    second = train_lung_network(cases, tmp_path / "second", minutes=0.01, start=tmp_path / "first")
    assert second.metrics["begun_with_sha256"] == information.sha256
    assert load_model(second.weights.parent)[1].training_data.endswith("A folder of CTs, no split.")


def test_a_start_without_weights_or_with_another_network_is_refused(phantom64_file: Path, tmp_path: Path) -> None:
    cases = [("anna", phantom64_file)]
    with pytest.raises(InputError, match=r"holds no model\.safetensors"):
        train_lung_network(cases, tmp_path / "out", start=tmp_path)
    other = create("x2ct-gan", size=64, growth=4, stem_channels=4, dense_layers=(1, 1, 1, 1, 1))
    save_model(other, tmp_path / "other", name="other", training_data="none", licence="none")
    with pytest.raises(CheckpointError, match="expected a lung network"):
        train_lung_network(cases, tmp_path / "out", start=tmp_path / "other")
