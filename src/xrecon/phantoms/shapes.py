"""Drawing with signed distances: a voxel grid, windows into it, and a few shapes.

Positions are LPS mm (x to the patient's left, y to the back, z to the head); arrays are [D, H, W] as everywhere.
A signed distance is negative inside. Shapes take broadcastable x, y, z, so a property that depends on z alone costs
a vector and not a volume.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Point = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Window:
    """A box of voxels of a grid.

    Attributes:
        slices: where the box lies in the grid's arrays [D, H, W].
        x, y, z: float32 voxel centres [1, 1, W], [1, H, 1], [D, 1, 1], LPS mm.
        spacing_mm: voxel pitch.
    """

    slices: tuple[slice, slice, slice]
    x: Floats
    y: Floats
    z: Floats
    spacing_mm: float

    @classmethod
    def cube(cls, size: int, spacing_mm: float) -> Window:
        """The whole grid: `size`^3 voxels of `spacing_mm`, centred at the origin, in canonical orientation."""
        axis = ((np.arange(size) - (size - 1) / 2) * spacing_mm).astype(np.float32)
        whole = slice(0, size)
        return cls((whole, whole, whole), axis[None, None, :], axis[None, :, None], -axis[:, None, None], spacing_mm)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W)."""
        return self.z.shape[0], self.y.shape[1], self.x.shape[2]

    @property
    def empty(self) -> bool:
        """Whether no voxel lies in the box."""
        return 0 in self.shape

    def local(self, low: Sequence[float], high: Sequence[float]) -> tuple[slice, slice, slice]:
        """Slices into this window's own arrays of the voxels whose centres lie between two corners (x, y, z)."""
        if self.empty:
            return slice(0, 0), slice(0, 0), slice(0, 0)
        step = self.spacing_mm
        starts = (-float(self.z[0, 0, 0]), float(self.y[0, 0, 0]), float(self.x[0, 0, 0]))
        lows = (-high[2], low[1], low[0])
        highs = (-low[2], high[1], high[0])
        slices = []
        for start, first, last, count in zip(starts, lows, highs, self.shape, strict=True):
            begin = min(max(int(np.ceil((first - start) / step)), 0), count)
            slices.append(slice(begin, min(max(int(np.floor((last - start) / step)) + 1, begin), count)))
        return slices[0], slices[1], slices[2]

    def box(self, low: Sequence[float], high: Sequence[float]) -> Window:
        """The part of this window between two corners (x, y, z); may be empty."""
        d, h, w = self.local(low, high)
        moved = [
            slice(outer.start + inner.start, outer.start + inner.stop)
            for outer, inner in zip(self.slices, (d, h, w), strict=True)
        ]
        return Window(
            (moved[0], moved[1], moved[2]), self.x[:, :, w], self.y[:, h, :], self.z[d, :, :], self.spacing_mm
        )

    def around(self, centre: Point, reach_mm: float) -> Window:
        """The part within `reach_mm` of a point along every axis."""
        return self.box([c - reach_mm for c in centre], [c + reach_mm for c in centre])


def occupancy(distance: Floats, spacing_mm: float) -> Floats:
    """Share of a voxel that lies inside: a linear ramp over one voxel across the surface, 0..1."""
    share = np.float32(0.5) - distance / np.float32(spacing_mm)
    result: Floats = np.minimum(np.maximum(share, np.float32(0)), np.float32(1))
    return result


def blend(values: Floats, share: Floats, value: Floats | float) -> None:
    """Replace `share` (0..1) of each voxel by `value`, in place: partial volume."""
    values += share * (value - values)


def smooth_union(first: Floats, second: Floats, radius_mm: float) -> Floats:
    """Union of two signed distances with a fillet of about `radius_mm` (quadratic smooth minimum)."""
    reach = np.maximum(radius_mm - np.abs(first - second), 0.0)
    result: Floats = np.minimum(first, second) - reach * reach * np.float32(0.25 / radius_mm)
    return result


def ellipsoid(
    x: Floats, y: Floats, z: Floats, *, centre: Point, semi_axes: Point, axes: NDArray[np.float64] | None = None
) -> Floats:
    """Signed distance to an ellipsoid (first order: exact on the surface, right in sign everywhere).

    `axes` [3, 3] holds the directions of the semi-axes as columns; default x, y, z.
    """
    p = [x - np.float32(centre[0]), y - np.float32(centre[1]), z - np.float32(centre[2])]
    if axes is not None:
        p = [sum(p[i] * np.float32(axes[i, k]) for i in range(3)) for k in range(3)]  # type: ignore[misc]
    scaled = [v / np.float32(a) for v, a in zip(p, semi_axes, strict=True)]
    norm = np.sqrt(scaled[0] ** 2 + scaled[1] ** 2 + scaled[2] ** 2)
    again = [v / np.float32(a) for v, a in zip(scaled, semi_axes, strict=True)]
    slope = np.sqrt(again[0] ** 2 + again[1] ** 2 + again[2] ** 2)
    result: Floats = np.where(slope > 0, norm * (norm - 1) / np.maximum(slope, 1e-9), -min(semi_axes))
    return result


def section(u: Floats, v: Floats, half_u: Any, half_v: Any, *, power: float = 2.0) -> Floats:
    """Signed distance, in the plane, to a superellipse |u/half_u|^power + |v/half_v|^power = 1 (first order).

    Half-axes may vary from slice to slice (arrays [D, 1, 1]). `power` 2 is an ellipse, more is boxier.
    """
    a, b = np.maximum(half_u, 0.1), np.maximum(half_v, 0.1)
    su, sv = np.abs(u) / a, np.abs(v) / b
    total = np.maximum(su**power + sv**power, 1e-6)
    slope = np.sqrt((su ** (power - 1) / a) ** 2 + (sv ** (power - 1) / b) ** 2)
    norm = total ** np.float32(1 / power)
    distance = (norm - 1) * total / (norm * np.maximum(slope, 1e-9))
    result: Floats = np.maximum(distance, -np.minimum(a, b)).astype(np.float32)
    return result


def triangle(x: Floats, y: Floats, z: Floats, corners: NDArray[np.float64]) -> Floats:
    """Distance to a flat triangle, corners [3, 3] (rows x, y, z); subtract half a thickness to make a plate."""
    a, b, c = corners
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal)
    height = _dot(x, y, z, a, normal)
    edges: list[Floats] = []
    inside: NDArray[np.bool_] = np.ones((1, 1, 1), dtype=np.bool_)
    for start, end in ((a, b), (b, c), (c, a)):
        side = _dot(x, y, z, start, np.cross(normal, end - start)) >= 0
        inside = inside & side
        edges.append(segment(x, y, z, tuple(start), tuple(end)))
    outside = np.minimum(np.minimum(edges[0], edges[1]), edges[2])
    result: Floats = np.where(inside, np.abs(height), outside)
    return result


def _dot(x: Floats, y: Floats, z: Floats, origin: NDArray[np.float64], direction: NDArray[np.float64]) -> Floats:
    ox, oy, oz = (np.float32(v) for v in origin)
    dx, dy, dz = (np.float32(v) for v in direction)
    along: Floats = (x - ox) * dx + (y - oy) * dy + (z - oz) * dz
    return along


def segment(
    x: Floats,
    y: Floats,
    z: Floats,
    start: Sequence[float],
    end: Sequence[float],
    *,
    radii: tuple[float, float] = (0, 0),
) -> Floats:
    """Signed distance to a capsule from `start` to `end` whose radius goes linearly from one value to the other."""
    ax, ay, az = (np.float32(v) for v in start)
    dx, dy, dz = (np.float32(e - s) for s, e in zip(start, end, strict=True))
    length = max(float(dx * dx + dy * dy + dz * dz), 1e-9)
    px, py, pz = x - ax, y - ay, z - az
    along = (px * dx + py * dy + pz * dz) / np.float32(length)
    along = np.minimum(np.maximum(along, np.float32(0)), np.float32(1))  # np.clip takes longer on small arrays
    gap = np.sqrt((px - along * dx) ** 2 + (py - along * dy) ** 2 + (pz - along * dz) ** 2)
    result: Floats = gap - (np.float32(radii[0]) + along * np.float32(radii[1] - radii[0]))
    return result


def capsules(
    window: Window,
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    radii: NDArray[np.float64],
    *,
    reach_mm: float,
    stretch_z: float = 1.0,
) -> Iterator[tuple[int, tuple[slice, slice, slice], Floats]]:
    """Signed distance to each of N capsules, in that capsule's bounding box only.

    Args:
        window: where to draw.
        start, end: [N, 3] mm.
        radii: [N, 2] mm, at the start and at the end.
        reach_mm: distance from the surface up to which values are wanted.
        stretch_z: height over thickness of the section; distances are those of the squeezed space.

    Yields:
        The capsule's number, slices into the window's arrays, and the distance there; none where it is not seen.
    """
    if window.empty:
        return
    squeeze = np.array([1.0, 1.0, 1.0 / stretch_z])
    reach = (radii.max(axis=1) + reach_mm)[:, None] / squeeze
    low, high = np.minimum(start, end) - reach, np.maximum(start, end) + reach
    # All boxes at once: there are thousands of pieces, each a few voxels large.
    first = np.stack([-high[:, 2], low[:, 1], low[:, 0]], axis=1)
    last = np.stack([-low[:, 2], high[:, 1], high[:, 0]], axis=1)
    origin = np.array([-window.z[0, 0, 0], window.y[0, 0, 0], window.x[0, 0, 0]], dtype=np.float64)
    begin = np.clip(np.ceil((first - origin) / window.spacing_mm).astype(int), 0, window.shape)
    stop = np.clip(np.floor((last - origin) / window.spacing_mm).astype(int) + 1, 0, window.shape)
    squeezed_start, squeezed_end = (start * squeeze).tolist(), (end * squeeze).tolist()
    for i in np.flatnonzero((stop > begin).all(axis=1)).tolist():
        d, h, w = (slice(int(begin[i, k]), int(stop[i, k])) for k in range(3))
        x, y, z = window.x[:, :, w], window.y[:, h, :], window.z[d, :, :] * np.float32(squeeze[2])
        pair = float(radii[i, 0]), float(radii[i, 1])
        yield i, (d, h, w), segment(x, y, z, squeezed_start[i], squeezed_end[i], radii=pair)


def tube(
    window: Window,
    points: NDArray[np.float64],
    radii: NDArray[np.float64] | float,
    *,
    reach_mm: float = 4.0,
    stretch_z: float = 1.0,
) -> Floats:
    """Signed distance [D, H, W] to a tube along `points` [N, 3]; farther than `reach_mm` it is just `reach_mm`."""
    sizes = np.broadcast_to(np.asarray(radii, dtype=np.float64), len(points))
    distance = np.full(window.shape, reach_mm, dtype=np.float32)
    pairs = np.stack([sizes[:-1], sizes[1:]], axis=1)
    for _, where, piece in capsules(window, points[:-1], points[1:], pairs, reach_mm=reach_mm, stretch_z=stretch_z):
        np.minimum(distance[where], piece, out=distance[where])
    return distance


def curve(points: Sequence[Sequence[float]] | NDArray[np.float64], *, step_mm: float = 6.0) -> NDArray[np.float64]:
    """A smooth curve [N, 3] through control points, sampled about every `step_mm`."""
    from scipy.interpolate import PchipInterpolator

    control = np.asarray(points, dtype=np.float64)
    chord = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(control, axis=0), axis=1))])
    count = max(int(np.ceil(chord[-1] / step_mm)) + 1, 2)
    sampled: NDArray[np.float64] = PchipInterpolator(chord, control)(np.linspace(0.0, chord[-1], count))
    return sampled
