"""A CT volume: HU values with a true affine, in the one orientation that all of xrecon uses."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.io.guards.hounsfield import OUTSIDE_HU as OUTSIDE_HU
from xrecon.io.source_grid import SourceGrid
from xrecon.resample import resample_separable

CANONICAL = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
"""Directions of the axes D, H, W (columns) in LPS: D to the feet, H to the back, W to the patient's left."""

RESEARCH_NOTICE = "SYNTHETIC / RESEARCH ONLY / NOT FOR DIAGNOSIS"


@dataclass(frozen=True, eq=False)
class Volume:
    """CT in Hounsfield units.

    Attributes:
        hu: [D, H, W] float32, HU. After `load_ct` or `canonical`, D runs from head to feet, H from front to back, W
            from the patient's right to the left.
        affine: 4 x 4; (d, h, w, 1) to LPS mm.
        synthetic: the values were computed, not measured; files written from it say so.
        notes: what a reader or a method assumed or repaired; shown to the user.
        source_grid: the axes of the file that it was read from; `save` returns to them where the voxels fit.

    Raises:
        InputError: not 3-D, values not finite, or an affine that is singular or not finite.
    """

    hu: NDArray[np.float32]
    affine: NDArray[np.float64]
    synthetic: bool = False
    notes: tuple[str, ...] = field(default=())
    source_grid: SourceGrid | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        hu = np.asarray(self.hu, dtype=np.float32)
        affine = np.asarray(self.affine, dtype=np.float64)
        if hu.ndim != 3 or min(hu.shape) < 1:
            raise InputError(f"a volume has three axes [D, H, W], got an array of shape {hu.shape}")
        if affine.shape != (4, 4):
            raise InputError(f"an affine is a 4 x 4 matrix, got shape {affine.shape}")
        if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise InputError(f"the affine is singular or not finite:\n{affine}")
        if not np.isfinite(hu).all():
            raise InputError(f"{int((~np.isfinite(hu)).sum())} values of the volume are NaN or infinite")
        hu = hu.view()
        affine = affine.copy()
        hu.flags.writeable = False
        affine.flags.writeable = False
        object.__setattr__(self, "hu", hu)
        object.__setattr__(self, "affine", affine)

    @classmethod
    def centred(
        cls, hu: NDArray[np.float32], spacing_mm: tuple[float, float, float], *, synthetic: bool = False
    ) -> Volume:
        """A volume in canonical orientation whose centre is the world's origin. `spacing_mm` is (D, H, W)."""
        affine = np.eye(4)
        affine[:3, :3] = CANONICAL * np.asarray(spacing_mm, dtype=np.float64)
        affine[:3, 3] = -affine[:3, :3] @ ((np.asarray(hu.shape) - 1) / 2)
        return cls(hu, affine, synthetic=synthetic)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W)."""
        d, h, w = self.hu.shape
        return d, h, w

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel pitch (D, H, W), mm."""
        d, h, w = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(d), float(h), float(w)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel, mL."""
        return float(abs(np.linalg.det(self.affine[:3, :3])) / 1000.0)

    @property
    def centre_mm(self) -> NDArray[np.float64]:
        """LPS position (x, y, z) of the volume's centre, mm."""
        middle = (np.asarray(self.hu.shape) - 1) / 2
        return np.asarray(self.affine[:3, :3] @ middle + self.affine[:3, 3], dtype=np.float64)

    @property
    def is_canonical(self) -> bool:
        """Whether D, H, W each lie nearest to feet, back and left."""
        directions = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        return bool((np.argmax(CANONICAL.T @ directions, axis=0) == np.arange(3)).all())

    def canonical(self) -> Volume:
        """The same voxels with axes permuted and flipped to D feet, H back, W left. Values are not resampled."""
        directions = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        alignment = CANONICAL.T @ directions  # [canonical axis, stored axis]
        order = _best_permutation(np.abs(alignment))
        flips = [alignment[canonical, stored] < 0 for canonical, stored in enumerate(order)]
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1
        for canonical, (stored, flip) in enumerate(zip(order, flips, strict=True)):
            matrix[stored, canonical] = -1.0 if flip else 1.0
            if flip:
                matrix[stored, 3] = self.hu.shape[stored] - 1
        hu = self.hu.transpose(order)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
        return replace(self, hu=np.ascontiguousarray(hu), affine=self.affine @ matrix)

    def resampled(
        self,
        shape: tuple[int, int, int],
        spacing_mm: float | tuple[float, float, float],
        *,
        centre_mm: NDArray[np.float64] | None = None,
        fill_hu: float = OUTSIDE_HU,
    ) -> Volume:
        """A box of `shape` voxels of `spacing_mm`, centred at LPS `centre_mm` (default: the volume's own centre).

        The box keeps the volume's axes (an oblique scan stays oblique). Antialiased; outside is `fill_hu`.
        """
        new = np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), 3)
        old = np.asarray(self.spacing_mm)
        directions = self.affine[:3, :3] / old
        centre = self.centre_mm if centre_mm is None else np.asarray(centre_mm, dtype=np.float64)
        affine = np.eye(4)
        affine[:3, :3] = directions * new
        affine[:3, 3] = centre - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
        first = np.linalg.solve(self.affine[:3, :3], affine[:3, 3] - self.affine[:3, 3])
        hu = resample_separable(
            self.hu, shape, scale=tuple(map(float, new / old)), offset=tuple(map(float, first)), fill=fill_hu
        )
        return replace(self, hu=hu, affine=affine)

    def with_hu(self, hu: NDArray[np.float32]) -> Volume:
        """The same grid with other values."""
        if hu.shape != self.hu.shape:
            raise InputError(f"expected values of shape {self.hu.shape}, got {hu.shape}")
        return replace(self, hu=hu)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write NIfTI (`.nii`, `.nii.gz`) with the true affine, on the axes of the file that it came from; atomic.

        Raises OutputExistsError, InputError.
        """
        from xrecon.io.nifti import write_nifti

        description = RESEARCH_NOTICE if self.synthetic else "xrecon; RESEARCH ONLY / NOT FOR DIAGNOSIS"
        return write_nifti(
            Path(path), self.hu, self.affine, description=description, overwrite=overwrite, grid=self.source_grid
        )

    def __repr__(self) -> str:
        d, h, w = self.spacing_mm
        kind = "synthetic CT" if self.synthetic else "CT"
        return (
            f"Volume({kind}, {'x'.join(map(str, self.hu.shape))} voxels [D,H,W] of {d:.3g}x{h:.3g}x{w:.3g} mm, "
            f"HU {self.hu.min():.0f}..{self.hu.max():.0f})"
        )


def _best_permutation(alignment: NDArray[np.float64]) -> tuple[int, int, int]:
    """Stored axis for each canonical axis so that the summed alignment is largest (ties cannot repeat an axis)."""
    from itertools import permutations

    best = max(permutations(range(3)), key=lambda order: sum(alignment[c, s] for c, s in enumerate(order)))
    return best[0], best[1], best[2]


def load_ct(path: str | os.PathLike[str], *, series: str | None = None) -> Volume:
    """Read a chest CT from NIfTI, a DICOM folder or zip, or MHA/MHD/NRRD, in canonical orientation.

    Args:
        path: file or folder.
        series: for DICOM with several series: the series' UID, number or description; default the largest.

    Raises:
        InputError: the file is missing, damaged, of an unknown kind, or holds no usable CT.
        MissingPartError: the format needs an optional package.
    """
    from xrecon.io.formats import read_volume

    raw = read_volume(Path(path), series=series)
    ct = Volume(raw.hu, raw.affine, synthetic=raw.synthetic, notes=raw.notes, source_grid=raw.grid)
    return ct.canonical()
