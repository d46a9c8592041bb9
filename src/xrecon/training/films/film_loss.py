"""Loss of the film networks: presence of air, length of air, length of lung."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from xrecon.models.film_network import LENGTH_SCALE_MM, FilmMaps

_PRESENT_MM = 1.5
"""Air of at least this length along a ray counts as present."""
_LUNG_WEIGHT = 0.5
_LENGTH_WEIGHT = 2.0


def film_loss(maps: FilmMaps, target: FilmMaps, *, air_weight: float) -> Tensor:
    """Cross-entropy of presence plus smooth absolute errors of the lengths.

    Args:
        maps: of the networks.
        target: lengths of air and lung, mm; its logits are not used.
        air_weight: weight of pixels with air in the cross-entropy.
    """
    present = (target.air_mm > _PRESENT_MM).float()
    weight = 1.0 + (air_weight - 1.0) * present
    presence = functional.binary_cross_entropy_with_logits(maps.air_logit, present, weight=weight)
    length = functional.smooth_l1_loss(maps.air_mm / LENGTH_SCALE_MM, target.air_mm / LENGTH_SCALE_MM, reduction="none")
    expected = functional.smooth_l1_loss(maps.expected_air_mm / LENGTH_SCALE_MM, target.air_mm / LENGTH_SCALE_MM)
    inside = (length * present).sum() / present.sum().clamp(min=1.0)
    lung = functional.smooth_l1_loss(maps.lung_mm / LENGTH_SCALE_MM, target.lung_mm / LENGTH_SCALE_MM)
    return presence + _LENGTH_WEIGHT * expected + 0.1 * inside + _LUNG_WEIGHT * lung


def is_finite(loss: Tensor) -> bool:
    """Whether the loss can be followed."""
    return bool(torch.isfinite(loss))
