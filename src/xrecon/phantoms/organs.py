"""Soft tissue of the analytic thorax: table, body wall, mediastinum with heart and great vessels, upper abdomen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xrecon.phantoms.layout import SIDES, Anatomy
from xrecon.phantoms.shapes import Floats, Point, Window, blend, ellipsoid, occupancy, section, smooth_union, tube

SKIN_HU = 25.0
FAT_HU = -100.0
MUSCLE_HU = 48.0
MEDIASTINAL_FAT_HU = -80.0
HEART_HU = 45.0
BLOOD_HU = 50.0
LIVER_HU = 60.0
SPLEEN_HU = 50.0
STOMACH_HU = 25.0
STOMACH_GAS_HU = -980.0
TABLE_SHELL_HU = 100.0
TABLE_FOAM_HU = -600.0

_SKIN_MM = 2.0
_TABLE_RADIUS_MM = 520.0
_TABLE_HALF_WIDTH_MM = 205.0
_TABLE_MM = 24.0

Masks = dict[str, NDArray[np.bool_]]


def draw_table(hu: Floats, grid: Window, back_y: float) -> NDArray[np.bool_]:
    """A curved table top, hollow towards the patient, whose lowest line touches the back at `back_y`; its mask."""
    x, y, z = grid.x, grid.y, grid.z
    edge = _TABLE_RADIUS_MM - np.sqrt(_TABLE_RADIUS_MM**2 - np.minimum(np.abs(x), _TABLE_HALF_WIDTH_MM + 20) ** 2)
    upper = (back_y + 0.5) - edge
    sheet = np.maximum(upper - y, y - upper - _TABLE_MM)
    distance = np.maximum(sheet, np.abs(x) - _TABLE_HALF_WIDTH_MM) + 0.0 * z
    share = occupancy(distance.astype(np.float32), grid.spacing_mm)
    blend(hu, share, TABLE_SHELL_HU)
    blend(hu, occupancy((distance + np.float32(1.5)).astype(np.float32), grid.spacing_mm), TABLE_FOAM_HU)
    return share >= 0.5


def skin_back_y(anatomy: Anatomy) -> float:
    """Depth y of the hindmost point of the skin."""
    z = np.linspace(anatomy.apex_z, anatomy.apex_z - 1.5 * anatomy.height, 64)
    return float(np.max(anatomy.spine_y(z))) + 61.0 + anatomy.parameters.fat_mm


def draw_body(hu: Floats, grid: Window, anatomy: Anatomy) -> NDArray[np.bool_]:
    """Skin, subcutaneous fat, breasts, muscle and the fat of the armpits; returns the mask of the whole body."""
    x, y, z = grid.x, grid.y, grid.z
    fat = anatomy.parameters.fat_mm
    muscle = anatomy.flesh(x, y, z, beyond_mm=0.0)
    skin = anatomy.flesh(x, y, z, beyond_mm=fat)
    glands: list[tuple[Window, Floats]] = []
    if anatomy.parameters.breast_mm > 0:
        for side in SIDES:
            window, distance, gland = _breast(grid, anatomy, side)
            skin[window.slices] = smooth_union(skin[window.slices], distance, 14.0)
            glands.append((window, gland))
    share = occupancy(skin, grid.spacing_mm)
    blend(hu, share, SKIN_HU)
    blend(hu, occupancy(skin + np.float32(_SKIN_MM), grid.spacing_mm), FAT_HU)
    for window, gland in glands:
        blend(hu[window.slices], occupancy(gland, grid.spacing_mm), 10.0)
    blend(hu, occupancy(muscle, grid.spacing_mm), MUSCLE_HU)
    for sign in SIDES.values():
        z_axilla = anatomy.apex_z - 0.30 * anatomy.height
        a, _, middle = (float(v) for v in anatomy.cage(np.float64(z_axilla)))
        centre = (sign * (a + 20.0), middle - 12.0, z_axilla)
        window = grid.around(centre, 60.0)
        armpit = ellipsoid(window.x, window.y, window.z, centre=centre, semi_axes=(9.0, 26.0, 45.0))
        blend(hu[window.slices], occupancy(armpit, grid.spacing_mm), FAT_HU)
    return share >= 0.5


def _breast(grid: Window, anatomy: Anatomy, side: str) -> tuple[Window, Floats, Floats]:
    """Window, skin distance and gland distance of one breast."""
    height = anatomy.parameters.breast_mm
    z = anatomy.apex_z - 0.66 * anatomy.height
    x = SIDES[side] * 0.52 * anatomy.half_width
    y = float(anatomy.front_y(z)) + 8.0
    centre: Point = (x, y - 0.35 * height, z)
    semi = (52.0 + 0.4 * height, 18.0 + anatomy.parameters.fat_mm + 0.65 * height, 50.0 + 0.4 * height)
    window = grid.around(centre, max(semi) + 16.0)
    skin = ellipsoid(window.x, window.y, window.z, centre=centre, semi_axes=semi)
    inner = (0.62 * semi[0], 0.66 * semi[1], 0.62 * semi[2])
    gland = ellipsoid(window.x, window.y, window.z, centre=(x, centre[1] - 0.1 * semi[1], z), semi_axes=inner)
    return window, skin, gland


def draw_inside(hu: Floats, grid: Window, anatomy: Anatomy) -> Masks:
    """Everything inside the ribs but the lungs; returns the masks of heart, aorta and the abdominal organs."""
    a, front = anatomy.half_width + 6.0, float(np.min(anatomy.front_y(np.linspace(-200.0, 200.0, 64))))
    window = grid.box((-a, front - 6.0, -1e4), (a, anatomy.half_depth + 8.0, anatomy.apex_z + 8.0))
    masks: Masks = {}
    if window.empty:
        return masks
    x, y, z = window.x, window.y, window.z
    cage = anatomy.cage_distance(x, y, z)
    roof = anatomy.diaphragm_distance(x, y, z)
    part = hu[window.slices]
    # The mediastinum reaches to the cupolas; above them the neck is muscle with some fat.
    chest = np.maximum(cage, z - np.float32(anatomy.apex_z - 12.0))
    blend(part, occupancy(chest, window.spacing_mm), MEDIASTINAL_FAT_HU)
    _draw_heart(hu, grid, anatomy, masks)
    blend(part, occupancy(np.maximum(cage, roof), window.spacing_mm), MUSCLE_HU)
    belly = np.maximum(cage + 2.0, roof + 3.0).astype(np.float32)
    blend(part, occupancy(belly, window.spacing_mm), -60.0)
    _draw_abdomen(hu, grid, window, anatomy, belly, masks)
    _draw_retroperitoneum(hu, grid, anatomy)
    return masks


def _draw_heart(hu: Floats, grid: Window, anatomy: Anatomy, masks: Masks) -> None:
    x, y, z = anatomy.heart
    reach = 110.0 * anatomy.heart_size
    window = grid.around((x, y, z), reach)
    masks["heart"] = np.zeros(grid.shape, dtype=bool)
    if not window.empty:
        distance = anatomy.heart_distance(window)
        inside = np.maximum(distance, -anatomy.diaphragm_distance(window.x, window.y, window.z))
        share = occupancy(inside, grid.spacing_mm)
        blend(hu[window.slices], share, HEART_HU)
        masks["heart"][window.slices] = share >= 0.5
    masks["aorta"] = np.zeros(grid.shape, dtype=bool)
    for name, (points, radius) in anatomy.great_vessels().items():
        margin = radius + 2 * grid.spacing_mm
        near = grid.box(points.min(axis=0) - margin, points.max(axis=0) + margin)
        if near.empty:
            continue
        share = occupancy(tube(near, points, radius, reach_mm=1.5 * grid.spacing_mm), grid.spacing_mm)
        blend(hu[near.slices], share, BLOOD_HU)
        if name == "aorta":
            masks["aorta"][near.slices] = share >= 0.5


def _draw_abdomen(hu: Floats, grid: Window, window: Window, anatomy: Anatomy, belly: Floats, masks: Masks) -> None:
    """Liver on the right with its left lobe over the midline, stomach with gas and spleen on the left."""
    x, y, z = window.x, window.y, window.z
    a, b = anatomy.half_width, anatomy.half_depth
    left, right = anatomy.dome_z["left"], anatomy.dome_z["right"]
    middle_y = float(anatomy.cage(np.float64(left))[2])
    lobe = x * 0.88 + (y - middle_y) * 0.42 + (z - right) * 0.20 - 12.0
    liver = np.maximum(-smooth_union(-(belly + 1.5), -lobe, 18.0), (right - 150.0) - z).astype(np.float32)
    masks["liver"] = _fill(hu, grid, window, liver, LIVER_HU)
    spleen = ellipsoid(x, y, z, centre=(0.66 * a, middle_y + 0.50 * b, left - 46.0), semi_axes=(26.0, 36.0, 44.0))
    masks["spleen"] = _fill(hu, grid, window, np.maximum(spleen, belly + 1.5), SPLEEN_HU)
    centre = (0.46 * a, middle_y - 0.12 * b, left - 38.0)
    stomach = ellipsoid(x, y, z, centre=centre, semi_axes=(0.27 * a, 0.46 * b, 36.0))
    stomach = np.maximum(stomach, belly + 1.0).astype(np.float32)
    masks["stomach"] = _fill(hu, grid, window, stomach, STOMACH_HU)
    # The gas lies under the dome and towards the front.
    level = (centre[2] + 5.0 - z) + 0.35 * (y - np.float32(centre[1]))
    gas = np.maximum(stomach + 3.0, level).astype(np.float32)
    masks["stomach_gas"] = _fill(hu, grid, window, gas, STOMACH_GAS_HU)
    colon = ellipsoid(x, y, z, centre=(0.72 * a, middle_y - 0.3 * b, left - 84.0), semi_axes=(20.0, 24.0, 16.0))
    _fill(hu, grid, window, np.maximum(colon, belly + 3.0).astype(np.float32), 20.0)
    _fill(hu, grid, window, np.maximum(colon + 3.0, belly + 6.0).astype(np.float32), STOMACH_GAS_HU)


def _fill(hu: Floats, grid: Window, window: Window, distance: Floats, value: float) -> NDArray[np.bool_]:
    share = occupancy(distance, window.spacing_mm)
    blend(hu[window.slices], share, value)
    mask = np.zeros(grid.shape, dtype=bool)
    mask[window.slices] = share >= 0.5
    return mask


def _draw_retroperitoneum(hu: Floats, grid: Window, anatomy: Anatomy) -> None:
    """Muscle beside the lumbar spine and the abdominal aorta, which the fill of the belly has covered."""
    top = min(anatomy.dome_z.values()) - 30.0
    window = grid.box((-60.0, -60.0, -1e4), (60.0, 150.0, top))
    if window.empty:
        return
    x, y, z = window.x, window.y, window.z
    psoas = section(
        (np.abs(x) - 30.0).astype(np.float32), (y - anatomy.spine_y(z) - 6.0).astype(np.float32), 18.0, 18.0
    )
    blend(hu[window.slices], occupancy(psoas, window.spacing_mm), MUSCLE_HU)
    points, radius = anatomy.great_vessels()["aorta"]
    share = occupancy(tube(window, points, radius, reach_mm=1.5 * grid.spacing_mm), grid.spacing_mm)
    blend(hu[window.slices], share, BLOOD_HU)
