"""Noise copied from elsewhere in a scan: the grain of its air as it is, not a model of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.anatomy.healthy_lungs import ChestAir
from xrecon.anatomy.morphology import Box, Floats, Mask
from xrecon.volume import Volume

_WIDE, _NARROW = (10, 7, 5), (4, 3)
"""Half the edge across of the block that is copied, in voxels; it is twice as long from head to feet. The largest that
fits somewhere is taken, and narrow ones of the windpipe only where no wide one fits anywhere in air."""
_SLOW_VOXELS = 3.0
_LEAST_SD_HU = 1.0
_LARGEST_HU = 120.0
_CLIPPED_SHARE = 0.01
"""A block with more voxels than this at the scan's lowest value is clipped there."""
_TRIES = 250
_AIR_BELOW_HU = -900.0
_TISSUE_HU = (-20.0, 110.0)


def copied_grain(ct: Volume, chest: ChestAir, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """[D, H, W] noise in HU: a block of the scan without its slow part, repeated in mirrored copies without seams.

    The block lies in the windpipe; where that is too narrow, in the air round the patient, unless the scan clips it
    there; else in soft tissue. A scan without any of them gives no noise.
    """
    places = ((_windpipe, _WIDE), (_outside_air, _WIDE), (_windpipe, _NARROW), (_soft_tissue, (*_WIDE, *_NARROW)))
    for region, halves in places:
        block = _block_in(ct.hu, region(ct, chest), halves, rng)
        if block is not None:
            order = [_mirrored(int(rng.integers(2 * n)), count, n) for count, n in zip(shape, block.shape, strict=True)]
            return np.asarray(block[np.ix_(*order)], dtype=np.float32)
    return np.zeros(shape, dtype=np.float32)


def _windpipe(_: Volume, chest: ChestAir) -> Mask:
    return chest.airway


def _outside_air(ct: Volume, chest: ChestAir) -> Mask:
    return np.asarray(~chest.body & (ct.hu < _AIR_BELOW_HU))


def _soft_tissue(ct: Volume, chest: ChestAir) -> Mask:
    low, high = _TISSUE_HU
    return np.asarray(chest.body & (ct.hu > low) & (ct.hu < high))


def _block_in(hu: Floats, mask: Mask, halves: tuple[int, ...], rng: np.random.Generator) -> Floats | None:
    """[d, h, w] HU: a block of the mask less its slow part; None where none fits or all are constant or clipped."""
    places = np.flatnonzero(mask)
    if len(places) == 0:
        return None
    lowest = float(hu.min())
    for half in halves:
        for place in rng.choice(places, _TRIES):
            part = _part(place, (2 * half, half, half), mask.shape)
            if part is None or not mask[part].all():
                continue
            block = hu[part]
            rest = block - ndimage.gaussian_filter(block, _SLOW_VOXELS)
            if float(np.mean(block <= lowest)) <= _CLIPPED_SHARE and rest.std() >= _LEAST_SD_HU:
                return np.asarray(np.clip(rest - rest.mean(), -_LARGEST_HU, _LARGEST_HU), dtype=np.float32)
    return None


def _part(place: int, halves: tuple[int, int, int], shape: tuple[int, ...]) -> Box | None:
    """The block round a place, given by its flat index; None where it leaves the array."""
    corner = [int(p) - half for p, half in zip(np.unravel_index(place, shape), halves, strict=True)]
    if any(c < 0 or c + 2 * half > n for c, half, n in zip(corner, halves, shape, strict=True)):
        return None
    d, h, w = (slice(c, c + 2 * half) for c, half in zip(corner, halves, strict=True))
    return d, h, w


def _mirrored(start: int, count: int, size: int) -> NDArray[np.int64]:
    """Indices 0..size-1 forth and back, `count` of them from `start` on."""
    places = (np.arange(count) + start) % (2 * size)
    return np.asarray(np.where(places < size, places, 2 * size - 1 - places), dtype=np.int64)
