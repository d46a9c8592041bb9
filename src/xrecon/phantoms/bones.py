"""The skeleton of the analytic thorax: spine, ribs with cartilage, sternum, clavicles, scapulae."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xrecon.phantoms.layout import SIDES, Anatomy
from xrecon.phantoms.shapes import Floats, Window, blend, curve, occupancy, section, segment, triangle, tube

CORTEX_HU = 850.0
MARROW_HU = 240.0
VERTEBRA_RIM_HU = 430.0
VERTEBRA_HU = 165.0
DISC_HU = 85.0
ARCH_HU = 380.0
CANAL_HU = 20.0
CARTILAGE_HU = 110.0

# Ribs 1..12: drop from the spine to the bony front end (mm at a lung height of 225 mm), and the angle around the
# cage at which the bone ends (0 the back's midline, 180 the sternum).
_RIB_DROP = (34.0, 55.0, 72.0, 85.0, 93.0, 99.0, 101.0, 99.0, 90.0, 76.0, 48.0, 24.0)
_RIB_END = (148.0, 150.0, 150.0, 148.0, 146.0, 143.0, 138.0, 130.0, 120.0, 110.0, 84.0, 58.0)


def draw_bones(hu: Floats, grid: Window, anatomy: Anatomy) -> dict[str, NDArray[np.bool_]]:
    """Draw all bones into `hu` [D, H, W]; returns the masks `spine` and `ribs` (both sides, without cartilage)."""
    spine = _draw_spine(hu, grid, anatomy)
    ribs = np.zeros(grid.shape, dtype=bool)
    for side in SIDES:
        _draw_ribs(hu, ribs, grid, anatomy, side)
        _draw_clavicle(hu, grid, anatomy, side)
        _draw_scapula(hu, grid, anatomy, side)
    _draw_sternum(hu, grid, anatomy)
    return {"spine": spine, "ribs": ribs}


def _draw_shell(
    hu: Floats, window: Window, distance: Floats, *, rim_mm: float, rim_hu: float, core_hu: float
) -> NDArray[np.bool_]:
    """Bone with a dense rim of `rim_mm` around a core; returns the mask [D, H, W] of the window."""
    part = hu[window.slices]
    outer = occupancy(distance, window.spacing_mm)
    blend(part, outer, rim_hu)
    blend(part, occupancy(distance + np.float32(rim_mm), window.spacing_mm), core_hu)
    return outer >= 0.5


def _draw_spine(hu: Floats, grid: Window, anatomy: Anatomy) -> NDArray[np.bool_]:
    mask = np.zeros(grid.shape, dtype=bool)
    window = grid.box((-45.0, -120.0, -1e4), (45.0, anatomy.half_depth + 80.0, 1e4))
    if window.empty:
        return mask
    x, y, z = window.x, window.y, window.z
    half_u, half_v = anatomy.vertebra_half(z)
    back = y - anatomy.spine_y(z)
    column = section(x, back, half_u, half_v, power=2.2)
    inside = occupancy(column, window.spacing_mm) >= 0.5
    blend(hu[window.slices], occupancy(column, window.spacing_mm), DISC_HU)
    gap = np.full(z.shape, 1e3, dtype=np.float32)
    for vertebra in range(-5, 18):
        gap = np.minimum(gap, np.abs(z - anatomy.level(vertebra)) - np.float32(0.40 * anatomy.pitch(vertebra)))
    bodies = np.maximum(column, gap)
    _draw_shell(hu, window, bodies, rim_mm=1.6, rim_hu=VERTEBRA_RIM_HU, core_hu=VERTEBRA_HU)
    canal = section(x, back - half_v - 8.5, 8.0, 7.5)
    arch = np.maximum(section(x, back - half_v - 8.5, 12.0, 11.5), gap + 2.0)
    blend(hu[window.slices], occupancy(np.maximum(arch, -canal), window.spacing_mm), ARCH_HU)
    blend(hu[window.slices], occupancy(canal, window.spacing_mm), CANAL_HU)
    mask[window.slices] = inside | (occupancy(np.maximum(arch, -canal), window.spacing_mm) >= 0.5)
    for vertebra in range(-3, 16):
        _draw_processes(hu, mask, grid, anatomy, vertebra)
    return mask


def _draw_processes(hu: Floats, mask: NDArray[np.bool_], grid: Window, anatomy: Anatomy, vertebra: int) -> None:
    """Pedicles, transverse processes and the spinous process, which points back and down."""
    z = anatomy.level(vertebra)
    y = float(anatomy.spine_y(z))
    half_v = float(anatomy.vertebra_half(np.float64(z))[1])
    window = grid.box((-46.0, y - 10.0, z - 40.0), (46.0, y + 70.0, z + 16.0))
    if window.empty:
        return
    low = z - 0.85 * anatomy.pitch(vertebra)
    pieces = [((0.0, y + half_v + 18.0, z - 4.0), (0.0, y + half_v + 36.0, low), 3.4)]
    for sign in SIDES.values():
        pieces.append(((sign * 10.0, y + half_v - 3.0, z + 3.0), (sign * 12.0, y + half_v + 8.0, z + 3.0), 4.0))
        pieces.append(((sign * 12.0, y + half_v + 10.0, z + 3.0), (sign * 29.0, y + half_v + 18.0, z + 5.0), 3.6))
    for start, end, radius in pieces:
        distance = segment(window.x, window.y, window.z, start, end, radii=(radius, radius))
        bone = _draw_shell(hu, window, distance, rim_mm=1.3, rim_hu=650.0, core_hu=MARROW_HU)
        mask[window.slices] |= bone


def rib_path(anatomy: Anatomy, rib: int, side: str) -> NDArray[np.float64]:
    """Centre line [N, 3] of the bony part of rib 1..12, from the spine around the cage, forwards and down."""
    sign = SIDES[side]
    joint_z = anatomy.level(rib) + 0.42 * anatomy.pitch(rib)
    drop = _RIB_DROP[rib - 1] * anatomy.height / 225.0
    end = _RIB_END[rib - 1]
    y = float(anatomy.spine_y(joint_z))
    half_u, half_v = (float(v) for v in anatomy.vertebra_half(np.float64(joint_z)))
    joint = np.array([[sign * half_u, y + half_v - 3.0, joint_z]])
    angle = np.linspace(11.0, end, 26)
    share = (angle - angle[0]) / (angle[-1] - angle[0])
    # Nearly level at the neck of the rib, steepest at the flank, flatter again in front.
    fall = 0.18 * share + 0.82 * share * share * (3 - 2 * share)
    around = anatomy.wall_points(angle, joint_z - 3.0 - drop * fall, side=sign, outside_mm=4.6)
    return curve(np.concatenate([joint, around]), step_mm=5.0)


def _cartilage(anatomy: Anatomy, rib: int, side: str, end: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre line from the bony end of rib 1..7 to the sternum; ribs 8..10 join the cartilage above."""
    sign = SIDES[side]
    if rib <= 7:
        z = anatomy.apex_z - anatomy.height * (0.17 + 0.078 * (rib - 1))
        goal = np.array([sign * 14.0, float(anatomy.front_y(z)) - 4.6, z])
    else:
        goal = rib_path(anatomy, rib - 1, side)[-1] + np.array([-sign * 22.0, -3.0, 6.0])
    middle = 0.5 * (end + goal)
    middle[2] = min(end[2], goal[2]) + 0.3 * abs(end[2] - goal[2])
    middle[1] = min(middle[1], float(anatomy.wall_points(165.0, middle[2], side=sign, outside_mm=4.6)[0, 1]) + 3.0)
    return curve([tuple(end), tuple(middle), tuple(goal)], step_mm=6.0)


def _draw_ribs(hu: Floats, mask: NDArray[np.bool_], grid: Window, anatomy: Anatomy, side: str) -> None:
    size = anatomy.height / 225.0
    for rib in range(1, 13):
        path = rib_path(anatomy, rib, side)
        if rib <= 10:
            gristle = _cartilage(anatomy, rib, side, path[-1])
            window = _window_of(grid, gristle, 14.0)
            distance = tube(window, gristle, 3.4 * size, reach_mm=8.0, stretch_z=1.5)
            blend(hu[window.slices], occupancy(distance, window.spacing_mm), CARTILAGE_HU)
        window = _window_of(grid, path, 16.0)
        if window.empty:
            continue
        reach = 1.5 * window.spacing_mm + 3.0
        distance = tube(window, path, 3.5 * size, reach_mm=reach, stretch_z=1.75)
        mask[window.slices] |= _draw_shell(hu, window, distance, rim_mm=1.2, rim_hu=CORTEX_HU, core_hu=MARROW_HU)


def _window_of(grid: Window, points: NDArray[np.float64], margin_mm: float) -> Window:
    return grid.box(points.min(axis=0) - margin_mm, points.max(axis=0) + margin_mm)


def _draw_sternum(hu: Floats, grid: Window, anatomy: Anatomy) -> None:
    top, bottom = anatomy.apex_z - 0.15 * anatomy.height, anatomy.apex_z - 0.72 * anatomy.height
    window = grid.box((-34.0, -250.0, bottom - 4), (34.0, 120.0, top + 4))
    if window.empty:
        return
    x, y, z = window.x, window.y, window.z
    share = (top - z) / np.float32(top - bottom)
    width = np.interp(share, (0.0, 0.27, 0.33, 0.8, 1.0), (27.0, 17.0, 15.0, 19.0, 8.0)).astype(np.float32)
    plate = section(x, y - (anatomy.front_y(z) - 5.5), width, 5.5, power=3.0)
    distance = np.maximum(plate, np.maximum(z - top, bottom - z))
    _draw_shell(hu, window, distance, rim_mm=1.2, rim_hu=600.0, core_hu=170.0)


def _draw_clavicle(hu: Floats, grid: Window, anatomy: Anatomy, side: str) -> None:
    sign, a = SIDES[side], anatomy.half_width
    z = anatomy.apex_z - 0.165 * anatomy.height
    y = float(anatomy.front_y(z))
    points = [(20.0, y - 7.0, z), (0.40 * a, y - 5.0, z + 9.0), (0.75 * a, y + 20.0, z + 22.0)]
    points += [(1.02 * a, y + 34.0, z + 27.0)]
    path = curve([(sign * px, py, pz) for px, py, pz in points])
    window = _window_of(grid, path, 14.0)
    distance = tube(window, path, np.linspace(6.8, 5.6, len(path)), reach_mm=8.0)
    _draw_shell(hu, window, distance, rim_mm=1.8, rim_hu=CORTEX_HU, core_hu=MARROW_HU)


def _draw_scapula(hu: Floats, grid: Window, anatomy: Anatomy, side: str) -> None:
    """A thin plate behind the cage, turned out as with raised arms, with thick border, spine and glenoid."""
    sign, a, height = SIDES[side], anatomy.half_width, anatomy.height

    def place(x_share: float, depth: float, outside_mm: float) -> NDArray[np.float64]:
        z = anatomy.apex_z - depth * height
        return np.array([sign * x_share * a, anatomy.back_y(x_share * a, z, outside_mm=outside_mm), z])

    upper, lower = place(0.62, 0.14, 15.0), place(0.86, 0.60, 15.0)
    glenoid = np.array([sign * 1.06 * a, anatomy.back_y(0.8 * a, upper[2], outside_mm=15.0) - 34.0, upper[2] - 8.0])
    acromion = glenoid + np.array([0.0, 8.0, 22.0])
    plate = np.stack([upper, lower, glenoid])
    window = _window_of(grid, np.vstack([plate, acromion[None]]), 14.0)
    if window.empty:
        return
    x, y, z = window.x, window.y, window.z
    _draw_shell(hu, window, triangle(x, y, z, plate) - 1.6, rim_mm=0.8, rim_hu=700.0, core_hu=350.0)
    root = 0.7 * upper + 0.3 * lower
    bars: list[tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, float]]] = [
        (lower, glenoid, (3.2, 5.0)),
        (upper, lower, (2.4, 2.8)),
        (root + np.array([0.0, 5.0, 0.0]), acromion, (2.6, 5.0)),
        (glenoid, glenoid + np.array([0.0, -4.0, 0.0]), (11.0, 10.0)),
    ]
    for start, end, radii in bars:
        bar = segment(x, y, z, tuple(start), tuple(end), radii=radii)
        _draw_shell(hu, window, bar, rim_mm=1.5, rim_hu=CORTEX_HU, core_hu=MARROW_HU)
