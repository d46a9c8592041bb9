"""Draw a collapsed lung, the air beside it and its pleura into a CT, with partial volume on every edge.

All arrays are the box round one pleural cavity on the CT's own grid. Density means HU + 1000: proportional to mass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import make_interp_spline
from scipy.special import ndtr

from xrecon.anatomy.morphology import Floats, Mask, Spacing, beside_mask, signed_mm
from xrecon.planting.flow import Collapse
from xrecon.smoothing import gaussian_smoothed

PLEURA_MM = 0.9
"""The visceral pleura with the subpleural tissue pressed against it, as a CT shows it; about 1 mm."""
_PLEURA_DENSITY = 1010.0
_BLUR_MM = 0.55
"""Standard deviation of a standard kernel's point spread in the slice; the voxel's own width comes on top."""
_RIB_MM = 7.0
"""Prints of ribs are about this deep and wide (standard deviation); they go when the gap is as wide."""
_SLOPE_VOXELS = 1.5
FULL_DENSITY = 1060.0
"""Airless lung: tissue and blood, about 60 HU."""


@dataclass(frozen=True, eq=False)
class Wall:
    """The boundary of a cavity as the CT shows it.

    Attributes:
        depth: [D, H, W] signed distance to the wall, mm, positive inside, smooth.
        share: [D, H, W] 0..1, how much of each voxel is wall (chest wall, diaphragm, mediastinum).
        wall_density: [D, H, W] density of the wall nearby.
        lung_density: [D, H, W] density of the lung nearby, without vessels.
    """

    depth: Floats
    share: Floats
    wall_density: Floats
    lung_density: Floats


@dataclass(frozen=True, eq=False)
class Motion:
    """A collapse on the CT's own grid.

    Attributes:
        near: [D, H, W] bool, voxels that are not all wall; the arrays below hold their values only, [N].
        origin: [3, N] where the tissue of each voxel was, in voxels.
        shift_mm: [N] how far that is.
        factor: [N] how much denser the tissue became.
        distance_mm: [N] to the surface of the collapsed lung, positive inside it.
        opened: [N] 0..1: 1 where lung and wall have parted by more than about a millimetre.
        blur_mm: [N] standard deviation of an edge's profile there.
        room: [N] 0..1, share of the voxel inside the cavity by distance alone.
    """

    near: Mask
    origin: Floats
    shift_mm: Floats
    factor: Floats
    distance_mm: Floats
    opened: Floats
    blur_mm: Floats
    room: Floats

    def lung_share(self, push_mm: float, *, within_mm: float = 0.0) -> Floats:
        """[N] share of lung in what is not wall, when its surface recedes by another `push_mm` where it is free.

        With `within_mm` only the tissue deeper than that below the lung's free surface.
        """
        depth = self.distance_mm - np.float32(push_mm) * self.opened - np.float32(within_mm) * self.opened
        return np.asarray(np.minimum(ndtr(depth / self.blur_mm) / np.maximum(self.room, 1e-3), 1.0), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class CollapsedLung:
    """A collapsed lung in its cavity, before it is drawn. All [D, H, W].

    Attributes:
        wall: boundary of the cavity.
        lung_share: 0..1 of the part of the voxel that is not wall.
        pleura_share: part of `lung_share` that is visceral pleura beside the gap.
        tissue: density of the collapsed lung before its mass is matched.
        limit: density that the tissue cannot exceed: airless lung, or the vessel that it was.
        moved: 0..1: 0 where nothing changes visibly.
    """

    wall: Wall
    lung_share: Floats
    pleura_share: Floats
    tissue: Floats
    limit: Floats
    moved: Floats

    @property
    def gap_share(self) -> Floats:
        """Share of each voxel that is neither wall nor lung."""
        return np.asarray((1.0 - self.wall.share) * (1.0 - self.lung_share), dtype=np.float32)


def find_wall(hu: Floats, cavity: Mask, foreign: Mask, spacing: Spacing) -> Wall:
    """Shares of wall and lung in the boundary voxels, from their HU between that of the lung and the wall nearby.

    `foreign` air (airways, the other lung) and its thin partition are wall: nothing is drawn there.
    """
    voxel = max(spacing)
    depth = gaussian_smoothed(signed_mm(cavity, spacing), [0.9 * min(spacing) / s for s in spacing])
    density = hu + np.float32(1000.0)
    lung = cavity & (depth > 1.5 * voxel)
    typical = float(np.median(density[lung])) if lung.any() else 150.0
    lung_near = _local_mean(density, lung & (density < typical + 150.0), spacing, default=typical)
    outside = ~cavity & (hu > -250.0) & (hu < 250.0) & (depth < 0.0) & (depth > -4.0 * voxel)
    wall_near = _local_mean(density, outside, spacing, default=1000.0)
    share = np.clip((density - lung_near) / np.maximum(wall_near - lung_near, 100.0), 0.0, 1.0)
    # A vessel that meets the wall is not wall: what lies deeper than about a voxel cannot be.
    share *= np.clip((1.9 * voxel - depth) / (1.2 * voxel), 0.0, 1.0)
    # Nor does the cavity reach more than a voxel beyond its mask.
    share = np.maximum(share, np.clip((-depth - 0.6 * voxel) / (0.6 * voxel), 0.0, 1.0))
    beside = beside_mask(foreign, 1.01 * voxel, spacing)
    share = np.where(~cavity & beside, 1.0, share)
    return Wall(depth.astype(np.float32), share.astype(np.float32), wall_near, lung_near)


@dataclass(frozen=True, eq=False)
class WallMaps:
    """What every collapse in a cavity needs of its wall. Values [N] belong to the voxels that are not all wall.

    Attributes:
        near: [D, H, W] bool, those voxels.
        places: [3, N] float32, their indices.
        depth: [N] signed distance to the wall, mm.
        rounded: [D, H, W] signed distance to a wall without the prints of ribs, mm.
        blur_mm: [N] standard deviation of an edge's profile there.
        room: [N] 0..1, share of the voxel inside the cavity by distance alone.
        weight: [D, H, W] smoothed `near`, at least a thousandth.
    """

    near: Mask
    places: Floats
    depth: Floats
    rounded: Floats
    blur_mm: Floats
    room: Floats
    weight: Floats

    @classmethod
    def of(cls, wall: Wall, spacing: Spacing) -> WallMaps:
        """The maps of a wall on voxels of this pitch."""
        near = wall.share < 1.0
        blur = _blur_mm(wall.depth, spacing)[near]
        weight = gaussian_smoothed(near.astype(np.float32), _SLOPE_VOXELS)
        return cls(
            near,
            np.stack(np.nonzero(near)).astype(np.float32),
            wall.depth[near],
            gaussian_smoothed(wall.depth, [_RIB_MM / s for s in spacing]),
            blur,
            np.asarray(ndtr(wall.depth[near] / blur), dtype=np.float32),
            np.maximum(weight, 1e-3),
        )


def move(wall: Wall, collapse: Collapse, *, pitch_mm: float, spacing: Spacing, maps: WallMaps | None = None) -> Motion:
    """Bring a collapse to the grid of the box; voxel (0, 0, 0) of both grids lies at the same place.

    `maps` are those of the wall, where they are known.
    """
    maps = WallMaps.of(wall, spacing) if maps is None else maps
    shape, near = wall.depth.shape, maps.near
    positions = [np.arange(n) * s / pitch_mm for n, s in zip(shape, spacing, strict=True)]
    shift = np.stack([_spline_samples(part, positions)[near] for part in collapse.shift_mm])
    factor = np.exp(_spline_samples(collapse.log_density, positions)[near])
    origin = maps.places + shift / np.asarray(spacing, dtype=np.float32)[:, None]
    surface = np.full(shape, -4.0 * max(spacing), dtype=np.float32)
    level = ndimage.map_coordinates(wall.depth, origin, order=1, mode="nearest")
    # A lung that has left the wall loses the print of the ribs.
    rounded = ndimage.map_coordinates(maps.rounded, origin, order=1, mode="nearest")
    level += _smoothstep((maps.depth - level) / _RIB_MM) * (rounded - level)
    surface[near] = level
    return Motion(
        near,
        origin,
        np.asarray(np.linalg.norm(shift, axis=0), dtype=np.float32),
        factor,
        level / _slope(surface, maps, spacing)[near],
        _smoothstep((maps.depth - level) / 1.2),
        maps.blur_mm,
        maps.room,
    )


def build_scene(
    hu: Floats, wall: Wall, motion: Motion, *, spacing: Spacing, push_mm: float, pleura_mm: float = PLEURA_MM
) -> CollapsedLung:
    """Shares of lung and pleura per voxel and the density of the moved tissue, before its mass is matched."""

    def full(values: Floats, default: float) -> Floats:
        out = np.full(hu.shape, default, dtype=np.float32)
        out[motion.near] = values
        return out

    lung = motion.lung_share(push_mm)
    inner = motion.lung_share(push_mm, within_mm=pleura_mm)
    carried = _carried_density(hu, wall, motion, spacing)
    return CollapsedLung(
        wall,
        full(lung, 0.0),
        full((lung - inner) * motion.opened, 0.0),
        full(carried * motion.factor, 0.0),
        full(np.maximum(carried, FULL_DENSITY), FULL_DENSITY),
        full(np.maximum(_smoothstep(motion.shift_mm / 0.8), _smoothstep((1.0 - lung) * 20.0)), 0.0),
    )


def match_mass(scene: CollapsedLung, hu: Floats, *, gap_density: Floats) -> tuple[Floats, float, float]:
    """Density [D, H, W] with the lung's tissue scaled until it weighs what it did; that mass; the mass reached.

    Tissue never gets denser than airless lung (or than the vessel it was): a lung pressed harder than its own tissue
    allows loses blood, and the second number is smaller than the first. Both in units of density times voxels, without
    the gap's own content.
    """
    before = hu + np.float32(1000.0)
    changed = (scene.wall.share < 1.0) & (scene.moved > 0)
    parts = _ChangedVoxels.of(scene, before, gap_density, changed)
    target = float(parts.before.sum(dtype=np.float64))
    lost = float((gap_density[changed] * scene.gap_share[changed]).sum(dtype=np.float64))

    def weight(gain: float) -> float:
        return float(parts.composed(gain).sum(dtype=np.float64)) - lost

    low, high = 0.3, 1.0
    while high < 4.0 and weight(high) < target:
        low, high = high, high * 1.5
    for _ in range(12):
        middle = 0.5 * (low + high)
        if weight(middle) < target:
            low = middle
        else:
            high = middle
    values = parts.composed(0.5 * (low + high))
    # What did not move keeps its voxels, noise and all.
    density = before.astype(np.float32)
    density[changed] = values
    wall_mass = float((scene.wall.share * scene.wall.wall_density)[changed].sum(dtype=np.float64))
    return density, target - wall_mass, float(values.sum(dtype=np.float64)) - lost - wall_mass


@dataclass(frozen=True, eq=False)
class _ChangedVoxels:
    """What the density of the changed voxels is put together from, all [N].

    Attributes:
        before: density of the healthy chest.
        tissue, limit: as in `CollapsedLung`.
        tissue_share: of lung without pleura in what is not wall.
        pleura, gap, wall: density of each times its share; the share is that of what is not wall, the wall's of all.
        free: share that is not wall.
        moved: as in `CollapsedLung`.
    """

    before: Floats
    tissue: Floats
    limit: Floats
    tissue_share: Floats
    pleura: Floats
    gap: Floats
    wall: Floats
    free: Floats
    moved: Floats

    @classmethod
    def of(cls, scene: CollapsedLung, before: Floats, gap_density: Floats, changed: Mask) -> _ChangedVoxels:
        """The parts of these voxels."""
        share, lung, pleura = scene.wall.share[changed], scene.lung_share[changed], scene.pleura_share[changed]
        return cls(
            before[changed],
            scene.tissue[changed],
            scene.limit[changed],
            lung - pleura,
            pleura * np.float32(_PLEURA_DENSITY),
            (1.0 - lung) * gap_density[changed],
            share * scene.wall.wall_density[changed],
            1.0 - share,
            scene.moved[changed],
        )

    def composed(self, gain: float) -> Floats:
        """Density [N] when the tissue is `gain` times as dense."""
        tissue = _soft_limit(self.tissue * np.float32(gain), self.limit)
        inside = self.tissue_share * tissue + self.pleura + self.gap
        composed = self.wall + self.free * inside
        return np.asarray(self.before + self.moved * (composed - self.before), dtype=np.float32)


def _carried_density(hu: Floats, wall: Wall, motion: Motion, spacing: Spacing) -> Floats:
    """[N] density of the tissue that now lies at the voxels near the lung, sampled where it was, away from the wall."""
    voxel = max(spacing)
    # The wall is replaced by lung before sampling, so that it does not bleed into the lung's new surface.
    inside = np.clip((wall.depth - 0.3 * voxel) / (0.8 * voxel), 0.0, 1.0)
    density = inside * (hu + np.float32(1000.0)) + (1.0 - inside) * wall.lung_density
    shrunk = float(np.exp(np.log(np.maximum(motion.factor, 1.0)).mean())) ** (1.0 / 3.0)
    density = gaussian_smoothed(density, 0.45 * np.sqrt(max(shrunk**2 - 1.0, 0.0)))
    depth = ndimage.map_coordinates(wall.depth, motion.origin, order=1, mode="nearest")
    inward = np.clip(1.2 * voxel - depth, 0.0, 6.0 * voxel)
    source = np.empty_like(motion.origin)
    for axis, pitch in enumerate(spacing):
        normal = ndimage.map_coordinates(
            np.gradient(wall.depth, pitch, axis=axis), motion.origin, order=1, mode="nearest"
        )
        source[axis] = motion.origin[axis] + inward * normal / np.float32(pitch)
    carried = ndimage.map_coordinates(density, source, order=3, mode="nearest")
    return np.asarray(np.maximum(carried, 5.0), dtype=np.float32)


def _spline_samples(coarse: Floats, positions: Sequence[NDArray[np.float64]]) -> Floats:
    """Cubic spline through a coarse field, at the grid of the given positions (in coarse voxels) along each axis."""
    out = np.asarray(coarse, dtype=np.float32)
    for axis, where in enumerate(positions):
        weights = _spline_weights(coarse.shape[axis], where)
        out = np.moveaxis(np.tensordot(weights, out, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(out, dtype=np.float32)


def _spline_weights(count: int, where: NDArray[np.float64]) -> NDArray[np.float32]:
    spline = make_interp_spline(np.arange(count), np.eye(count), k=3 if count > 3 else 1)
    return np.asarray(spline(np.clip(where, 0, count - 1)), dtype=np.float32)


def _slope(surface: Floats, maps: WallMaps, spacing: Spacing) -> Floats:
    """Length of the gradient of a level function, smoothed: what divides it to give a distance."""
    squares = sum(part**2 for part in np.gradient(surface, *spacing))
    length = np.where(maps.near, np.sqrt(squares), 0.0).astype(np.float32)
    mean = gaussian_smoothed(length, _SLOPE_VOXELS)
    return np.asarray(np.clip(mean / maps.weight, 0.8, 6.0), dtype=np.float32)


def _blur_mm(depth: Floats, spacing: Spacing) -> Floats:
    """Standard deviation of the edge's profile across the wall's direction, mm."""
    sigma = [np.hypot(_BLUR_MM, 0.33 * s) ** 2 for s in spacing]
    parts = np.gradient(depth, *spacing)
    length = np.maximum(sum(part**2 for part in parts), 1e-3)
    return np.asarray(
        np.sqrt(sum(v * part**2 for v, part in zip(sigma, parts, strict=True)) / length), dtype=np.float32
    )


def _local_mean(values: Floats, where: Mask, spacing: Spacing, *, default: float) -> Floats:
    sigma = [6.0 / s for s in spacing]
    weight = gaussian_smoothed(where.astype(np.float32), sigma)
    mean = gaussian_smoothed(np.where(where, values, 0.0).astype(np.float32), sigma)
    return np.where(weight > 1e-3, mean / np.maximum(weight, 1e-3), np.float32(default)).astype(np.float32)


def _soft_limit(values: Floats, limit: Floats) -> Floats:
    """values far below the limit, the limit far above it, smoothly between."""
    width = np.float32(40.0)
    return np.asarray(limit - width * np.logaddexp(0.0, (limit - values) / width), dtype=np.float32)


def _smoothstep(x: Floats) -> Floats:
    x = np.clip(x, 0.0, 1.0)
    return np.asarray(x * x * (3.0 - 2.0 * x), dtype=np.float32)
