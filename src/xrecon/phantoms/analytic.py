"""Ellipsoids whose line integrals are known exactly: the reference for every projector.

World frame LPS, mm (x to the patient's left, y to the back, z to the head). Voxel grids are canonical and centred at
the origin: D = -z, H = +y, W = +x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xrecon.errors import InputError

_IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
_SLAB_POINTS = 2_000_000  # sub-samples evaluated at once by `voxelised`, to bound memory
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Ellipsoid:
    """A solid ellipsoid of uniform attenuation.

    Attributes:
        centre_mm: LPS position of the centre.
        semi_axes_mm: three half-lengths, > 0.
        rotation: 3 x 3 rotation (rows of tuples) whose columns are the directions of the semi-axes in LPS.
        mu_per_mm: linear attenuation, 1/mm; may be negative, to make a hole in another ellipsoid.

    Raises:
        InputError: a value is not finite, a semi-axis is not positive, or `rotation` is not a rotation.
    """

    centre_mm: Triple
    semi_axes_mm: Triple
    rotation: tuple[Triple, Triple, Triple] = _IDENTITY
    mu_per_mm: float = 0.02

    def __post_init__(self) -> None:
        shapes = {"centre_mm": (3,), "semi_axes_mm": (3,), "rotation": (3, 3), "mu_per_mm": ()}
        for name, shape in shapes.items():
            value = np.asarray(getattr(self, name), dtype=np.float64)
            if value.shape != shape or not np.isfinite(value).all():
                raise InputError(f"Ellipsoid.{name} must be finite numbers of shape {shape}, got {getattr(self, name)}")
        if min(self.semi_axes_mm) <= 0:
            raise InputError(f"Ellipsoid.semi_axes_mm must be positive, got {self.semi_axes_mm}")
        turn = self._turn
        if not np.allclose(turn.T @ turn, np.eye(3), atol=1e-6) or np.linalg.det(turn) < 0:
            raise InputError(
                f"Ellipsoid.rotation must be a rotation (orthonormal, determinant +1), got {self.rotation}"
            )

    @property
    def _turn(self) -> NDArray[np.float64]:
        return np.asarray(self.rotation, dtype=np.float64)

    @property
    def volume_mm3(self) -> float:
        """4/3 pi a b c."""
        a, b, c = self.semi_axes_mm
        return 4.0 / 3.0 * math.pi * a * b * c

    @property
    def mass(self) -> float:
        """Integral of mu over space, mm^2: what `voxelised` sums to, times the volume of a voxel."""
        return self.mu_per_mm * self.volume_mm3

    def _unit(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Vectors [..., 3] in the frame in which the ellipsoid is the unit ball."""
        return np.asarray(vectors @ self._turn / np.asarray(self.semi_axes_mm), dtype=np.float64)

    def line_integral(self, source_mm: ArrayLike, points_mm: ArrayLike) -> NDArray[np.float64]:
        """Integral of mu along the segments from `source_mm` [..., 3] to `points_mm` [..., 3] (broadcast).

        Returns [...], dimensionless: mu times the length of the segment that lies inside. Exact to rounding: the
        segment enters the unit ball where |s + t d|^2 = 1. A segment that only touches it, or has no length, gives 0.
        """
        source, points = np.asarray(source_mm, dtype=np.float64), np.asarray(points_mm, dtype=np.float64)
        if source.shape[-1:] != (3,) or points.shape[-1:] != (3,):
            raise InputError(f"positions are [..., 3], got shapes {source.shape} and {points.shape}")
        step = points - source
        s, d = self._unit(source - np.asarray(self.centre_mm)), self._unit(step)
        dd = np.sum(d * d, axis=-1)
        safe = np.where(dd > 0, dd, 1.0)
        nearest = (
            -np.sum(s * d, axis=-1) / safe
        )  # where along the line, 0 source .. 1 point, the middle of the chord is
        closest = s + nearest[..., None] * d
        # From the point closest to the centre, because the usual discriminant loses digits with a far source.
        half = np.sqrt(np.clip(1.0 - np.sum(closest * closest, axis=-1), 0.0, None) / safe)
        share = np.clip(np.minimum(nearest + half, 1.0) - np.maximum(nearest - half, 0.0), 0.0, None)
        length = np.linalg.norm(step, axis=-1)
        return np.asarray(np.where(dd > 0, self.mu_per_mm * share * length, 0.0), dtype=np.float64)

    def voxelised(
        self, shape: tuple[int, int, int], spacing_mm: float | Triple, *, supersample: int = 4
    ) -> NDArray[np.float32]:
        """Mean mu [D, H, W] float32 of each voxel, 1/mm, on a canonical grid centred at the origin.

        Args:
            shape: (D, H, W) voxels.
            spacing_mm: pitch, one number or (D, H, W).
            supersample: sub-samples along each edge of a voxel, 1..16; the mean is over their cube.

        Raises:
            InputError: a shape, spacing or supersample out of range.
        """
        pitch = np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), 3)
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(f"a grid has three positive sizes (D, H, W), got {shape}")
        if not np.isfinite(pitch).all() or pitch.min() <= 0 or not 1 <= supersample <= 16:
            raise InputError(f"expected spacing > 0 mm and supersample 1..16, got {spacing_mm} and {supersample}")
        result = np.zeros(shape, dtype=np.float32)
        # Half-extent of a rotated ellipsoid along each world axis; the box is [D, H, W] index ranges that hold it.
        extent = np.sqrt(((self._turn * np.asarray(self.semi_axes_mm)) ** 2).sum(axis=1))
        ranges = []
        for count, step, axis, sign in zip(shape, pitch, (2, 1, 0), (-1, 1, 1), strict=True):
            middle = sign * self.centre_mm[axis] / step + (count - 1) / 2
            reach = extent[axis] / step + 1.0
            ranges.append((max(math.floor(middle - reach), 0), min(math.ceil(middle + reach) + 1, count)))
        if any(first >= last for first, last in ranges):
            return result
        fine = [
            (np.arange(first * supersample, last * supersample) + 0.5) / supersample - 0.5 - (count - 1) / 2
            for (first, last), count in zip(ranges, shape, strict=True)
        ]
        z, y, x = -fine[0] * pitch[0], fine[1] * pitch[1], fine[2] * pitch[2]
        (d0, d1), (h0, h1), (w0, w1) = ranges
        slab = max(_SLAB_POINTS // (len(y) * len(x) * supersample), 1)
        for first in range(d0, d1, slab):
            last = min(first + slab, d1)
            inside = self._contains(x, y, z[(first - d0) * supersample : (last - d0) * supersample])
            blocks = inside.reshape(last - first, supersample, h1 - h0, supersample, w1 - w0, supersample)
            result[first:last, h0:h1, w0:w1] = self.mu_per_mm * blocks.mean(axis=(1, 3, 5))
        return result

    def _contains(self, x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether each node [len(z), len(y), len(x)] of a grid lies inside."""
        cx, cy, cz = self.centre_mm
        total = np.zeros((len(z), len(y), len(x)))
        for k, semi_axis in enumerate(self.semi_axes_mm):
            ux, uy, uz = self._turn[:, k] / semi_axis
            along = uz * (z - cz)[:, None, None] + uy * (y - cy)[None, :, None] + ux * (x - cx)[None, None, :]
            total += along * along
        return np.asarray(total <= 1.0)
