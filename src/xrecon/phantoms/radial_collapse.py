"""The collapsed lung of the analytic thorax, and the free air round it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from xrecon.errors import InputError
from xrecon.phantoms.layout import SIDES, Anatomy
from xrecon.phantoms.shapes import Floats, Window

FREE_AIR_HU = -990.0
_STEP_DEG = 3.0


class RadialCollapse:
    """A lung that retreats towards its hilum, first from apex, front and flank, then from everywhere.

    Along each ray from the hilum the lung keeps the share 1 - retreat(direction, degree) of the distance to the
    costal pleura. A ray leaves the costal envelope (cage and cupola, closed by a floor under the recess) only once,
    so the visceral surface stays smooth and one sheet.
    """

    def __init__(self, anatomy: Anatomy, side: str) -> None:
        self.anatomy, self.side, self.degree = anatomy, side, 0.0
        self.hilum = np.array(anatomy.hilum[side])
        self.floor_z = anatomy.dome_z[side] - 0.5 * anatomy.height
        polar = np.radians(np.arange(0.0, 180.0 + _STEP_DEG, _STEP_DEG))
        turn = np.radians(np.arange(-180.0, 180.0 + _STEP_DEG, _STEP_DEG))
        rays = np.stack(
            [
                np.sin(polar)[:, None] * np.cos(turn),
                np.sin(polar)[:, None] * np.sin(turn),
                np.broadcast_to(np.cos(polar)[:, None], (len(polar), len(turn))),
            ]
        )
        self._extent = self._rays_to_wall(rays).astype(np.float32)
        preferred = np.array([0.55 * SIDES[side], -0.55, 0.75])  # to the flank, to the front, up
        preferred /= np.linalg.norm(preferred)
        cosine = np.tensordot(preferred, rays, axes=1)
        self._weight = (0.5 + 0.5 * cosine).astype(np.float32)

    def _rays_to_wall(self, rays: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distance from the hilum to the costal envelope along each ray, by bisection (each leaves it once)."""
        low, high = np.zeros(rays.shape[1:]), np.full(rays.shape[1:], 500.0)
        for _ in range(18):
            middle = 0.5 * (low + high)
            x, y, z = ((self.hilum[i] + middle * rays[i]).astype(np.float32) for i in range(3))
            wall = self.anatomy.cage_distance(x, y, z)
            wall = np.maximum(wall, self.anatomy.cupola_distance(x, y, z, self.side))
            outside = np.maximum(wall, self.floor_z - z) > 0
            low, high = np.where(outside, low, middle), np.where(outside, middle, high)
        return low

    def _lookup(self, offset: list[Floats]) -> tuple[Floats, Floats, Floats]:
        """Distance from the hilum, and extent and weight in that direction, at offsets (x, y, z) from it."""
        radius = np.sqrt(offset[0] ** 2 + offset[1] ** 2 + offset[2] ** 2)
        polar = np.degrees(np.arccos(np.clip(offset[2] / np.maximum(radius, 1e-6), -1.0, 1.0))) / _STEP_DEG
        turn = (np.degrees(np.arctan2(offset[1] + 0.0 * radius, offset[0])) + 180.0) / _STEP_DEG
        at = np.stack([polar, turn])
        extent, weight = (map_coordinates(table, at, order=1, mode="nearest") for table in (self._extent, self._weight))
        return radius, extent, weight

    def _retreat(self, weight: Floats, degree: float) -> Floats:
        """Share 0..0.86 of the way to the hilum that the lung has withdrawn; no less at a higher degree."""
        share = np.clip((weight - 1.0 + 1.7 * degree) / 1.55, 0.0, 1.0)
        result: Floats = np.float32(0.86) * (share * share * (3 - 2 * share))
        return result

    def prepare(self, window: Window, cavity: Floats) -> None:
        """Keep what is needed per voxel of the cavity [D, H, W] (signed distance) to vary the degree quickly."""
        self._where = np.nonzero(cavity < 2 * window.spacing_mm)
        d, h, w = self._where
        places = (window.x[0, 0, w], window.y[0, h, 0], window.z[d, 0, 0])
        self._polar = self._lookup([(places[i] - np.float32(self.hilum[i])).astype(np.float32) for i in range(3)])
        self._cavity = cavity

    def lung(self, degree: float) -> Floats:
        """Signed distance [D, H, W] to the collapsed lung."""
        radius, extent, weight = self._polar
        result = self._cavity.copy()
        visceral = radius - (1.0 - self._retreat(weight, degree)) * extent
        # At degree 0 the visceral surface is the pleura itself; the far side of the envelope must not cut it.
        visceral = np.where(self._retreat(weight, degree) > 1e-4, visceral, -1e3)
        result[self._where] = np.maximum(result[self._where], visceral)
        return result

    def solve(self, window: Window, cavity: Floats, volume_ml: float) -> Floats:
        """Find the degree whose pocket holds `volume_ml` of voxels; returns the lung's signed distance.

        Raises:
            InputError: the cavity cannot give that volume, or the voxels are too coarse to meet it within 2 %.
        """
        self.prepare(window, cavity)
        voxel_ml = window.spacing_mm**3 / 1000.0
        inside = cavity[self._where] <= 0

        def pocket(degree: float) -> float:
            radius, extent, weight = self._polar
            retreat = self._retreat(weight, degree)
            free = (radius > (1.0 - retreat) * extent) & (retreat > 1e-4) & inside
            return float(np.count_nonzero(free)) * voxel_ml

        largest = pocket(1.0)
        if volume_ml > largest:
            raise InputError(
                f"a pneumothorax of {volume_ml:g} mL does not fit into the {self.side} pleural cavity of this habitus: "
                f"at most {largest:.0f} mL; ask for less, or for a larger chest"
            )
        low, high = 0.0, 1.0
        for _ in range(26):
            middle = 0.5 * (low + high)
            low, high = (low, middle) if pocket(middle) >= volume_ml else (middle, high)
        self.degree = min((low, high), key=lambda degree: abs(pocket(degree) - volume_ml))
        nearest_ml = pocket(self.degree)
        if abs(nearest_ml - volume_ml) > 0.02 * volume_ml:
            raise InputError(
                f"a pneumothorax of {volume_ml:g} mL cannot be met within 2 % with voxels of {window.spacing_mm:g} mm "
                f"(nearest: {nearest_ml:.3g} mL); ask for more, or use smaller voxels"
            )
        return self.lung(self.degree)

    def warp(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where points [N, 3] of the expanded lung lie in the collapsed one: drawn in along their rays."""
        offset = points - self.hilum
        _, _, weight = self._lookup([offset[:, i].astype(np.float32) for i in range(3)])
        remaining = 1.0 - self._retreat(weight, self.degree)
        return np.asarray(self.hilum + remaining[:, None] * offset, dtype=np.float64)
