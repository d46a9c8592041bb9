"""Deformation of a chest on its cube: an affine map and a smooth elastic one, resampled once, never mirrored or folded.

Maps run backwards: from a place of the new cube to the place of the old one that is drawn there. Both are in mm from
the cube's centre along D, H, W.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.morphology import Floats, Mask
from xrecon.augmentation.random_streams import log_uniform, signed, uniform
from xrecon.augmentation.sampling_kernel import sample_all
from xrecon.augmentation.settings import Affine, Elastic
from xrecon.data.case_file import CaseData
from xrecon.resample import resample_separable
from xrecon.volume import OUTSIDE_HU

_TRIES = 6
_LEAST_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class Chest:
    """What the augmentation works on: one case on its cube.

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


@dataclass(frozen=True, eq=False)
class Deformation:
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
    def none(cls) -> Deformation:
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


def draw_affine(settings: Affine, rng: np.random.Generator) -> tuple[Deformation, dict[str, Any]]:
    """Turns about the three axes, sizes along them, a shift; the determinant is positive by construction."""
    angles = [signed(rng, settings.rotation_deg) for _ in range(3)]
    size = log_uniform(rng, settings.scale)
    axes = [1.0 + signed(rng, settings.axis_scale) for _ in range(3)]
    shift = [signed(rng, settings.shift_mm) for _ in range(3)]
    forward = _rotation(angles) @ np.diag([size * axis for axis in axes])
    record = {"rotation_deg": angles, "scale": size, "axis_scale": axes, "shift_mm": shift}
    matrix: NDArray[np.float64] = np.asarray(np.linalg.inv(forward), dtype=np.float64)
    return Deformation(matrix, np.asarray(shift, dtype=np.float64)), record


def draw_elastic(
    deformation: Deformation, settings: Elastic, rng: np.random.Generator, *, frame_mm: float
) -> tuple[Deformation, dict[str, Any]]:
    """A smooth displacement on top; halved until no place is compressed below `least_jacobian` of the affine map."""
    count = int(np.ceil(frame_mm / settings.knot_mm)) + 3
    amplitude = uniform(rng, settings.amplitude_mm)
    knots = rng.standard_normal((3, count, count, count)).astype(np.float32)
    places = _places(48, frame_mm)
    whole = float(np.linalg.det(deformation.matrix))
    least = 1.0
    for _ in range(_TRIES):
        tried = replace(deformation, knots_mm=knots * np.float32(amplitude), knot_mm=settings.knot_mm)
        found = tried.jacobian(places) / whole
        least = float(min(found.min(), 1.0 / found.max()))
        if least >= settings.least_jacobian:
            return tried, {"amplitude_mm": amplitude, "least_jacobian": least}
        amplitude *= 0.6
    return deformation, {"amplitude_mm": 0.0, "least_jacobian": 1.0}


def chest_of(case: CaseData, deformation: Deformation, *, size: int, frame_mm: float) -> Chest:
    """The case on a cube of `size` voxels, deformed. Masks are resampled as shares of a voxel and cut at one half.

    What comes from beyond the cube is air, and not measured.
    """
    stored = _stored(case, size, frame_mm / size)
    if deformation.is_none:
        return stored
    index = deformation.origin_mm(_places(size, frame_mm)) / np.float32(stored.pitch_mm) + np.float32((size - 1) / 2)
    # One byte per voxel holds all masks, so that the kernel reads each neighbour once.
    codes = stored.sides + np.uint8(4) * stored.air + np.uint8(8) * stored.measured.astype(np.uint8)
    hu, codes = sample_all(index, stored.hu, codes, np.float32(OUTSIDE_HU))
    return Chest(
        hu, codes & np.uint8(3), (codes >> np.uint8(2)) & np.uint8(1), (codes & np.uint8(8)) > 0, stored.pitch_mm
    )


def _stored(case: CaseData, size: int, pitch_mm: float) -> Chest:
    """The case as it is, on `size` voxels."""
    if case.size == size:
        hu = case.ct.astype(np.float32)
        return Chest(hu, np.array(case.sides), np.array(case.air), case.measured(), pitch_mm)
    hu = shrunk(case.ct.astype(np.float32) - np.float32(OUTSIDE_HU), size) + np.float32(OUTSIDE_HU)
    right, left = (shrunk((case.sides == side).astype(np.float32), size) for side in (1, 2))
    sides = np.where(right + left > _LEAST_SHARE, np.where(right >= left, 1, 2), 0).astype(np.uint8)
    air = np.zeros_like(sides)
    if case.air.any():
        air = ((shrunk(case.air.astype(np.float32), size) > _LEAST_SHARE) & (sides > 0)).astype(np.uint8)
    measured = shrunk(case.measured().astype(np.float32), size) > _LEAST_SHARE
    return Chest(hu, sides, air, np.asarray(measured), pitch_mm)


def shrunk(values: Floats, size: int) -> Floats:
    """The same cube with `size` voxels per edge: averaged with a kernel as wide as the new voxels."""
    if values.shape[0] == size:
        return values
    scale = values.shape[0] / size
    return resample_separable(
        values, (size,) * values.ndim, scale=(scale,) * values.ndim, offset=((scale - 1) / 2,) * values.ndim, fill=0.0
    )


def _places(count: int, frame_mm: float) -> NDArray[np.float64]:
    """Centres of `count` voxels along an edge of the cube, mm from its centre."""
    return (np.arange(count, dtype=np.float64) - (count - 1) / 2) * (frame_mm / count)


def _rotation(angles_deg: list[float]) -> NDArray[np.float64]:
    """Turns about the axes D, H, W, one after the other."""
    out = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(angles_deg)):
        one = np.eye(3)
        i, j = (k for k in range(3) if k != axis)
        one[i, i] = one[j, j] = np.cos(angle)
        one[i, j], one[j, i] = -np.sin(angle), np.sin(angle)
        out = one @ out
    return out


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
