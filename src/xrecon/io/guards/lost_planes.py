"""Slices that hold one value only: nothing was measured there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError

_LEAST_SLICES = 12
_LEAST_PIXELS = 1024
_AIR_HU = -900.0
_MOST_REPAIRED = 2
"""Missing neighbours that are interpolated, as in `uniform_slices`."""


def mend_lost_planes(hu: NDArray[np.float32], axis: int, source: Path, outside_hu: float) -> tuple[str, ...]:
    """Mend slices of one value, in place, and say so: interpolated inside the stack, `outside_hu` at its ends.

    Slices of air at the ends stay as they are: a picture may end above the patient.

    Args:
        hu: three axes, HU.
        axis: across the slices.
        source: for messages.
        outside_hu: what is outside.

    Raises:
        InputError: more than two neighbours inside the stack hold nothing.
    """
    planes = np.moveaxis(hu, axis, 0)
    if len(planes) < _LEAST_SLICES or planes[0].size < _LEAST_PIXELS:
        return ()
    empty = np.array([np.ptp(plane) == 0 for plane in planes])
    measured = np.flatnonzero(~empty)
    if not empty.any() or not len(measured):
        return ()
    first, last = int(measured[0]), int(measured[-1])
    inside = np.flatnonzero(empty[first : last + 1]) + first
    _check_runs(inside, source)
    for k in inside.tolist():
        below, above = int(measured[measured < k][-1]), int(measured[measured > k][0])
        share = np.float32((k - below) / (above - below))
        planes[k] = (1 - share) * planes[below] + share * planes[above]
    ends = [k for k in (*range(first), *range(last + 1, len(planes))) if planes[k].flat[0] > _AIR_HU]
    values = sorted({f"{float(planes[k].flat[0]):g}" for k in ends})[:3]
    for k in ends:
        planes[k] = outside_hu
    notes = []
    if len(inside):
        notes.append(
            f"{len(inside)} slices inside the stack hold one value only (nothing was measured there): interpolated "
            f"linearly from their neighbours"
        )
    if ends:
        notes.append(
            f"{len(ends)} slices at an end of the stack hold only {' or '.join(values)} HU: padding, set to "
            f"{outside_hu:g} HU; a part of the chest may be missing there"
        )
    return tuple(notes)


def _check_runs(inside: NDArray[np.intp], source: Path) -> None:
    runs = np.split(inside, np.flatnonzero(np.diff(inside) > 1) + 1)
    longest = max(runs, key=len)
    if len(longest) > _MOST_REPAIRED:
        raise InputError(
            f"{source}: {len(longest)} neighbouring slices inside the stack hold one value only (from slice "
            f"{int(longest[0]) + 1}); at most {_MOST_REPAIRED} are interpolated: export the CT again completely"
        )
