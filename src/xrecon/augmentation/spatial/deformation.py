"""A deformation of the chest on its cube: an affine map and a smooth elastic one, which never mirror and never fold.

Maps run backwards: from a place of the new cube to the place of the old one that is drawn there. Both are in mm from
the cube's centre along D, H, W.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.morphology import Floats


@dataclass(frozen=True, eq=False)
class ChestDeformation:
    """A backward map: old = matrix @ (new - shift) + elastic(new), mm.

    Attributes:
        matrix: 3 x 3, positive determinant.
        shift_mm: displacement of the patient (D, H, W).
        knots_mm: [3, K, K, K] elastic displacement of the control points of a uniform cubic B-spline, or None.
        knot_mm: their distance.
    """

    matrix: NDArray[np.float64]
    shift_mm: NDArray[np.float64]
    knots_mm: Floats | None = None
    knot_mm: float = 0.0

    @classmethod
    def none(cls) -> ChestDeformation:
        """Everything stays."""
        return cls(np.eye(3), np.zeros(3))

    @property
    def is_none(self) -> bool:
        """Whether everything stays."""
        return self.knots_mm is None and np.array_equal(self.matrix, np.eye(3)) and not self.shift_mm.any()

    def origin_mm(self, places_mm: NDArray[np.float64]) -> Floats:
        """[3, P, P, P] where the tissue at the grid of `places_mm` [P] (along each axis) was."""
        away = [places_mm - s for s in self.shift_mm]
        grids = (away[0][:, None, None], away[1][None, :, None], away[2][None, None, :])
        out = np.empty((3, *(len(places_mm),) * 3), dtype=np.float32)
        for row in range(3):
            first, second, third = (self.matrix[row, k] * grids[k] for k in range(3))
            out[row] = (first + second) + third
        if self.knots_mm is not None:
            basis = _basis(places_mm, self.knots_mm.shape[1], self.knot_mm)[0]
            out += _spline(self.knots_mm, (basis, basis, basis))
        return out

    def jacobian(self, places_mm: NDArray[np.float64]) -> Floats:
        """[P, P, P] determinant of the map: old volume over new volume; positive where nothing folds or mirrors."""
        gradient = np.empty((3, 3, *(len(places_mm),) * 3), dtype=np.float32)
        gradient[:] = self.matrix.reshape(3, 3, 1, 1, 1)
        if self.knots_mm is not None:
            value, slope = _basis(places_mm, self.knots_mm.shape[1], self.knot_mm)
            for axis in range(3):
                parts = [slope if a == axis else value for a in range(3)]
                gradient[:, axis] += _spline(self.knots_mm, (parts[0], parts[1], parts[2]))
        a, b, c = gradient
        cross = (b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0])
        return np.asarray(a[0] * cross[0] + a[1] * cross[1] + a[2] * cross[2], dtype=np.float32)


def voxel_places(count: int, frame_mm: float) -> NDArray[np.float64]:
    """Centres of `count` voxels along an edge of the cube, mm from its centre."""
    return (np.arange(count, dtype=np.float64) - (count - 1) / 2) * (frame_mm / count)


def _basis(places_mm: NDArray[np.float64], count: int, knot_mm: float) -> tuple[Floats, Floats]:
    """Values and slopes (1/mm), both [P, K], of the uniform cubic B-splines centred on the control points."""
    centres = (np.arange(count) - (count - 1) / 2) * knot_mm
    x = (places_mm[:, None] - centres[None, :]) / knot_mm
    far = np.abs(x)
    inner, outer = far < 1.0, (far >= 1.0) & (far < 2.0)
    value = np.where(inner, 2.0 / 3.0 - far**2 + far**3 / 2.0, np.where(outer, (2.0 - far) ** 3 / 6.0, 0.0))
    slope = np.where(inner, -2.0 * far + 1.5 * far**2, np.where(outer, -((2.0 - far) ** 2) / 2.0, 0.0))
    return value.astype(np.float32), (slope * np.sign(x) / knot_mm).astype(np.float32)


def _spline(knots: Floats, basis: tuple[Floats, Floats, Floats]) -> Floats:
    """[3, P, P, P] tensor-product spline."""
    out = np.tensordot(knots, basis[0], axes=(1, 1))  # [3, K, K, P]
    out = np.tensordot(out, basis[1], axes=(1, 1))  # [3, K, P, P]
    return np.ascontiguousarray(np.tensordot(out, basis[2], axes=(1, 1)), dtype=np.float32)
