"""Thickness maps of a film pair: how much free pleural air and how much lung every ray crosses, by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.geometry import ConeBeam

SIDES = ("right", "left")
"""The patient's sides in the order of the maps."""


@dataclass(frozen=True, eq=False)
class ThicknessMaps:
    """What every ray of both films crosses, mm.

    Attributes:
        air_mm: [2 views, 2 sides, rows, cols] float32, free pleural air; views PA, lateral; sides right, left.
        lung_mm: [2 views, 2 sides, rows, cols] float32, lung without the free air beside it.
        certainty: [2 views, 2 sides, rows, cols] float32, 0..1, how far each value is to be believed.
        views: geometry of (PA, lateral) with rows x cols pixels, relative to the isocentre.

    Raises:
        InputError: arrays of another shape, values that are not finite or are negative.
    """

    air_mm: NDArray[np.float32]
    lung_mm: NDArray[np.float32]
    certainty: NDArray[np.float32]
    views: tuple[ConeBeam, ConeBeam]

    def __post_init__(self) -> None:
        shape = (2, 2, *self.views[0].detector_shape)
        for name in ("air_mm", "lung_mm", "certainty"):
            values = getattr(self, name)
            if values.shape != shape:
                raise InputError(f"{name} must have the shape [views, sides, rows, cols] = {shape}, got {values.shape}")
            if not np.isfinite(values).all() or values.min() < 0:
                raise InputError(f"{name} holds values that are negative or not finite")

    def coarsened(self, pixels: int) -> ThicknessMaps:
        """The same maps with `pixels` x `pixels` larger pixels, each the mean of the whole pixels in it.

        Raises:
            InputError: the number of rows or columns is not a multiple of `pixels`.
        """
        rows, cols = self.views[0].detector_shape
        if rows % pixels or cols % pixels:
            raise InputError(f"maps of {rows} x {cols} pixels cannot be coarsened to {pixels} x {pixels}")

        def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
            blocks = values.reshape(2, 2, pixels, rows // pixels, pixels, cols // pixels)
            return np.asarray(blocks.mean(axis=(3, 5)), dtype=np.float32)

        views = (self.views[0].with_detector((pixels, pixels)), self.views[1].with_detector((pixels, pixels)))
        return ThicknessMaps(mean(self.air_mm), mean(self.lung_mm), mean(self.certainty), views)
