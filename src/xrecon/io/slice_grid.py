"""Stacks of slices to regular, orthogonal grids: irregular or missing slices, and the shear of a tilted gantry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.io.guards.arrays import MAX_VOXELS, check_count
from xrecon.io.guards.hounsfield import OUTSIDE_HU
from xrecon.resample import resample_separable

ORTHOGONAL_TOLERANCE = 2e-3
"""Cosine between two axes (0.1 degrees) below which a shear is rounding of the header: under 1 mm over a chest."""
MAX_MISSING = 2


def uniform_slices(
    hu: NDArray[np.float32], positions_mm: NDArray[np.float64], source: Path
) -> tuple[NDArray[np.float32], float, tuple[str, ...]]:
    """Slices at equal distances.

    Args:
        hu: [k, rows, cols], HU, sorted by position.
        positions_mm: [k], strictly increasing, along the stack.
        source: for messages.

    Returns: hu [k', rows, cols], the spacing (mm), notes. Deviations up to 1 % of the spacing (or 0.06 mm, the
    rounding of a header with one decimal) are ignored; up to 2 missing neighbours are interpolated linearly.

    Raises:
        InputError: a larger gap.
    """
    steps = np.diff(positions_mm)
    total = float(positions_mm[-1] - positions_mm[0])
    even = total / len(steps)
    fitted = float(np.polyfit(np.arange(len(positions_mm)), positions_mm, 1)[0])
    for pitch in (even, fitted):  # the ends are rounded too
        offsets = positions_mm - pitch * np.arange(len(positions_mm))
        deviation = np.abs(offsets - (offsets[0] if pitch == even else offsets.mean())).max()
        if deviation <= max(0.01 * pitch, 0.06) and steps.min() > 0.5 * pitch:
            return hu, pitch, ()
    pitch = float(np.median(steps))
    wide = [k for k, step in enumerate(steps) if step > (MAX_MISSING + 1.1) * pitch]
    if wide:
        k = wide[0]
        raise InputError(
            f"{source}: about {round(steps[k] / pitch) - 1} slices are missing between the positions "
            f"{positions_mm[k]:.1f} and {positions_mm[k + 1]:.1f} mm (spacing {pitch:g} mm; {len(wide)} such gaps); at "
            f"most {MAX_MISSING} missing neighbours are interpolated: export the series completely"
        )
    count = round(total / pitch) + 1
    check_count((count, *hu.shape[1:]), source, limit=MAX_VOXELS)
    targets = np.linspace(0.0, total, count)
    offsets = positions_mm - positions_mm[0]
    upper = np.clip(np.searchsorted(offsets, targets - 1e-9), 1, len(offsets) - 1)
    share = ((targets - offsets[upper - 1]) / (offsets[upper] - offsets[upper - 1])).astype(np.float32)
    out = np.empty((count, *hu.shape[1:]), dtype=np.float32)
    for k, (u, t) in enumerate(zip(upper, share, strict=True)):
        out[k] = hu[u - 1] * (1 - t) + hu[u] * t
    gaps = [float(positions_mm[k]) for k, step in enumerate(steps) if step > 1.5 * pitch]
    if gaps:
        where = ", ".join(f"{p:.1f}" for p in gaps[:5]) + (" ..." if len(gaps) > 5 else "")
        note = f"slices missing after the positions {where} mm; interpolated linearly to {total / (count - 1):.3g} mm"
    else:
        note = (
            f"slice spacing varies from {steps.min():.3g} to {steps.max():.3g} mm; interpolated linearly to "
            f"{total / (count - 1):.3g} mm"
        )
    return out, total / (count - 1), (note,)


def remove_shear(
    hu: NDArray[np.float32], affine: NDArray[np.float64], source: Path
) -> tuple[NDArray[np.float32], NDArray[np.float64], tuple[str, ...]]:
    """The volume on orthogonal axes: slices of a tilted gantry are shifted in their own plane.

    Args:
        hu: [i, j, k], HU.
        affine: 4 x 4, index to mm.
        source: for messages.

    Returns: hu (enlarged so that nothing is cut off, padded with -1024), affine with orthogonal columns, notes.

    Raises:
        InputError: no pair of axes is orthogonal (a shear within the slices, which no scanner makes).
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    unit = affine[:3, :3] / spacing
    cosines = unit.T @ unit
    pairs = {2: abs(cosines[0, 1]), 1: abs(cosines[0, 2]), 0: abs(cosines[1, 2])}
    if max(pairs.values()) <= ORTHOGONAL_TOLERANCE:
        return hu, affine, ()
    axis = min(pairs, key=lambda k: pairs[k])  # the axis that the other two, orthogonal ones, do not hold
    if pairs[axis] > ORTHOGONAL_TOLERANCE:
        raise InputError(
            f"{source}: the axes of the affine are sheared in more than one direction (cosines "
            f"{', '.join(f'{v:.3f}' for v in pairs.values())}); resample the volume to an orthogonal grid first"
        )
    return _shift_slices(hu, affine, axis, source)


def _shift_slices(
    hu: NDArray[np.float32], affine: NDArray[np.float64], axis: int, source: Path
) -> tuple[NDArray[np.float32], NDArray[np.float64], tuple[str, ...]]:
    first, second = (k for k in range(3) if k != axis)
    a, b, c = affine[:3, first], affine[:3, second], affine[:3, axis]
    shear = np.array([c @ a / (a @ a), c @ b / (b @ b)])  # in-plane shift per slice, pixels
    straight = c - shear[0] * a - shear[1] * b
    slices = np.moveaxis(hu, axis, 0)
    shifts = shear[None, :] * np.arange(len(slices))[:, None]
    low = shifts.min(axis=0)
    extra = np.ceil(np.ptp(shifts, axis=0)).astype(int)
    shape = (slices.shape[1] + int(extra[0]), slices.shape[2] + int(extra[1]))
    check_count((len(slices), *shape), source)
    out = np.empty((len(slices), *shape), dtype=np.float32)
    for k, (plane, shift) in enumerate(zip(slices, shifts, strict=True)):
        start = (float(low[0] - shift[0]), float(low[1] - shift[1]))
        out[k] = resample_separable(plane, shape, scale=(1.0, 1.0), offset=start, fill=OUTSIDE_HU)
    new = affine.copy()
    new[:3, axis] = straight
    new[:3, 3] = affine[:3, 3] + low[0] * a + low[1] * b
    angle = float(np.degrees(np.arccos(np.clip(np.linalg.norm(straight) / np.linalg.norm(c), -1, 1))))
    note = f"a gantry tilt (shear) of {angle:.1f} degrees was removed by shifting the slices (linear interpolation)"
    return np.ascontiguousarray(np.moveaxis(out, 0, axis)), new, (note,)


def orientation_notes(shape: tuple[int, ...], affine: NDArray[np.float64]) -> tuple[str, ...]:
    """What a user should know of the grid: a scan that is short, thin, or oblique to the patient by over 5 degrees."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    unit = affine[:3, :3] / spacing
    notes = []
    oblique = float(np.degrees(np.arccos(np.clip(np.abs(unit).max(axis=0).min(), 0, 1))))
    if oblique > 5:
        notes.append(f"the scan's axes are oblique to the patient's by {oblique:.1f} degrees; the grid is kept oblique")
    along = int(np.argmax(np.abs(unit[2])))
    coverage = shape[along] * float(spacing[along])
    if shape[along] < 16 or coverage < 50:
        notes.append(f"only {shape[along]} slices, {coverage:.0f} mm from head to feet: not a whole chest")
    return tuple(notes)
