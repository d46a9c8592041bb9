"""The grid of a CT file as stored, so that labels can return to it voxel for voxel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORM_FIELDS = (
    "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
    "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z",
)  # fmt: skip
"""What a NIfTI header says of places."""
SHEAR_REMOVED = "a gantry tilt (shear) was removed"
SLICES_INTERPOLATED = "slices were interpolated to equal distances"
_TOLERANCE = 0.1
"""Largest distance, in voxels over the whole array, between two grids that count as one."""


@dataclass(frozen=True, eq=False)
class NiftiForms:
    """The fields of a NIfTI header that say where voxels lie, as stored.

    Attributes:
        version: 1 or 2.
        fields: values by the names of `FORM_FIELDS`.
    """

    version: int
    fields: Mapping[str, Any]

    @classmethod
    def of_header(cls, header: Any, version: int) -> NiftiForms:
        """The forms of a header of nibabel."""
        return cls(version, {name: np.array(header[name]) for name in FORM_FIELDS})

    def copy_to(self, header: Any) -> None:
        """Put the fields into another header; of pixdim only qfac and the three voxel sizes."""
        for name, value in self.fields.items():
            if name == "pixdim":
                header[name][:4] = value[:4]
            else:
                header[name] = value


@dataclass(frozen=True, eq=False)
class SourceGrid:
    """Where the voxels of a CT file lie, on the file's axes.

    Attributes:
        shape: voxels along the file's axes: i, j, k of NIfTI, MHA and NRRD; of DICOM the column, the row, and the
            slice in the order of positions along the slice normal (the cross product of the two directions of
            ImageOrientationPatient).
        affine: 4 x 4; (i, j, k, 1) to LPS mm.
        forms: a NIfTI file's header fields; None for other formats.
        resampled: why the voxels are not those of the file (slices interpolated, a tilt removed); "" where they are.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    forms: NiftiForms | None = field(default=None, repr=False)
    resampled: str = ""

    @property
    def remark(self) -> str:
        """A sentence for whoever lays labels over the file; "" where they fit voxel for voxel."""
        if not self.resampled:
            return ""
        size = " x ".join(map(str, self.shape))
        return (
            f"labels do not fit the input voxel by voxel, because {self.resampled}: they lie on the grid as read "
            f"({size}); lay them over the input by their affine"
        )

    def arranged(self, array: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[Any] | None:
        """The voxels of `array` in the order of the file; None where they lie on another grid.

        Args:
            array: three axes, any permutation and direction of the file's.
            affine: 4 x 4; index of `array` to LPS mm.
        """
        steps = np.linalg.solve(self.affine[:3, :3], affine[:3, :3])  # file index per array index
        first = np.linalg.solve(self.affine[:3, :3], affine[:3, 3] - self.affine[:3, 3])
        turn, start = np.rint(steps), np.rint(first)
        if (np.abs(turn).sum(axis=0) != 1).any() or (np.abs(turn).sum(axis=1) != 1).any():
            return None
        if np.abs(first - start).max() + (np.abs(steps - turn) @ np.array(array.shape)).max() > _TOLERANCE:
            return None
        order = [int(axis) for axis in np.argmax(np.abs(turn), axis=1)]
        flips = [turn[k, axis] < 0 for k, axis in enumerate(order)]
        placed = array.transpose(order)
        corner = [n - 1 if flip else 0 for n, flip in zip(self.shape, flips, strict=True)]
        if placed.shape != self.shape or not np.array_equal(start, corner):
            return None
        return np.asarray(placed[tuple(slice(None, None, -1 if flip else 1) for flip in flips)])


def as_triple(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape of an array of three axes."""
    first, second, third = shape
    return first, second, third
