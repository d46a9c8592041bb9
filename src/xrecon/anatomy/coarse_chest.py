"""A chest CT on blocks of about 4 mm: quick to turn, and fine enough for the large landmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.morphology import Mask, Spacing, components, filled_slices, grown, select, shrunk

Hounsfield = NDArray[np.float32]
AnyChest = TypeVar("AnyChest", bound="CoarseChest")

BLOCK_MM = 4.0
_TISSUE_HU = -350.0
_LUNG_BELOW_HU = -450.0
_LEAST_LUNG_ML = 400.0
_PART_SHARE = 0.05
_LEAST_BLOCKS = 8
"""Lungs shorter than this along an axis show no landmark."""


@dataclass(frozen=True, eq=False)
class CoarseChest:
    """A chest on blocks of voxels, with axes that are taken to run from head to feet, front to back and right to left.

    Attributes:
        hu: [D, H, W] means of the blocks, HU.
        lungs: [D, H, W] both lungs with any free air round them.
        spacing: mm per block along D, H, W.
        low, high: first block of the lungs and the block after their last, along D, H, W.
    """

    hu: Hounsfield
    lungs: Mask
    spacing: Spacing
    low: tuple[int, int, int]
    high: tuple[int, int, int]

    @classmethod
    def find(cls: type[AnyChest], hu: Hounsfield, spacing: Spacing) -> AnyChest | None:
        """Both lungs with any free air round them, as one mask; None where there is too little air in a body."""
        body = filled_slices(hu > _TISSUE_HU)
        air = (hu < _LUNG_BELOW_HU) & body
        parts, sizes = components(shrunk(air))
        if sizes.max(initial=0) * float(np.prod(spacing)) / 1000.0 < _LEAST_LUNG_ML / 4:
            return None
        large = select(parts, 1 + np.flatnonzero(sizes >= _PART_SHARE * sizes.max()), len(sizes))
        lungs = grown(large) & air
        if lungs.sum() * float(np.prod(spacing)) / 1000.0 < _LEAST_LUNG_ML:
            return None
        spans = [np.flatnonzero(lungs.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
        if min(map(len, spans)) < _LEAST_BLOCKS:
            return None
        low, high = (tuple(int(span[k]) + (k < 0) for span in spans) for k in (0, -1))
        return cls(hu, lungs, spacing, (low[0], low[1], low[2]), (high[0], high[1], high[2]))

    def turned(self: AnyChest, axis: int) -> AnyChest:
        """The same with one axis the other way round."""
        low, high = list(self.low), list(self.high)
        low[axis], high[axis] = self.hu.shape[axis] - self.high[axis], self.hu.shape[axis] - self.low[axis]
        flip = np.flip
        return type(self)(
            flip(self.hu, axis), flip(self.lungs, axis), self.spacing,
            (low[0], low[1], low[2]), (high[0], high[1], high[2]),
        )  # fmt: skip

    def size(self, axis: int) -> int:
        """Blocks that the lungs span along an axis."""
        return self.high[axis] - self.low[axis]

    def rows(self, first: float, last: float, axis: int = 0) -> slice:
        """The part between two shares of the lungs' span along an axis."""
        return slice(self.low[axis] + int(first * self.size(axis)), self.low[axis] + int(last * self.size(axis)))
