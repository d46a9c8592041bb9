"""Films as the film networks see them: local contrast at two scales, without the absolute level.

The absolute level of a film says how thick and how dense a patient is, and misleads a network that looks for air. What
shows a pneumothorax is local: a rim without markings and the line of the pleura. (Measured: docs/film-networks.md.)
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from jaxtyping import Float
from torch import Tensor

FINE_MM, COARSE_MM, WIDE_MM = 16.5, 49.5, 148.5
"""Widths of the square means that are subtracted (fine, coarse) and over which the deviation is measured."""
CHANNELS = 2
_FLOOR = 0.05
"""Of the film's mean deviation: where less than this happens (outside the body), nothing is amplified."""
_LIMIT = 6.0


def local_contrast(film: Float[Tensor, "*batch rows cols"], pixel_mm: float) -> Float[Tensor, "*batch 2 rows cols"]:
    """Two channels: the film less its mean over 16.5 mm, and over 49.5 mm, each divided by its deviation nearby.

    Gain and offset of the film do not matter.

    Args:
        film: [..., rows, cols], dense tissue bright.
        pixel_mm: pixel pitch at the isocentre, mm.
    """
    x = film.reshape(-1, 1, *film.shape[-2:]).float()
    channels = []
    for inner, outer in ((FINE_MM, COARSE_MM), (COARSE_MM, WIDE_MM)):
        detail = x - _square_mean(x, inner, pixel_mm)
        deviation = _square_mean(detail.square(), outer, pixel_mm).clamp(min=0.0).sqrt()
        floor = _FLOOR * detail.square().mean(dim=(-2, -1), keepdim=True).sqrt()
        channels.append((detail / (deviation + floor + 1e-6)).clamp(-_LIMIT, _LIMIT))
    return torch.cat(channels, dim=1).reshape(*film.shape[:-2], CHANNELS, *film.shape[-2:])


def _square_mean(x: Tensor, width_mm: float, pixel_mm: float) -> Tensor:
    """Mean over a square of an odd number of pixels; at the edge over the part inside."""
    size = 2 * round(0.5 * (width_mm / pixel_mm - 1)) + 1
    size = max(3, min(size, 2 * min(x.shape[-2:]) - 1))
    for kernel, padding in (((size, 1), (size // 2, 0)), ((1, size), (0, size // 2))):
        x = functional.avg_pool2d(x, kernel, stride=1, padding=padding, count_include_pad=False)
    return x
