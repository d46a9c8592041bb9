"""The schedule of the learning rate and the averaged weights."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from xrecon.training.run_config import Optimiser
from xrecon.training.schedule import WeightEma, rate_factor


def test_published_course_is_constant_then_falls_and_ends_above_zero() -> None:
    settings = Optimiser()
    factors = [rate_factor(step, 200, settings) for step in range(200)]
    assert factors[:101] == [1.0] * 101
    assert factors[150] == pytest.approx(0.5)
    assert factors[199] == pytest.approx(0.01)
    assert all(a >= b > 0 for a, b in itertools.pairwise(factors))


def test_warm_up_and_no_decay() -> None:
    settings = Optimiser(warm_up_steps=4, decay_share=0.0)
    assert [rate_factor(step, 10, settings) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert rate_factor(9, 10, settings) == 1.0


def test_mean_of_weights_by_hand() -> None:
    network = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.fill_(0.0)
    ema = WeightEma(network, 0.5)
    with torch.no_grad():
        network.weight.fill_(1.0)
    ema.update(network, 0)  # a young average forgets faster: 1/10 of the old remains
    assert float(ema.values["weight"]) == pytest.approx(0.9)
    with torch.no_grad():
        network.weight.fill_(2.0)
    ema.update(network, 1000)
    assert float(ema.values["weight"]) == pytest.approx(0.5 * 0.9 + 0.5 * 2.0)
