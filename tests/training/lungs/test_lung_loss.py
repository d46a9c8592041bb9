"""The loss of the lung network."""

from __future__ import annotations

import pytest
import torch

from xrecon.training.lungs.loss import lung_loss


def test_the_loss_prefers_the_truth() -> None:
    sides = torch.randint(3, (1, 8, 8, 8), generator=torch.Generator().manual_seed(0))
    right = 8.0 * torch.nn.functional.one_hot(sides, 3).movedim(-1, 1).float()
    hu = torch.zeros(1, 8, 8, 8)
    good, bad = (float(lung_loss(x, sides, hu, 3.0)) for x in (right, -right))
    assert good < 0.1 < 1.0 < bad


def test_too_much_dense_lung_costs_as_much_as_too_little() -> None:
    hu = torch.full((1, 12, 12, 12), 40.0)
    hu[..., 9:] = -900.0
    sides = torch.zeros(1, 12, 12, 12, dtype=torch.long)
    sides[..., 5:] = 1

    def loss(border: int) -> float:
        guess = torch.zeros_like(sides)
        guess[..., border:] = 1
        return float(lung_loss(6.0 * torch.nn.functional.one_hot(guess, 3).movedim(-1, 1).float(), sides, hu, 6.0))

    less, right, more = loss(6), loss(5), loss(4)
    assert right < min(less, more)
    assert less - right == pytest.approx(more - right, rel=0.2)
