"""The chest that the augmentation works on: a prepared case on its cube, at the sample's size, deformed once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.morphology import Floats, Mask
from xrecon.augmentation.sampling_kernel import sample_all
from xrecon.augmentation.spatial.deformation import ChestDeformation, voxel_places
from xrecon.data.case_file import CaseData
from xrecon.resample import resample_separable
from xrecon.volume import OUTSIDE_HU

_LEAST_SHARE = 0.5
"""Share of a voxel that a mask has to fill for the voxel to belong to it."""


@dataclass(frozen=True, eq=False)
class AugmentedChest:
    """One case on its cube.

    Attributes:
        hu: [D, H, W] float32, HU, -1024 outside the body.
        sides: [D, H, W] uint8, 1 right hemithorax, 2 left (lung and free air).
        air: [D, H, W] uint8, 1 free pleural air.
        measured: [D, H, W] bool, what the scanner covered.
        pitch_mm: edge of a voxel.
    """

    hu: Floats
    sides: NDArray[np.uint8]
    air: NDArray[np.uint8]
    measured: Mask
    pitch_mm: float

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """(D, H, W)."""
        return self.pitch_mm, self.pitch_mm, self.pitch_mm

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel, mL."""
        return self.pitch_mm**3 / 1000.0


def chest_of(case: CaseData, deformation: ChestDeformation, *, size: int, frame_mm: float) -> AugmentedChest:
    """The case on a cube of `size` voxels, deformed. Masks are resampled as shares of a voxel and cut at one half.

    What comes from beyond the cube is air, and not measured.
    """
    stored = _stored(case, size, frame_mm / size)
    if deformation.is_none:
        return stored
    places = voxel_places(size, frame_mm)
    index = deformation.origin_mm(places) / np.float32(stored.pitch_mm) + np.float32((size - 1) / 2)
    # One byte per voxel holds all masks, so that the kernel reads each neighbour once.
    codes = stored.sides + np.uint8(4) * stored.air + np.uint8(8) * stored.measured.astype(np.uint8)
    hu, codes = sample_all(index, stored.hu, codes, np.float32(OUTSIDE_HU))
    return AugmentedChest(
        hu, codes & np.uint8(3), (codes >> np.uint8(2)) & np.uint8(1), (codes & np.uint8(8)) > 0, stored.pitch_mm
    )


def _stored(case: CaseData, size: int, pitch_mm: float) -> AugmentedChest:
    """The case as it is, on `size` voxels."""
    if case.size == size:
        hu = case.ct.astype(np.float32)
        return AugmentedChest(hu, np.array(case.sides), np.array(case.air), case.measured(), pitch_mm)
    hu = shrunk(case.ct.astype(np.float32) - np.float32(OUTSIDE_HU), size) + np.float32(OUTSIDE_HU)
    right, left = (shrunk((case.sides == side).astype(np.float32), size) for side in (1, 2))
    sides = np.where(right + left > _LEAST_SHARE, np.where(right >= left, 1, 2), 0).astype(np.uint8)
    air = np.zeros_like(sides)
    if case.air.any():
        air = ((shrunk(case.air.astype(np.float32), size) > _LEAST_SHARE) & (sides > 0)).astype(np.uint8)
    measured = shrunk(case.measured().astype(np.float32), size) > _LEAST_SHARE
    return AugmentedChest(hu, sides, air, np.asarray(measured), pitch_mm)


def shrunk(values: Floats, size: int) -> Floats:
    """The same cube or film with `size` voxels per edge: averaged with a kernel as wide as the new voxels."""
    if values.shape[0] == size:
        return values
    scale = values.shape[0] / size
    return resample_separable(
        values, (size,) * values.ndim, scale=(scale,) * values.ndim, offset=((scale - 1) / 2,) * values.ndim, fill=0.0
    )
