"""Gas in and beside the mediastinum: hiatal hernia, oesophagus, tracheal diverticulum, pneumomediastinum."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.special import ndtr

from xrecon.anatomy.healthy_lungs import ChestAir
from xrecon.anatomy.morphology import Floats, Mask, distance_mm
from xrecon.errors import InputError
from xrecon.planting.confounders.chest_wall import trunk
from xrecon.planting.confounders.drawing import Canvas, fitted_size
from xrecon.volume import Volume

_BONE_HU = 160.0


def _carina(chest: ChestAir) -> tuple[float, float, float]:
    """Where the windpipe divides, or where it usually does between the lungs, as a voxel position."""
    if chest.carina is not None:
        return chest.carina
    d, h, w = np.nonzero(chest.right | chest.left)
    return float(np.quantile(d, 0.3)), float(np.median(h)), 0.5 * float(np.quantile(w, 0.02) + np.quantile(w, 0.98))


def _around(ct: Volume, centre: tuple[float, float, float], reach_mm: tuple[float, float, float]) -> Mask:
    out = np.zeros(ct.shape, dtype=bool)
    box = tuple(
        slice(max(0, int(c - r / s)), max(1, int(c + r / s) + 1))
        for c, r, s in zip(centre, reach_mm, ct.spacing_mm, strict=True)
    )
    out[box] = True
    return out


def plant_hiatal_hernia(ct: Volume, *, chest: ChestAir, seed: int, size: float, side: str) -> tuple[Volume, Mask]:
    """A part of the stomach behind the heart, 25 to 250 mL of gas over a fluid level; `side` to which it bulges.

    Raises InputError.
    """
    rng = np.random.default_rng([seed, 51])
    carina = _carina(chest)
    bottom = np.flatnonzero((chest.right | chest.left).any(axis=(1, 2)))[-1]
    outward = -1.0 if side == "right" else 1.0
    radius = 18.0 + 22.0 * size
    low = min(bottom - 0.15 * (bottom - carina[0]), ct.shape[0] - 1.0 - 0.7 * radius / ct.spacing_mm[0])
    centre = (low, carina[1] + 7.0 / ct.spacing_mm[1], carina[2] + outward * (4.0 + 12.0 * size) / ct.spacing_mm[2])
    canvas = Canvas.round(_around(ct, centre, (60.0, 60.0, 65.0)), ct, chest, rng)
    d, h, w = canvas.offsets(centre)
    soft = canvas.hu < _BONE_HU
    away = np.sqrt((d / 1.1) ** 2 + (h / 0.75) ** 2 + w * w)
    signed = radius - away + 2.0 * canvas.uneven(18.0)
    free = ndimage.gaussian_filter((soft & chest.body[canvas.box]).astype(np.float32), 0.5)
    wall = float(rng.uniform(2.5, 5.0))
    canvas.tissue(canvas.inside(signed + wall) * free, 40.0)
    gas = canvas.inside(signed) * free
    level = float(rng.uniform(-0.1, 0.8)) * radius
    canvas.tissue(gas * (h >= level), 15.0)
    canvas.air(gas * (h < level))
    return canvas.finished(f"hiatal hernia of {radius:.0f} mm radius")


def plant_oesophageal_air(ct: Volume, *, chest: ChestAir, seed: int, size: float, side: str) -> tuple[Volume, Mask]:
    """Air in a wide oesophagus (radius 3 to 11 mm) behind windpipe and heart, in one to three stretches.

    Raises InputError.
    """
    rng = np.random.default_rng([seed, 52])
    carina = _carina(chest)
    outward = -1.0 if side == "right" else 1.0
    canvas = Canvas.round(_around(ct, carina, (120.0, 45.0, 40.0)), ct, chest, rng)
    bottom = np.flatnonzero((chest.right | chest.left).any(axis=(1, 2)))[-1]
    radius = 3.0 + 8.0 * size
    d, h, w = canvas.offsets(carina)
    last = (bottom - carina[0]) * ct.spacing_mm[0]
    back = 12.0 + radius + 0.06 * np.maximum(d, 0.0)
    side_mm = outward * (3.0 + 0.08 * np.maximum(d, 0.0)) + 2.0 * np.sin(d / 30.0)
    away = np.sqrt((h - back) ** 2 + (w - side_mm) ** 2)
    ends = np.minimum(d + 85.0, last - d - 5.0)
    air = canvas.free_of_airway(canvas.hu < _BONE_HU)
    canvas.tissue(canvas.inside(np.minimum(radius + 3.0 - away, ends)) * air, 35.0)
    stretches = np.interp(d[:, 0, 0], np.linspace(-85.0, max(last, 0.0), 9), rng.uniform(-1.5, 1.0, 9) + 0.9).astype(
        np.float32
    )
    open_ = radius * np.clip(stretches, 0.0, 1.0)[:, None, None]
    canvas.air(canvas.inside(np.minimum(open_ - away - 0.3, ends)) * air * (open_ > 0.5))
    return canvas.finished(f"air in the oesophagus, radius {radius:.0f} mm")


def plant_tracheal_diverticulum(
    ct: Volume, *, chest: ChestAir, seed: int, size: float, side: str
) -> tuple[Volume, Mask]:
    """A sac of 3 to 11 mm radius beside the windpipe at the inlet of the thorax, behind and mostly to the right.

    Raises InputError.
    """
    rng = np.random.default_rng([seed, 53])
    carina = _carina(chest)
    rows = chest.airway.any(axis=(1, 2))
    level = max(0.0, carina[0] - rng.uniform(45.0, 75.0) / ct.spacing_mm[0])
    slices = np.flatnonzero(rows)
    level = float(np.clip(level, slices[0] if len(slices) else 0, carina[0]))
    plane = chest.airway[int(level)]
    middle = np.argwhere(plane).mean(axis=0) if plane.any() else np.asarray(carina[1:])
    width = np.sqrt(plane.sum() * ct.spacing_mm[1] * ct.spacing_mm[2] / np.pi) if plane.any() else 8.0
    outward = -1.0 if side == "right" else 1.0
    radius = 3.0 + 8.0 * size
    wall = float(rng.uniform(1.0, 2.5))
    place = (
        level,
        middle[0] + rng.uniform(2.0, 8.0) / ct.spacing_mm[1],
        middle[1] + outward * (width + radius + wall) / ct.spacing_mm[2],
    )
    canvas = Canvas.round(_around(ct, place, (35.0, 30.0, 30.0)), ct, chest, rng)
    d, h, w = canvas.offsets(place)
    signed = radius - np.sqrt((d / 1.5) ** 2 + h * h + w * w) + 0.6 * canvas.uneven(8.0)
    free = canvas.free_of_airway(canvas.hu < _BONE_HU)
    canvas.tissue(canvas.inside(signed + wall) * free, 30.0)
    canvas.air(canvas.inside(signed) * free)
    return canvas.finished(f"tracheal diverticulum of {radius:.0f} mm radius")


def plant_pneumomediastinum(ct: Volume, *, chest: ChestAir, seed: int, size: float, side: str) -> tuple[Volume, Mask]:
    """Streaks of 5 to 80 mL of air in the fat between the lungs. Raises InputError."""
    del side  # on both sides of the middle
    rng = np.random.default_rng([seed, 54])
    lungs = chest.right | chest.left
    canvas = Canvas.round(lungs, ct, chest, rng)
    part = lungs[canvas.box]
    clear = distance_mm(part, ct.spacing_mm)
    column = _carina(chest)[2]
    w = np.abs((np.arange(canvas.box[2].start, canvas.box[2].stop) - column) * ct.spacing_mm[2])[None, None, :]
    rows = np.flatnonzero(part.any(axis=(1, 2)))
    upper = (np.arange(part.shape[0]) < rows[0] + 0.85 * (rows[-1] - rows[0]))[:, None, None]
    tissue = (canvas.hu > -200.0) & (canvas.hu < 120.0)
    inner = trunk(lungs)[canvas.box] & (w < 60.0) & upper & ~part
    allowed = inner & tissue & (clear > 1.6)
    allowed &= distance_mm(chest.airway[canvas.box], ct.spacing_mm) > 3.0
    volume_ml = min(5.0 * 16.0**size, 0.1 * float(allowed.sum()) * ct.voxel_ml)
    if volume_ml < 1.0:
        raise InputError("there is no room between the lungs for a pneumomediastinum")
    streak = np.abs(np.mod(clear + 5.0 * canvas.uneven(14.0), 11.0) - 5.5)
    patches = canvas.uneven(20.0)
    soft = ndimage.gaussian_filter(allowed.astype(np.float32), 0.4) * ~part

    def share(width: float) -> Floats:
        return np.asarray(soft * ndtr((width * np.clip(patches - 0.3, 0.0, 1.5) - streak) / canvas.blur_mm))

    width = fitted_size(lambda x: float((share(x) * (patches > 0.3)).sum()) * ct.voxel_ml, volume_ml, 0.05, 12.0)
    canvas.air(share(width) * (patches > 0.3))
    return canvas.finished(f"pneumomediastinum of {volume_ml:.0f} mL")
