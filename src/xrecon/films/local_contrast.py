"""Films as the film networks see them: local contrast at several scales, without the absolute level.

The absolute level of a film says how thick and how dense a patient is, and a network that looks for air learns habitus
from it instead. What shows a pneumothorax is local: a rim without markings, and the line of the pleura.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from jaxtyping import Float
from torch import Tensor

from xrecon.errors import InputError

SCALES_MM: tuple[tuple[float, float], ...] = ((16.5, 49.5), (49.5, 148.5))
"""Per channel: width of the square mean that is subtracted, and of the square over which the deviation is measured."""
_FLOOR = 0.05
"""Of the film's mean deviation: where less than this happens (beside the body), nothing is amplified."""
_LIMIT = 6.0
"""Largest value: the edge of a metal part is no larger than that of a clavicle."""


def local_contrast(
    film: Float[Tensor, "*batch rows cols"],
    pixel_mm: float,
    *,
    scales_mm: Sequence[tuple[float, float]] = SCALES_MM,
) -> Float[Tensor, "*batch scales rows cols"]:
    """Per scale, the film less its local mean, divided by the root mean square of that over a wider neighbourhood.

    Gain and offset of the film do not matter; a gain of 0 (a constant film) gives 0. Squares are cut off at the film's
    edges: means are taken over the part inside.

    Args:
        film: [..., rows, cols] line integrals or display values, dense tissue bright.
        pixel_mm: pixel pitch at the isocentre plane, mm.
        scales_mm: (width of the mean, width of the deviation) per channel, mm.

    Returns:
        [..., scales, rows, cols] float32 in -6..6, dimensionless.

    Raises:
        InputError: a film of less than 2 pixels per edge, or a pixel pitch that is not positive.

    Example:
        >>> local_contrast(torch.rand(2, 256, 256), pixel_mm=1.5).shape
        torch.Size([2, 2, 256, 256])
    """
    if film.ndim < 2 or min(film.shape[-2:]) < 2:
        raise InputError(f"local contrast needs films [..., rows, cols] of at least 2 pixels, got {tuple(film.shape)}")
    if not pixel_mm > 0:
        raise InputError(f"pixel_mm must be positive, got {pixel_mm}")
    x = film.reshape(-1, 1, *film.shape[-2:]).float()
    # A large offset would cost the squares their digits.
    x = x - x.mean(dim=(-2, -1), keepdim=True)
    channels = []
    for mean_mm, deviation_mm in scales_mm:
        detail = x - _square_mean(x, mean_mm / pixel_mm)
        power = detail.square()
        deviation = _square_mean(power, deviation_mm / pixel_mm).clamp(min=0.0).sqrt()
        floor = _FLOOR * power.mean(dim=(-2, -1), keepdim=True).sqrt()
        scale = (deviation + floor).clamp(min=torch.finfo(x.dtype).tiny)
        channels.append((detail / scale).clamp(-_LIMIT, _LIMIT))
    return torch.cat(channels, dim=1).reshape(*film.shape[:-2], len(channels), *film.shape[-2:])


def _square_mean(x: Float[Tensor, "films 1 rows cols"], width: float) -> Float[Tensor, "films 1 rows cols"]:
    """Mean over a square that is nearest to `width` pixels wide and has a pixel in its middle (at least 3)."""
    size = max(3, 2 * round(0.5 * (width - 1.0)) + 1)
    return _running_mean(_running_mean(x, size, dim=-1), size, dim=-2)


def _running_mean(x: Tensor, size: int, *, dim: int) -> Tensor:
    """Mean along an axis over `size` values, or as many as lie inside, from running sums in double precision."""
    length, half = x.shape[dim], size // 2
    sums = functional.pad(x.double().cumsum(dim), (1, 0) if dim == -1 else (0, 0, 1, 0))
    place = torch.arange(length, device=x.device)
    last, first = (place + half + 1).clamp(max=length), (place - half).clamp(min=0)
    shape = (-1,) if dim == -1 else (-1, 1)
    total = sums.index_select(dim, last) - sums.index_select(dim, first)
    return (total / (last - first).reshape(shape)).to(x.dtype)
