"""What fills the pleural cavities of the analytic thorax: lung, vessel trees, airways and free air."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from xrecon.errors import InputError
from xrecon.phantoms.layout import SIDES, Anatomy
from xrecon.phantoms.shapes import Floats, Window, blend, capsules, curve, occupancy, tube

BLOOD_HU = 50.0
FREE_AIR_HU = -990.0
AIRWAY_HU = -1000.0
_TIP_MM = 0.85  # radius of the last vessel branches

Warp = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Tree:
    """Vessel branches: start and end [N, 3] mm, radius [N] mm."""

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    radius: NDArray[np.float64]


def lung_hu(y: Floats, front_y: float, back_y: float) -> Floats:
    """Parenchyma, HU: -870 in front to -825 behind, as gravity draws blood to the back of a supine patient."""
    share = np.clip((y - np.float32(front_y)) / np.float32(back_y - front_y), 0.0, 1.0)
    result: Floats = (-870.0 + 45.0 * share).astype(np.float32)
    return result


def grow_tree(
    root: NDArray[np.float64], targets: NDArray[np.float64], rng: np.random.Generator, *, tip_mm: float = _TIP_MM
) -> Tree:
    """A tree that reaches every target [N, 3] from `root`: split the targets in two, go part of the way, repeat.

    The radius follows Murray's law with exponent 2.7: radius = tip * (tips supplied)^(1/2.7).
    """
    pieces: list[tuple[NDArray[np.float64], NDArray[np.float64], float]] = []
    stack = [(root, targets)]
    while stack:
        node, reached = stack.pop()
        if len(reached) == 1:
            pieces.append((node, reached[0], tip_mm))
            continue
        offset = reached - reached.sum(axis=0) / len(reached)
        along = offset @ offset[np.argmax((offset * offset).sum(axis=1))]  # towards the farthest target
        order = np.argsort(along, kind="stable")
        cut = min(max(round(len(order) * rng.uniform(0.36, 0.64)), 1), len(order) - 1)
        for half in (reached[order[:cut]], reached[order[cut:]]):
            if len(half) == 1:
                stack.append((node, half))
                continue
            way = half.sum(axis=0) / len(half) - node
            bend = rng.normal(0.0, 0.06, 3) * math.sqrt(float(way @ way))
            middle, tip = node + 0.25 * way + bend, node + 0.5 * way
            radius = tip_mm * len(half) ** (1 / 2.7)
            pieces += [(node, middle, radius), (middle, tip, radius)]
            stack.append((tip, half))
    starts, ends, radii = zip(*pieces, strict=True)
    return Tree(np.array(starts), np.array(ends), np.array(radii))


def vessel_trees(anatomy: Anatomy, side: str, rng: np.random.Generator) -> list[Tree]:
    """Arteries and veins of one lung, the same at every voxel size (targets come from a grid of fixed 8 mm)."""
    window = Window.cube(56, 8.0).box(*anatomy.lung_box(side))
    depth = -anatomy.cavity(window, side)
    d, h, w = np.nonzero(depth > 7.0)
    points = np.stack([window.x[0, 0, w], window.y[0, h, 0], window.z[d, 0, 0]], axis=1).astype(np.float64)
    points += rng.uniform(-3.0, 3.0, points.shape)
    root = np.array(anatomy.hilum[side])
    below = root - np.array([0.0, 0.0, 16.0])
    trees = []
    for origin, share in ((root, 0.16), (below, 0.08)):
        chosen = rng.choice(len(points), size=max(int(share * len(points)), 8), replace=False)
        trees.append(grow_tree(origin, points[chosen], rng))
    return trees


def vessel_share(window: Window, trees: list[Tree], warp: Warp | None = None) -> Floats:
    """Share [D, H, W] of each voxel that is vessel; `warp` moves the branches' points (a lung that has collapsed).

    A branch thinner than a voxel is drawn one voxel thick with its share lowered by the square of the ratio, so that
    its mass is right at any resolution.
    """
    share = np.zeros(window.shape, dtype=np.float32)
    half_voxel = 0.5 * window.spacing_mm
    for tree in trees:
        start, end = (tree.start, tree.end) if warp is None else (warp(tree.start), warp(tree.end))
        drawn = np.maximum(tree.radius, half_voxel)
        weight = ((tree.radius / drawn) ** 2).astype(np.float32)
        pairs = np.stack([drawn, drawn], axis=1)
        for i, where, distance in capsules(window, start, end, pairs, reach_mm=half_voxel):
            piece = occupancy(distance, window.spacing_mm) * weight[i]
            np.maximum(share[where], piece, out=share[where])
    return share


# ---- airways ---------------------------------------------------------------------------------------------------------


def airway_tubes(anatomy: Anatomy) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Centre line [N, 3] and lumen radius [N], mm: trachea, main bronchi (the right one steeper), lobar stubs."""
    x, y, z = anatomy.carina
    size = anatomy.height / 225.0
    top = max(anatomy.apex_z + 90.0, z + 60.0)
    neck_y = float(anatomy.spine_y(anatomy.apex_z + 40.0)) - 34.0
    tubes: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}

    def add(name: str, points: list[tuple[float, float, float]], first: float, last: float) -> None:
        path = curve(points, step_mm=5.0)
        tubes[name] = (path, size * np.linspace(first, last, len(path)))

    add(
        "trachea",
        [(0.0, neck_y, top), (0.0, neck_y + 2, anatomy.apex_z + 20), (x + 1, y - 2, z + 25), (x, y, z)],
        9,
        8.5,
    )
    right, left = anatomy.hilum["right"], anatomy.hilum["left"]
    add(
        "right_main_bronchus",
        [(x, y, z + 2), (x - 14, y + 3, z - 14), (right[0] + 12, right[1] + 4, right[2] + 2)],
        7.5,
        7,
    )
    add("left_main_bronchus", [(x, y, z + 2), (x + 18, y + 4, z - 12), (left[0] - 2, left[1] + 4, left[2] - 6)], 6.8, 6)
    add("right_upper", [(x - 13, y + 3, z - 12), (right[0] - 6, right[1], right[2] + 20)], 4.6, 3.2)
    add("right_lower", [(right[0] + 12, right[1] + 4, right[2] + 2), (right[0], right[1] + 14, right[2] - 38)], 6, 3.5)
    add(
        "right_middle",
        [(right[0] + 9, right[1] + 5, right[2] - 10), (right[0] - 8, right[1] - 24, right[2] - 34)],
        3.8,
        2.6,
    )
    add("left_upper", [(left[0] - 3, left[1] + 4, left[2] - 6), (left[0] + 10, left[1] - 14, left[2] + 18)], 4.6, 3.0)
    add("left_lower", [(left[0] - 3, left[1] + 4, left[2] - 6), (left[0] + 10, left[1] + 18, left[2] - 40)], 5.6, 3.2)
    return tubes


def draw_airways(hu: Floats, grid: Window, anatomy: Anatomy, blocked: Floats) -> dict[str, NDArray[np.bool_]]:
    """Draw wall and lumen into `hu`; `blocked` [D, H, W] is the share of free air, where no airway may run.

    Returns masks of the lumen: `trachea`, and `airways` (all of it).
    """
    masks = {"trachea": np.zeros(grid.shape, dtype=bool), "airways": np.zeros(grid.shape, dtype=bool)}
    drawn = []
    for name, (points, radii) in airway_tubes(anatomy).items():
        margin = radii.max() + 8.0 + 2 * grid.spacing_mm
        window = grid.box(points.min(axis=0) - margin, points.max(axis=0) + margin)
        if window.empty:
            continue
        distance = tube(window, points, radii, reach_mm=3.0 + 1.5 * grid.spacing_mm)
        allowed = 1.0 - blocked[window.slices]
        wall = 1.6 if name == "trachea" or "main" in name else 1.0
        blend(hu[window.slices], occupancy(distance - np.float32(wall), grid.spacing_mm) * allowed, 35.0)
        drawn.append((name, window, occupancy(distance, grid.spacing_mm) * allowed))
    for name, window, lumen in drawn:  # after all walls, so that no wall closes a junction
        blend(hu[window.slices], lumen, AIRWAY_HU)
        masks["airways"][window.slices] |= lumen >= 0.5
        if name == "trachea":
            masks["trachea"][window.slices] |= lumen >= 0.5
    return masks


# ---- pneumothorax ----------------------------------------------------------------------------------------------------

_STEP_DEG = 3.0


class Collapse:
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
        here = (window.x[0, 0, w], window.y[0, h, 0], window.z[d, 0, 0])
        self._polar = self._lookup([(here[i] - np.float32(self.hilum[i])).astype(np.float32) for i in range(3)])
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
        got = pocket(self.degree)
        if abs(got - volume_ml) > 0.02 * volume_ml:
            raise InputError(
                f"a pneumothorax of {volume_ml:g} mL cannot be met within 2 % with voxels of {window.spacing_mm:g} mm "
                f"(nearest: {got:.3g} mL); ask for more, or use smaller voxels"
            )
        return self.lung(self.degree)

    def warp(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where points [N, 3] of the expanded lung lie in the collapsed one: drawn in along their rays."""
        offset = points - self.hilum
        _, _, weight = self._lookup([offset[:, i].astype(np.float32) for i in range(3)])
        kept = 1.0 - self._retreat(weight, self.degree)
        return np.asarray(self.hilum + kept[:, None] * offset, dtype=np.float64)
