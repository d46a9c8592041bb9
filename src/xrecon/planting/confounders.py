"""Air in a chest CT that is no pneumothorax: a bulla, subcutaneous emphysema, gas in the stomach.

They serve as negative examples for a search for free pleural air. Each function returns the changed CT and the mask of
the voxels that are at least half air (thin streaks have few of them).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import ndtr
from skimage.morphology import convex_hull_image

from xrecon.anatomy.healthy_lungs import ChestAir, find_lungs
from xrecon.anatomy.morphology import Floats, Mask, Spacing, box_of, depth_mm, distance_mm
from xrecon.errors import InputError
from xrecon.planting.flow import smooth_noise
from xrecon.planting.noise import ScanNoise, measure_noise
from xrecon.planting.render import FULL_DENSITY, Wall, find_wall
from xrecon.volume import RESEARCH_NOTICE, Volume

_BULLA_WALL_MM = 0.7
_SHELL = 2.0
"""Outer radius of the lung that a bulla compresses, in radii of the bulla."""
_LARGEST_STOMACH_MM = 110.0
_TISSUE_DENSITY = 1010.0
_FLUID_DENSITY = 1020.0


def plant_bulla(
    ct: Volume,
    *,
    side: str = "right",
    volume_ml: float = 60.0,
    seed: int = 0,
    chest: ChestAir | None = None,
) -> tuple[Volume, Mask]:
    """A thin-walled bulla at the pleura; the lung round it is pushed aside and keeps its mass.

    Args:
        ct: chest CT, HU, canonical orientation.
        side: "right" or "left", the patient's.
        volume_ml: of its air, 1..400 mL.
        seed: of its place and of the noise in it.
        chest: `find_lungs(ct)`, where it is known.

    Raises:
        InputError: a parameter out of range, no lungs, or the bulla does not fit.
    """
    _check(side, volume_ml, (1.0, 400.0))
    rng = np.random.default_rng([seed, 11])
    chest = find_lungs(ct) if chest is None else chest
    noise = measure_noise(ct, chest)
    sick, other = (chest.right, chest.left) if side == "right" else (chest.left, chest.right)
    spacing = ct.spacing_mm
    box = box_of(sick, spacing, margin_mm=8.0)
    hu, lung = ct.hu[box], sick[box]
    wall = find_wall(hu, lung, (chest.airway | other)[box], spacing)
    radius = 1.06 * (3.0 * volume_ml * 1000.0 / (4.0 * math.pi)) ** (1.0 / 3.0)
    places = np.argwhere(np.abs(wall.depth - 0.8 * radius) < max(spacing))
    if len(places) == 0:
        raise InputError(f"a bulla of {volume_ml:g} mL does not fit into the {side} lung; ask for less")
    centre = places[rng.integers(len(places))] * np.asarray(spacing)
    offset = np.indices(hu.shape, dtype=np.float32) * np.asarray(spacing, dtype=np.float32).reshape(3, 1, 1, 1)
    offset -= centre.reshape(3, 1, 1, 1).astype(np.float32)
    uneven = 1.0 + 0.07 * smooth_noise(hu.shape, 0.5 * radius / min(spacing), rng)
    away = np.maximum(np.linalg.norm(offset, axis=0) * uneven, 1e-3)
    free = 1.0 - wall.share
    blur = _blur(spacing)
    radius = _solve(lambda r: float((free * ndtr((r - away) / blur)).sum()) * ct.voxel_ml, volume_ml, 3.0, 80.0)
    displaced = _pushed_aside(hu, wall, centre, offset, away, radius=radius, spacing=spacing)
    ball = ndtr((radius - away) / blur)
    shell = ndtr((radius + _BULLA_WALL_MM - away) / blur) - ball
    air = np.float32(noise.air_hu + 1000.0) + noise.draw(_shape(hu), rng)
    inside = ball * air + shell * _TISSUE_DENSITY + (1.0 - ball - shell) * displaced
    density = wall.share * wall.wall_density + free * inside
    changed = (wall.share < 1.0) & (away < _SHELL * radius + max(spacing))
    new = np.where(changed, density - 1000.0, hu)
    return _written(ct, box, new, free * ball >= 0.5, f"bulla of {volume_ml:g} mL planted in the {side} lung")


def _pushed_aside(
    hu: Floats,
    wall: Wall,
    centre: NDArray[np.float64],
    offset: Floats,
    away: Floats,
    *,
    radius: float,
    spacing: Spacing,
) -> Floats:
    """Density [D, H, W] of the lung round a ball of air, whose tissue is pressed into a shell and keeps its mass.

    Args:
        hu: [D, H, W] of the box.
        wall: boundary of the lung.
        centre: (d, h, w) of the ball, mm from the box's first voxel.
        offset: [3, D, H, W] from the centre, mm.
        away: [D, H, W] distance from the centre, mm, made uneven.
        radius: of the ball, mm.
        spacing: voxel pitch (D, H, W), mm.
    """
    # A shell from the bulla to twice its radius takes the tissue of the whole ball: r'^3 = R^3 + (7/8) r^3.
    outer = _SHELL * radius
    before = outer * np.cbrt(np.clip((away**3 - radius**3) / (outer**3 - radius**3), 0.0, 1.0))
    before = np.where(away < outer, before, away)
    source = (centre.reshape(3, 1, 1, 1) + offset * (before / away)) / np.asarray(spacing).reshape(3, 1, 1, 1)
    inside = np.clip((wall.depth - 0.3 * max(spacing)) / (0.8 * max(spacing)), 0.0, 1.0)
    tissue = inside * (hu + np.float32(1000.0)) + (1.0 - inside) * wall.lung_density
    carried = ndimage.map_coordinates(tissue, source.astype(np.float32), order=1, mode="nearest")
    carried = np.where(away < outer, carried * outer**3 / (outer**3 - radius**3), carried)
    return np.asarray(np.minimum(carried, np.maximum(tissue, FULL_DENSITY)))


def plant_subcutaneous_emphysema(
    ct: Volume,
    *,
    side: str = "right",
    volume_ml: float = 40.0,
    seed: int = 0,
    chest: ChestAir | None = None,
) -> tuple[Volume, Mask]:
    """Streaks of air between the layers of the chest wall of one side.

    Args:
        ct: chest CT, HU, canonical orientation.
        side: "right" or "left", the patient's.
        volume_ml: of the air, 1..400 mL.
        seed: of the streaks.
        chest: `find_lungs(ct)`, where it is known.

    Raises:
        InputError: a parameter out of range, no lungs, or no chest wall thick enough in the field of view.
    """
    _check(side, volume_ml, (1.0, 400.0))
    rng = np.random.default_rng([seed, 12])
    chest = find_lungs(ct) if chest is None else chest
    noise = measure_noise(ct, chest)
    spacing = ct.spacing_mm
    lungs = chest.right | chest.left
    lung = chest.right if side == "right" else chest.left
    box = box_of(lung, spacing, margin_mm=60.0)
    hu = ct.hu[box]
    skin = depth_mm(chest.body[box], spacing)
    clear = distance_mm(lungs[box], spacing)
    nearer = distance_mm(lung[box], spacing) <= clear + 1e-3
    outside = distance_mm(_trunk(lungs)[box], spacing) > 14.0  # of the ribs, as seen from the lungs
    tissue = (hu > -250.0) & (hu < 150.0)
    allowed = nearer & outside & tissue & (skin > 5.0) & (skin < 45.0) & (clear < 70.0)
    if allowed.sum() * ct.voxel_ml < 4.0 * volume_ml:
        raise InputError(
            f"{volume_ml:g} mL of air do not fit into the {side} chest wall: {allowed.sum() * ct.voxel_ml:.0f} mL of "
            "soft tissue in the field of view, expected four times as much"
        )
    layers = skin + 7.0 * smooth_noise(hu.shape, 12.0 / min(spacing), rng)
    patches = smooth_noise(hu.shape, 18.0 / min(spacing), rng)
    soft = ndimage.gaussian_filter(allowed.astype(np.float32), 0.5)
    # The width is looked for among the voxels that may hold air: a small part of the box.
    some = (soft > 0.0) & (patches > 0.6)
    open_to, room = patches[some] - 0.6, soft[some]
    streak = np.abs(np.mod(layers[some], 14.0) - 7.0)  # mm from the middle plane of the nearest layer
    blur = _blur(spacing)

    def share(width: float) -> Floats:
        return np.asarray(room * ndtr((width * open_to - streak) / blur), dtype=np.float32)

    width = _solve(lambda w: float(share(w).sum()) * ct.voxel_ml, volume_ml, 0.05, 12.0)
    air = np.zeros(hu.shape, dtype=np.float32)
    air[some] = share(width)
    return _filled(ct, box, air, noise, rng, f"subcutaneous emphysema of {volume_ml:g} mL planted, {side}")


def plant_stomach_gas(
    ct: Volume,
    *,
    volume_ml: float = 150.0,
    wall_mm: float = 3.0,
    seed: int = 0,
    chest: ChestAir | None = None,
) -> tuple[Volume, Mask]:
    """A gas bubble right below the left half of the diaphragm, over a flat fluid level (patient on the back).

    Args:
        ct: chest CT, HU, canonical orientation, with some abdomen below the left lung.
        volume_ml: of the gas, 5..600 mL.
        wall_mm: tissue left between gas and lung (diaphragm and stomach wall), 1..20 mm.
        seed: of its place and of the noise in it.
        chest: `find_lungs(ct)`, where it is known.

    Raises:
        InputError: a parameter out of range, no lungs, or not enough abdomen in the field of view.
    """
    _check("left", volume_ml, (5.0, 600.0))
    if not 1.0 <= wall_mm <= 20.0:
        raise InputError(f"wall_mm must be from 1 to 20, got {wall_mm:g}")
    rng = np.random.default_rng([seed, 13])
    chest = find_lungs(ct) if chest is None else chest
    noise = measure_noise(ct, chest)
    spacing = np.asarray(ct.spacing_mm)
    lowest = np.where(chest.left.any(axis=0), ct.shape[0] - 1 - np.argmax(chest.left[::-1], axis=0), -1)
    row, column = _under_the_dome(lowest, rng)
    top = lowest[row, column]
    clear = distance_mm(chest.right | chest.left, ct.spacing_mm)
    allowed = chest.body & (clear > wall_mm) & (depth_mm(chest.body, ct.spacing_mm) > 15.0)
    centre = np.array([top, row, column]) * spacing + np.array([15.0, 0.0, 0.0])
    axes = [(np.arange(n) * s - c) / e for n, s, c, e in zip(ct.shape, spacing, centre, (1.0, 1.2, 1.0), strict=True)]
    away = np.sqrt(axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2).astype(np.float32)
    above = (axes[1] < 18.0)[None, :, None] & (axes[0] > -25.0)[:, None, None]
    blur = _blur(ct.spacing_mm)
    # The radius is looked for among the voxels that may hold gas.
    some = allowed & (away < _LARGEST_STOMACH_MM + 6.0 * blur)
    edge, near = ndtr((clear[some] - wall_mm) / blur), away[some]
    counted = np.broadcast_to(above, ct.shape)[some]

    def share(radius: float) -> Floats:
        return np.asarray(edge * ndtr((radius - near) / blur), dtype=np.float32)

    radius = _solve(lambda r: float(share(r)[counted].sum()) * ct.voxel_ml, volume_ml, 5.0, _LARGEST_STOMACH_MM)
    lumen = np.zeros(ct.shape, dtype=np.float32)
    lumen[some] = share(radius)
    box = box_of(lumen > 0.01, ct.spacing_mm, margin_mm=4.0)
    fluid = np.where(above[:, :, :1], 0.0, 1.0)[box[0], box[1]] * np.ones_like(lumen[box])
    return _filled(ct, box, lumen[box], noise, rng, f"stomach gas of {volume_ml:g} mL planted", fluid=fluid)


def _under_the_dome(lowest: NDArray[np.int64], rng: np.random.Generator) -> tuple[int, int]:
    """(h, w) under the left lung's base beside the heart, over the stomach; `lowest` [H, W] is -1 without lung."""
    base = lowest >= np.quantile(lowest[lowest >= 0], 0.4)  # not the lung that lies on the heart
    rows, columns = np.nonzero(base & (lowest >= 0))
    front, back = np.quantile(rows, (0.3, 0.6))
    inner, outer = np.quantile(columns, (0.4, 0.7))
    good = (rows >= front) & (rows <= back) & (columns >= inner) & (columns <= outer)
    rows, columns = rows[good], columns[good]
    highest = np.argsort(lowest[rows, columns], kind="stable")[: max(len(rows) // 5, 1)]
    pick = int(rng.choice(highest))
    return int(rows[pick]), int(columns[pick])


def _trunk(lungs: Mask) -> Mask:
    """[D, H, W] the convex outline of both lungs in every axial slice; below the lungs that of their lowest quarter."""
    out = np.zeros(lungs.shape, dtype=bool)
    slices = np.flatnonzero(lungs.any(axis=(1, 2)))
    for d in slices:
        out[d] = convex_hull_image(lungs[d])  # type: ignore[no-untyped-call]
    low = slices[len(slices) * 3 // 4 :]
    belly = out[low].any(axis=0)
    out[low[0] :] |= belly
    return out


def _check(side: str, volume_ml: float, limits: tuple[float, float]) -> None:
    if side not in ("right", "left"):
        raise InputError(f'side must be "right" or "left" (the patient\'s), got {side!r}')
    if not (math.isfinite(volume_ml) and limits[0] <= volume_ml <= limits[1]):
        raise InputError(f"volume_ml must be from {limits[0]:g} to {limits[1]:g}, got {volume_ml:g}")


def _blur(spacing: Spacing) -> float:
    return math.hypot(0.5, 0.33 * float(np.mean(spacing)))


def _shape(array: NDArray[np.float32]) -> tuple[int, int, int]:
    d, h, w = array.shape
    return d, h, w


def _solve(volume_of: Callable[[float], float], volume_ml: float, low: float, high: float) -> float:
    """The size at which a growing shape holds a volume."""
    if volume_of(high) < 0.98 * volume_ml:
        raise InputError(f"{volume_ml:g} mL do not fit there: {volume_of(high):.0f} mL at most; ask for less")
    for _ in range(18):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if volume_of(middle) < volume_ml else (low, middle)
    return 0.5 * (low + high)


def _filled(
    ct: Volume,
    box: tuple[slice, slice, slice],
    share: Floats,
    noise: ScanNoise,
    rng: np.random.Generator,
    note: str,
    *,
    fluid: Floats | None = None,
) -> tuple[Volume, Mask]:
    """Tissue replaced by air, or fluid where `fluid` is 1, by the share of each voxel of the box."""
    hu = ct.hu[box]
    air = np.float32(noise.air_hu) + noise.draw(_shape(hu), rng)
    inside = air if fluid is None else np.where(fluid > 0.5, _FLUID_DENSITY - 1000.0 + air - noise.air_hu, air)
    gas = share >= 0.5 if fluid is None else (share >= 0.5) & (fluid < 0.5)
    return _written(ct, box, hu + share * (inside - hu), gas, note)


def _written(ct: Volume, box: tuple[slice, slice, slice], hu: Floats, gas: Mask, note: str) -> tuple[Volume, Mask]:
    out, mask = np.array(ct.hu), np.zeros(ct.shape, dtype=bool)
    out[box] = np.clip(hu, ct.hu.min(), None)
    mask[box] = gas
    return replace(ct, hu=out, synthetic=True, notes=(*ct.notes, f"{note}; {RESEARCH_NOTICE}")), mask
