"""The lung network: its parts, its size and its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from xrecon.errors import CheckpointError, OutputExistsError
from xrecon.models.checkpoint import WEIGHTS_NAME, load_model, save_model
from xrecon.models.lung_network import (
    LungNet,
    LungNetConfig,
    _fold,
    _unfold,
    network_input,
    predict,
)

TINY = LungNetConfig(channels=(4, 6), pitch_mm=12.0)


def test_folding_keeps_every_value_in_its_place() -> None:
    x = torch.arange(2 * 3 * 8 * 4 * 6, dtype=torch.float32).reshape(2, 3, 8, 4, 6)
    folded = _fold(x)
    assert folded.shape == (2, 24, 4, 2, 3)
    assert torch.equal(_unfold(folded), x)
    assert set(folded[0, :8, 0, 0, 0].tolist()) == set(x[0, 0, :2, :2, :2].flatten().tolist())


def test_the_windows_are_scaled_and_clipped() -> None:
    values = network_input(torch.tensor([-2000.0, -1000.0, -650.0, 0.0, 3000.0]).reshape(1, 1, 1, 5))
    assert values.shape == (1, 2, 1, 1, 5)
    assert values[0, 0].flatten().tolist() == [-1.0, -1.0, 0.0, 1.0, 1.0]
    assert values[0, 1].flatten().tolist() == [-1.0, -1.0, -1.0, 0.0, 1.0]


def test_the_shipped_size_stays_below_five_megabytes() -> None:
    assert 2 * sum(weight.numel() for weight in LungNet().parameters()) < 5_000_000


def test_shares_add_up_on_any_grid() -> None:
    torch.manual_seed(0)
    hu = np.random.default_rng(0).uniform(-1000, 200, (37, 50, 61)).astype(np.float32)
    shares = predict(LungNet(TINY).eval(), hu, (5.0, 2.0, 2.0)).fine()
    assert shares.shape == (3, *hu.shape)
    np.testing.assert_allclose(shares.sum(axis=0), 1.0, atol=1e-5)
    assert shares.min() > -1e-5


def test_saved_weights_are_the_same_and_guarded(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = LungNet(TINY)
    save_model(network, tmp_path, name="tiny", training_data="none", licence="none", dtype=torch.float16)
    loaded, information = load_model(tmp_path, dtype=torch.float32)
    assert information.parameters == sum(weight.numel() for weight in network.parameters())
    for before, after in zip(network.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(before.half().float(), after)
    with pytest.raises(OutputExistsError):
        save_model(network, tmp_path, name="tiny", training_data="none", licence="none", dtype=torch.float16)
    weights = tmp_path / WEIGHTS_NAME
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged or changed"):
        load_model(tmp_path)
