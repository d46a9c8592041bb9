"""Values that wrapped round: negative numbers in pixels that are declared unsigned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xrecon.errors import InputError

MAX_HU = 31000.0
"""More than any material shows (metal: up to 20000 in the extended scale), and less than what wraps."""
PADDING_BELOW_HU = -1100.0
LEAST_SAMPLE = 4096
"""Fewer voxels say nothing of where air and tissue gather."""
_SHORT_BITS = (12, 13, 14, 15)
_LEAST_SHARE = 0.01
_MAX_SAMPLE = 2_000_000


@dataclass(frozen=True)
class StoredScale:
    """HU = slope * stored + intercept; numbers, or arrays that broadcast against the volume."""

    slope: ArrayLike = 1.0
    intercept: ArrayLike = 0.0


def sampled(values: NDArray[Any]) -> NDArray[Any]:
    """At most two million of the values, evenly, in memory order."""
    flat = values.ravel(order="K")
    return flat[:: 1 + flat.size // _MAX_SAMPLE]


def share_between(values: NDArray[Any], low: float, high: float) -> float:
    """Share of the values in [low, high], 0..1."""
    return float(np.count_nonzero((values >= low) & (values <= high))) / max(values.size, 1)


def spread_of(values: NDArray[Any]) -> float:
    """Share of the values that are none of the three most frequent ones: 0 for padding, near 1 for a measurement."""
    if not values.size:
        return 0.0
    counts = np.sort(np.unique(np.rint(values), return_counts=True)[1])
    return 1.0 - float(counts[-3:].sum()) / values.size


def unwrap(hu: NDArray[np.float32], source: Path, scale: StoredScale) -> tuple[str, ...]:
    """Subtract 65536 (stored) where negative numbers wrapped round, in place, and say so.

    Done only where it is certain: the result shows air and soft tissue, and what is below any HU is constant padding.

    Raises:
        InputError: values of 32768 or more that such a subtraction does not explain.
    """
    slope, intercept = np.asarray(scale.slope, dtype=np.float64), np.asarray(scale.intercept, dtype=np.float64)
    top = float(hu.max())
    if slope.min() <= 0:
        return ()
    if top < float((32768 * slope + intercept).min()):
        return _unwrap_short(hu, slope, intercept)
    if top >= float((65536 * slope + intercept).max()):
        return ()
    high = hu >= 32768 * slope + intercept - 0.25 * slope
    if not high.any():
        return ()
    factor, offset = np.broadcast_to(slope, hu.shape)[high], np.broadcast_to(intercept, hu.shape)[high]
    after = hu[high] - 65536 * factor
    rest = hu[~high]
    dark = after < PADDING_BELOW_HU
    constant = spread_of((after[dark] - offset[dark]) / factor[dark]) <= 0.02 or dark.sum() <= 0.02 * after.size
    together = np.concatenate([after[~dark], rest])
    if not (constant and _is_chest(sampled(together)) and float(rest.max(initial=0.0)) <= MAX_HU):
        raise InputError(
            f"{source}: {int(high.sum())} voxels hold stored values of 32768 or more (up to {top:g} HU): negative "
            f"numbers that wrapped round in pixels declared unsigned (63536 is -2000), or a damaged scale; subtract "
            f"65536 from them and save the CT as signed int16"
        )
    hu[high] = after
    count = f"{int(high.sum())} voxels (up to {top:g} HU)"
    return (f"{count} were negative numbers that wrapped round in unsigned pixels: 65536 subtracted as stored",)


def _unwrap_short(
    hu: NDArray[np.float32], slope: NDArray[np.float64], intercept: NDArray[np.float64]
) -> tuple[str, ...]:
    """The same for signed values of 12 to 15 bits without a negative one, whose air gathers at 2**bits - 1000."""
    if slope.size > 1 or intercept.size > 1:
        return ()
    factor, offset = float(slope), float(intercept)
    sample = sampled(hu)
    if sample.size < LEAST_SAMPLE or share_between(sample, -1100, -300) > 0.001:
        return ()
    for bits in _SHORT_BITS:
        modulus, half = factor * 2**bits, factor * 2 ** (bits - 1) + offset
        if float(hu.max()) >= modulus + offset or share_between(sample, modulus - 1120, modulus - 880) < 0.03:
            continue
        if _is_chest(np.where(sample >= half, sample - modulus, sample)):
            wrapped = hu >= half
            hu[wrapped] -= np.float32(modulus)
            count = f"{int(wrapped.sum())} voxels"
            return (f"{count} were negative numbers of {bits} bits in unsigned pixels: {2**bits} subtracted as stored",)
    return ()


def _is_chest(values: NDArray[Any]) -> bool:
    return min(share_between(values, -1100, -800), share_between(values, -150, 150)) >= _LEAST_SHARE
