"""What fills the lungs of the analytic thorax: parenchyma and vessel trees."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xrecon.phantoms.layout import Anatomy
from xrecon.phantoms.shapes import Floats, Window, capsules, occupancy

BLOOD_HU = 50.0
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
        radius = np.maximum(tree.radius, half_voxel)
        weight = ((tree.radius / radius) ** 2).astype(np.float32)
        pairs = np.stack([radius, radius], axis=1)
        for i, where, distance in capsules(window, start, end, pairs, reach_mm=half_voxel):
            piece = occupancy(distance, window.spacing_mm) * weight[i]
            np.maximum(share[where], piece, out=share[where])
    return share
