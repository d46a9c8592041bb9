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
_INSIDE_WEIGHT = 0.1
_SIDE_WEIGHT = 0.2
"""Of the head that says whether a side holds air at all."""


def film_loss(maps: FilmMaps, target: FilmMaps, *, air_weight: float) -> Tensor:
    """Cross-entropy of presence plus smooth absolute errors of the lengths (in units of `LENGTH_SCALE_MM`).

    Args:
        maps: of the networks.
        target: lengths of air and lung, mm; its logits are not used.
        air_weight: weight of pixels with air in the cross-entropy.
    """
    present = (target.air_mm > _PRESENT_MM).to(target.air_mm.dtype)
    weight = 1.0 + (air_weight - 1.0) * present
    presence = functional.binary_cross_entropy_with_logits(maps.air_logit, present, weight=weight)
    expected = _length_error(maps.expected_air_mm, target.air_mm).mean()
    inside = (_length_error(maps.air_mm, target.air_mm) * present).sum() / present.sum().clamp(min=1.0)
    lung = _length_error(maps.lung_mm, target.lung_mm).mean()
    loss = presence + _LENGTH_WEIGHT * expected + _INSIDE_WEIGHT * inside + _LUNG_WEIGHT * lung
    if maps.presence_logit is not None:
        is_sick = present.amax(dim=(1, 3, 4))
        loss = loss + _SIDE_WEIGHT * functional.binary_cross_entropy_with_logits(maps.presence_logit, is_sick)
    return loss


def _length_error(estimate: Tensor, truth: Tensor) -> Tensor:
    """Quadratic below `LENGTH_SCALE_MM`, linear above, in its units; without dividing the maps themselves."""
    error = functional.smooth_l1_loss(estimate, truth, reduction="none", beta=LENGTH_SCALE_MM)
    return error / LENGTH_SCALE_MM


def is_finite(loss: Tensor) -> bool:
    """Whether the loss can be followed."""
    return bool(torch.isfinite(loss))
