"""HU: whether values can be those of a CT, and padding outside the field of view."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.io.guards.arrays import check_finite, check_not_constant
from xrecon.io.guards.border_fill import clear_border_fill
from xrecon.io.guards.lost_planes import mend_lost_planes
from xrecon.io.guards.nan_padding import clear_nan_padding
from xrecon.io.guards.wrapped import (
    LEAST_SAMPLE,
    MAX_HU,
    PADDING_BELOW_HU,
    StoredScale,
    sampled,
    share_between,
    spread_of,
    unwrap,
)

OUTSIDE_HU = -1024.0
"""What a CT holds where nothing was measured: outside the body once the table is removed, and beyond the scan."""
HU_ABSURD = 1e5
_LEAST_SPAN = 50.0
_AIR_FROM, _AIR_TO = -1100.0, -700.0
"""Where the air of a chest gathers, in lungs and outside."""
_STORED = StoredScale()
_EXPORT = "export the CT again with its rescale slope and intercept applied once (air -1000, water 0)"
_LOST = (
    "this looks like HU + 1024 (a lost rescale intercept); subtract 1024 (in DICOM: set RescaleIntercept to -1024) or "
    "export the CT with its rescale tags"
)


def check_hu(
    hu: NDArray[np.float32],
    source: Path,
    *,
    scale: StoredScale = _STORED,
    axis: int = 0,
    synthetic: bool = False,
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """HU values that can be a CT, and notes on what was repaired. Every reader of a CT asks here.

    Repaired in place, with a note, where it is certain: NaN round the field of view, negative numbers that wrapped
    round in unsigned pixels, padding of one value round the field of view, and padding below -1100 HU. Padding becomes
    -1024.

    Args:
        hu: three axes.
        source: for messages.
        scale: how stored values became HU.
        axis: across the axial slices.
        synthetic: the values were computed: where air and tissue gather is not judged.

    Raises:
        InputError: NaN, a constant volume, and values that are plainly not HU (0..1, 0..255, HU + 1024, beyond what
            metal shows, rescaled twice or not at all).
    """
    padded = clear_nan_padding(hu, axis, OUTSIDE_HU)
    check_finite(hu, source, what="voxels inside the field of view" if padded else "voxels")
    check_not_constant(hu, source, what="voxels")
    notes = [*padded, *unwrap(hu, source, scale)]
    _check_range(hu, source)
    notes += mend_lost_planes(hu, axis, source, OUTSIDE_HU)
    notes += clear_border_fill(hu, axis, OUTSIDE_HU)
    if float(hu.max()) > MAX_HU:
        raise InputError(
            f"{source}: the values run up to {float(hu.max()):g}, which cannot be HU (metal shows 20000 at most); "
            f"check rescale slope and intercept; if such voxels are padding, set them to {OUTSIDE_HU:g}"
        )
    if not synthetic:
        _check_tissue(sampled(hu), source)
    low = float(hu.min())
    if low < PADDING_BELOW_HU:
        padding = hu < PADDING_BELOW_HU
        notes.append(f"{int(padding.sum())} voxels below {PADDING_BELOW_HU:g} HU (padding) set to {OUTSIDE_HU:g} HU")
        hu[padding] = OUTSIDE_HU
        check_not_constant(hu, source, what="voxels above the padding")
    if low > -500:
        notes.append(f"no value below {low:g} HU: no air in the picture; is this a chest CT in HU?")
    return hu, tuple(notes)


def _check_range(hu: NDArray[np.float32], source: Path) -> None:
    """Raises InputError for values whose range alone says that they are no HU."""
    low, high = float(hu.min()), float(hu.max())
    span = f"{source}: the values run from {low:g} to {high:g}"
    if max(abs(low), abs(high)) > HU_ABSURD:
        raise InputError(f"{span}, which cannot be HU; check rescale slope and intercept, or convert to HU")
    if low >= -1.5 and high <= 1.5:
        raise InputError(f"{span}: normalised values, not HU; convert them back to HU (air -1000, water 0)")
    if high - low < _LEAST_SPAN:
        raise InputError(
            f"{span}, too little for HU (air -1000, water 0, bone over 300): density, normalised or other units; "
            f"convert them back to HU, or export the CT again"
        )
    if low >= 0 and high <= 255:
        raise InputError(f"{span}: 8-bit display values, not HU; export the CT with its HU (air -1000, water 0)")
    if low >= 0 and high > 1000:
        sample = sampled(hu)
        if sample.size >= LEAST_SAMPLE and share_between(sample, 850, 1250) < 0.05:
            raise InputError(
                f"{span}: nothing is below 0 HU, and little is near 1024: negative values were cut off, or these are "
                f"not HU; air and lung cannot be restored: export the CT again with signed values"
            )
        raise InputError(f"{span}: nothing is below 0 HU, so {_LOST}")


def _check_tissue(sample: NDArray[Any], source: Path) -> None:
    """Raises InputError where soft tissue gathers at HU that it cannot have: a slope or intercept lost or repeated."""
    if sample.size < LEAST_SAMPLE:
        return
    dark = sample[sample < PADDING_BELOW_HU]
    soft = share_between(sample, -200, 300)
    if dark.size * spread_of(dark) > 0.05 * sample.size and soft < 0.02:
        raise InputError(
            f"{source}: {dark.size / sample.size:.0%} of the values are below {PADDING_BELOW_HU:g} HU and vary, and "
            f"almost none is soft tissue: the rescale intercept was applied twice (air near -2024); add 1024, or "
            f"{_EXPORT}"
        )
    _check_slope(sample, dark, source)
    air, bone = sample[(sample >= PADDING_BELOW_HU) & (sample <= -300)], sample[(sample >= 850) & (sample <= 1250)]
    if air.size * spread_of(air) < 0.001 * sample.size and bone.size * spread_of(bone) > 0.05 * sample.size:
        raise InputError(f"{source}: no air but padding is below 0 HU, and much lies near 1024 HU, so {_LOST}")
    bright = sample[sample > -400]
    if bright.size < 0.02 * sample.size:
        if soft < 0.005 and share_between(sample, 150, np.inf) > 0:
            raise InputError(f"{source}: almost none of the values is soft tissue (-200 to 300 HU); {_EXPORT}")
        return
    counts, edges = np.histogram(bright, bins=np.arange(-400, 3200, 25))
    near = np.convolve(counts, np.ones(3), mode="same")
    peak = float(edges[int(np.argmax(near))]) + 12.5
    if -250 <= peak <= 300:
        return
    raise InputError(
        f"{source}: soft tissue gathers near {peak:.0f} HU, expected 0 to 100: a rescale slope or intercept is lost or "
        f"was applied twice, or the values are not HU; {_EXPORT}"
    )


def _check_slope(sample: NDArray[Any], dark: NDArray[Any], source: Path) -> None:
    """Raises InputError where soft tissue may lie right, but air does not: the slope is too large or too small."""
    air = share_between(sample, _AIR_FROM, _AIR_TO)
    varied = dark.size * spread_of(dark) / sample.size
    if varied > 0.05 and air < 0.25 * varied:
        raise InputError(
            f"{source}: {dark.size / sample.size:.0%} of the values are below {PADDING_BELOW_HU:g} HU and vary, and "
            f"few lie where air does: the rescale slope is too large or was applied twice; {_EXPORT}"
        )
    pale = sample[(sample > _AIR_TO) & (sample < -300)]
    if air < 0.001 and not dark.size and pale.size * spread_of(pale) > 0.1 * sample.size:
        raise InputError(
            f"{source}: air gathers near {float(np.median(pale)):.0f} HU, expected -1000: the rescale slope is too "
            f"small or a part of the values was cut off; {_EXPORT}"
        )
