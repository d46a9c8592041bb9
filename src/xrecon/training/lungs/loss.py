"""The loss of the lung network: weighted cross-entropy plus soft Dice."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from xrecon.models.lung_network import CLASSES

_TISSUE_HU = -400.0
"""Lung above this holds no air: collapsed or filled."""
_NEIGHBOUR_VOXELS = 3


def lung_loss(logits: Tensor, sides: Tensor, hu: Tensor, dense_weight: float) -> Tensor:
    """Cross-entropy, in which lung without air weighs more (it is rare, and no threshold finds it), plus soft Dice.

    The tissue beside it weighs the same: otherwise too much lung would cost less than too little of it.

    Args:
        logits: [N, CLASSES, D, H, W].
        sides: [N, D, H, W] integer: 0 background, 1 right, 2 left.
        hu: [N, D, H, W], HU.
        dense_weight: weight of lung without air and of the tissue beside it; everything else weighs 1.
    """
    tissue = hu > _TISSUE_HU
    dense = ((sides > 0) & tissue).float()
    near = functional.max_pool3d(dense[:, None], 2 * _NEIGHBOUR_VOXELS + 1, stride=1, padding=_NEIGHBOUR_VOXELS)[:, 0]
    weight = 1.0 + (dense_weight - 1.0) * near * tissue
    entropy = (functional.cross_entropy(logits, sides, reduction="none") * weight).sum() / weight.sum()
    share = torch.softmax(logits, dim=1)
    truth = functional.one_hot(sides, CLASSES).movedim(-1, 1).float()
    overlap, total = (share * truth).sum(dim=(0, 2, 3, 4)), (share + truth).sum(dim=(0, 2, 3, 4))
    return entropy + 1.0 - ((2.0 * overlap + 1.0) / (total + 1.0))[1:].mean()
