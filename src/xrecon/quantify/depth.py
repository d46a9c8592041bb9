"""How deep free air is: the distance between chest wall and lung or mediastinum, square to the chest wall.

Follows the radial distance of the 35 mm rule (Bou Zein Eddine et al., J Trauma Acute Care Surg 2019;86:557-564): from
the parietal to the visceral pleura, or to the mediastinum, along a line perpendicular to the chest wall. Readers take
it on axial images; here the perpendicular is that of the curved wall in three dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

from xrecon.quantify.canonical import Hemithorax, Mask, Points

_NORMAL_SIGMA_MM = 6.0
"""Smoothing of the cavity before the directions of its wall are taken: ribs bulge by a few mm."""
_NORMAL_STEP_MM = 2.5
_SLANTED = math.sqrt(0.5)
"""A wall whose outward direction points inwards and downwards by more than 45 degrees is mediastinum or diaphragm."""
_SQUARE = math.cos(math.radians(35.0))
"""A line deviates at most this much from the perpendicular of the wall that it ends on."""
_ROBUST_MM2 = 30.0
"""The largest depth is one that at least this much of the inner surface reaches: not one stray voxel."""
_NEARER = 0.9
_MAX_POINTS, _MAX_WALL_POINTS = 3000, 20000
_COARSE_WALL_MM = 4.0
_CANDIDATES = 64
_SAMPLES = 32


@dataclass(frozen=True)
class Depth:
    """One measured distance.

    Attributes:
        depth_mm: length, mm.
        inner_lps_mm: its end at the lung or mediastinum, LPS mm.
        wall_lps_mm: its end at the chest wall, LPS mm.
    """

    depth_mm: float
    inner_lps_mm: tuple[float, float, float]
    wall_lps_mm: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class DepthMap:
    """Depths of the air at samples of its inner surface.

    Attributes:
        depth_mm: [n].
        inner_lps_mm: [n, 3] LPS mm, on the lung or mediastinum.
        wall_lps_mm: [n, 3] LPS mm, on the chest wall.
        inner_index: [n, 3] fractional voxel index of the inner ends in the hemithorax.
        sample_mm2: inner surface that one sample stands for, mm2.
    """

    depth_mm: Points
    inner_lps_mm: Points
    wall_lps_mm: Points
    inner_index: Points
    sample_mm2: float

    def largest(self, where: Mask | None = None) -> Depth | None:
        """The largest depth that at least 30 mm2 of the inner surface reach, of samples `where` [n]; None if none."""
        chosen = np.arange(len(self.depth_mm)) if where is None else np.flatnonzero(where)
        if chosen.size == 0:
            return None
        ranked = chosen[np.argsort(-self.depth_mm[chosen], kind="stable")]
        best = ranked[min(ranked.size, max(1, math.ceil(_ROBUST_MM2 / self.sample_mm2))) - 1]
        return Depth(float(self.depth_mm[best]), _triple(self.inner_lps_mm[best]), _triple(self.wall_lps_mm[best]))


def depth_map(chest: Hemithorax) -> DepthMap | None:
    """Depth of the free air at every sample of its inner surface; None without air or without a chest wall beside it.

    The inner surface are the faces between air and lung; where no lung was found, those between air and mediastinum.
    The depth of a point on it is the length of the shortest straight line to the chest wall that runs through air
    alone. It counts where the line stands square to the wall (within 35 degrees), and where no mediastinum or
    diaphragm lies nearer than 0.9 of it (the air is then measured from those, not from the chest wall). The chest wall
    is the outside of the cavity except where its outward direction points to the midline and the feet (together by
    more than 45 degrees).
    """
    walls, _ = _sample(_faces(chest.air, ~chest.cavity), _MAX_WALL_POINTS)
    if len(walls) == 0:
        return None
    normals = _outward(chest, walls)
    medial = np.clip(normals[:, 0] * (1.0 if chest.side == "right" else -1.0), 0.0, None)
    caudal = np.clip(-normals[:, 2], 0.0, None)
    costal = np.hypot(medial, caudal) < _SLANTED
    if not costal.any():
        return None
    inner = _faces(chest.air, chest.lung)
    others = walls[~costal]
    if len(inner) == 0:
        inner, others = walls[~costal & (medial > caudal)], walls[:0]
    inner, share = _sample(inner, _MAX_POINTS)
    area = float(np.prod(chest.spacing_mm) ** (2 / 3)) / share
    wall, wall_normals = walls[costal], normals[costal]
    nearest = _nearest_visible(chest, inner, wall)
    inner, nearest = inner[nearest >= 0], nearest[nearest >= 0]
    start, end = chest.to_lps(inner), chest.to_lps(wall[nearest])
    lines = end - start
    length = np.linalg.norm(lines, axis=1)
    valid = np.einsum("ij,ij->i", lines, wall_normals[nearest]) >= _SQUARE * length
    valid &= _distance_to_others(chest, inner, others) >= _NEARER * length
    return DepthMap(length[valid], start[valid], end[valid], inner[valid], area)


def _triple(point: Points) -> tuple[float, float, float]:
    return float(point[0]), float(point[1]), float(point[2])


def _faces(inside: Mask, outside: Mask) -> Points:
    """Centres [n, 3] (voxel index) of the faces between two masks. The ends of the scan are no faces."""
    faces = []
    for axis in range(3):
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        touching = (inside[low] & outside[high]) | (outside[low] & inside[high])
        centres = np.argwhere(touching).astype(np.float64)
        centres[:, axis] += 0.5
        faces.append(centres)
    return np.concatenate(faces)


def _sample(points: Points, count: int) -> tuple[Points, float]:
    """At most `count` of the points, the same ones each time, and their share of all."""
    if len(points) <= count:
        return points, 1.0
    # Drawn by chance: faces come in pairs from opposite sides, and every second one would be all of one side.
    chosen = np.sort(np.random.default_rng(0).choice(len(points), count, replace=False))
    return points[chosen], count / len(points)


def _outward(chest: Hemithorax, points: Points) -> Points:
    """Unit directions [n, 3] in LPS, out of the smoothed cavity, at voxel indices [n, 3]."""
    spacing = np.asarray(chest.spacing_mm)
    step = np.maximum(1, np.rint(_NORMAL_STEP_MM / spacing)).astype(int)
    coarse = chest.cavity[tuple(slice(None, None, int(s)) for s in step)].astype(np.float32)
    smooth = gaussian_filter(coarse, _NORMAL_SIGMA_MM / (spacing * step), mode="nearest")
    at = points.T / step[:, None]
    gradient = np.empty_like(at)
    for axis in range(3):
        shift = np.zeros((3, 1))
        shift[axis] = 1.0
        ahead = map_coordinates(smooth, at + shift, order=1, mode="nearest")
        behind = map_coordinates(smooth, at - shift, order=1, mode="nearest")
        gradient[axis] = (ahead - behind) / step[axis]
    world = np.linalg.solve(chest.affine[:3, :3].T, -gradient)  # a gradient is a covector: inverse transpose
    return cast(Points, (world / np.maximum(np.linalg.norm(world, axis=0), 1e-12)).T)


def _nearest_visible(chest: Hemithorax, inner: Points, wall: Points) -> NDArray[np.int64]:
    """For each inner point the index of the nearest wall point in straight sight through air; -1 where none is."""
    start, end = chest.to_lps(inner), chest.to_lps(wall)
    nearest = cKDTree(end).query(start)[1].astype(np.int64)
    hidden = np.flatnonzero(~_in_sight(chest.air, inner, wall[nearest]))
    nearest[hidden] = -1
    if hidden.size == 0:
        return cast("NDArray[np.int64]", nearest)
    # A sheet of lung hides the nearest wall from its far face: look among more distant points of a thinned wall.
    cells = np.floor(end / _COARSE_WALL_MM).astype(np.int64)
    thinned = np.unique(cells, axis=0, return_index=True)[1]
    count = min(_CANDIDATES, len(thinned))
    candidates = thinned[cKDTree(end[thinned]).query(start[hidden], k=count)[1].reshape(hidden.size, count)]
    for rank in range(count):
        open_ones = np.flatnonzero(nearest[hidden] < 0)
        if open_ones.size == 0:
            break
        tried = candidates[open_ones, rank]
        seen = _in_sight(chest.air, inner[hidden[open_ones]], wall[tried])
        nearest[hidden[open_ones[seen]]] = tried[seen]
    return cast("NDArray[np.int64]", nearest)


def _distance_to_others(chest: Hemithorax, inner: Points, others: Points) -> Points:
    """Distance [n] to the nearest point of mediastinum or diaphragm, mm; infinite where lung lies between."""
    if len(others) == 0 or len(inner) == 0:
        return np.full(len(inner), np.inf)
    distance, nearest = cKDTree(chest.to_lps(others)).query(chest.to_lps(inner))
    return cast(Points, np.where(_in_sight(chest.air, inner, others[nearest]), distance, np.inf))


def _in_sight(air: Mask, start: Points, end: Points) -> Mask:
    """Whether the straight lines [n] between voxel indices run through air; both ends are spared by one voxel."""
    line = end - start
    spared = np.minimum(0.5, 1.25 / np.maximum(np.abs(line).max(axis=1), 1e-9))
    share = spared[:, None] + (1.0 - 2.0 * spared[:, None]) * np.linspace(0.0, 1.0, _SAMPLES)
    at = np.rint(start[:, None, :] + share[:, :, None] * line[:, None, :]).astype(np.int64)
    inside = air[at[..., 0], at[..., 1], at[..., 2]]
    short = np.abs(line).max(axis=1) <= 2.5
    return cast(Mask, short | (np.count_nonzero(~inside, axis=1) <= 1))
