"""The airways of the analytic thorax: trachea, main bronchi and the first lobar branches, with their walls."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xrecon.phantoms.layout import Anatomy
from xrecon.phantoms.shapes import Floats, Window, blend, curve, occupancy, tube

LUMEN_HU = -1000.0
WALL_HU = 35.0


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
    lumens = []
    for name, (points, radii) in airway_tubes(anatomy).items():
        margin = radii.max() + 8.0 + 2 * grid.spacing_mm
        window = grid.box(points.min(axis=0) - margin, points.max(axis=0) + margin)
        if window.empty:
            continue
        distance = tube(window, points, radii, reach_mm=3.0 + 1.5 * grid.spacing_mm)
        allowed = 1.0 - blocked[window.slices]
        wall = 1.6 if name == "trachea" or "main" in name else 1.0
        blend(hu[window.slices], occupancy(distance - np.float32(wall), grid.spacing_mm) * allowed, WALL_HU)
        lumens.append((name, window, occupancy(distance, grid.spacing_mm) * allowed))
    for name, window, lumen in lumens:  # after all walls, so that no wall closes a junction
        blend(hu[window.slices], lumen, LUMEN_HU)
        masks["airways"][window.slices] |= lumen >= 0.5
        if name == "trachea":
            masks["trachea"][window.slices] |= lumen >= 0.5
    return masks
