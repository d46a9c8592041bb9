"""Grids: pixel spacings and affines that a chest CT or a film can have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xrecon.errors import InputError

SPACING_RANGE_MM = (0.05, 50.0)
FILM_SPACING_RANGE_MM = (0.01, 20.0)
EXTENT_MAX_MM = 4000.0
_SCANNER_MATRIX = (512, 768, 1024)


def check_spacing(
    spacing_mm: ArrayLike, source: Path, *, tag: str, limits: tuple[float, float] = SPACING_RANGE_MM, remedy: str = ""
) -> tuple[float, ...]:
    """`spacing_mm` as floats if all are finite and within `limits` (mm). Raises InputError naming file and tag."""
    values = tuple(float(v) for v in np.atleast_1d(np.asarray(spacing_mm, dtype=np.float64)))
    if not all(np.isfinite(v) and limits[0] <= v <= limits[1] for v in values):
        raise InputError(
            f"{source}: {tag} gives a spacing of {' x '.join(f'{v:g}' for v in values)} mm; expected "
            f"{limits[0]:g} to {limits[1]:g} mm; {remedy or 'correct the header or export the file again'}"
        )
    return values


def check_affine(affine: ArrayLike, shape: tuple[int, ...], source: Path, *, tag: str) -> NDArray[np.float64]:
    """A 4 x 4 affine that is finite, regular and gives sane spacing and extent. Raises InputError."""
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise InputError(f"{source}: {tag} is not a finite 4 x 4 affine; correct the header or export the file again")
    spacing = check_spacing(np.linalg.norm(matrix[:3, :3], axis=0), source, tag=tag)
    if abs(np.linalg.det(matrix[:3, :3] / np.asarray(spacing))) < 0.1:
        raise InputError(f"{source}: {tag} is singular or nearly so (its axes coincide); correct the header")
    extent = max(n * s for n, s in zip(shape, spacing, strict=False))
    if extent > EXTENT_MAX_MM:
        raise InputError(f"{source}: {tag} and the matrix give {extent:.0f} mm along one axis; expected a chest in mm")
    return matrix


def lost_spacing_notes(affine: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[str, ...]:
    """A note where all voxels measure exactly 1 mm and a script probably never stated their size.

    That is so where the origin is 0 too, or where two axes have the matrix of a scanner: 512 voxels of 1 mm are wider
    than its field of view usually is, and slices of a chest are rarely as thick as its pixels.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if np.abs(spacing - 1.0).max() > 1e-6:
        return ()
    square = max(shape, key=shape.count)
    scanned = square in _SCANNER_MATRIX and shape.count(square) >= 2
    if affine[:3, 3].any() and not scanned:
        return ()
    why = f"with a matrix of {square} x {square}" if scanned else "and the origin 0"
    advice = "convert the original again, or write the true voxel sizes into the header"
    return (f"spacing is exactly 1 mm {why}: perhaps never stated; volumes in mL depend on it: {advice}",)
