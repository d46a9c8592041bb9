"""Arrays: how many elements a header may claim, and values that are finite and not all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError

MAX_VOXELS = 2**30
MAX_PIXELS = 150_000_000


def check_count(shape: tuple[int, ...], source: Path, *, limit: int = MAX_VOXELS, what: str = "voxels") -> int:
    """Number of elements of `shape`. Raises InputError where an axis is empty or the product is over `limit`."""
    if not shape or min(shape) < 1:
        raise InputError(f"{source}: the header gives the size {shape}; every axis needs at least one of {what}")
    total = 1
    for length in shape:
        total *= int(length)
    if total > limit:
        raise InputError(
            f"{source}: the header claims {'x'.join(map(str, shape))} = {total:.3g} {what}, the limit is {limit:.3g}; "
            f"the file is damaged or hostile, or must be cropped first"
        )
    return total


def check_finite(values: NDArray[Any], source: Path, *, what: str) -> None:
    """Raises InputError if `values` hold NaN or infinity."""
    if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
        bad = int(values.size - np.count_nonzero(np.isfinite(values)))
        raise InputError(f"{source}: {bad} of {values.size} {what} are NaN or infinite; repair or export again")


def check_not_constant(values: NDArray[Any], source: Path, *, what: str) -> None:
    """Raises InputError if all `values` are equal: an empty image."""
    if float(values.min()) == float(values.max()):
        raise InputError(
            f"{source}: all {what} have the same value {float(values.flat[0]):g}: an empty image; export the file again"
        )
