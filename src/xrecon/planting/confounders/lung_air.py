"""Air in the lung or in a mass: cavities, abscesses, what is left in a dense apex, emphysema, giant bullae."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.anatomy.healthy_lungs import ChestAir
from xrecon.anatomy.morphology import Floats, Mask, depth_mm
from xrecon.errors import InputError
from xrecon.planting.confounders.drawing import Canvas, fitted_size, lung_of
from xrecon.volume import Volume


def plant_cavity(ct: Volume, *, chest: ChestAir, seed: int, size: float, side: str) -> tuple[Volume, Mask]:
    """A cavity of 8 to 30 mm radius with an uneven wall of 2 to 8 mm, in the lung or at its wall. Raises InputError."""
    return _cavity(ct, chest, seed=seed, size=size, side=side, abscess=False)


def plant_abscess(ct: Volume, *, chest: ChestAir, seed: int, size: float, side: str) -> tuple[Volume, Mask]:
    """A cavity with a fluid level and a thick wall in dense lung. Raises InputError."""
    return _cavity(ct, chest, seed=seed, size=size, side=side, abscess=True)


def _cavity(ct: Volume, chest: ChestAir, *, seed: int, size: float, side: str, abscess: bool) -> tuple[Volume, Mask]:
    rng = np.random.default_rng([seed, 41 + abscess])
    lung = lung_of(chest, side)
    canvas = Canvas.round(lung, ct, chest, rng)
    part = lung[canvas.box]
    depth = depth_mm(part, ct.spacing_mm)
    for radius in (8.0 + 22.0 * size, 8.0 + 12.0 * size, 8.0):
        wall = float(rng.uniform(6.0, 12.0) if abscess else rng.uniform(2.0, 8.0))
        places = np.argwhere(np.abs(depth - radius - rng.choice((0.5 * wall, wall + 8.0))) < max(ct.spacing_mm))
        if len(places):
            break
    else:
        raise InputError(f"a cavity does not fit into the {side} lung")
    place = places[rng.integers(len(places))] + [b.start for b in canvas.box]
    d, h, w = canvas.offsets(place)
    stretch = rng.uniform(0.8, 1.25, 2)
    away = np.sqrt(d * d + (h / stretch[0]) ** 2 + (w / stretch[1]) ** 2)
    inner = radius - away + 0.1 * radius * canvas.uneven(0.7 * radius)
    outer = inner + wall + 0.3 * wall * canvas.uneven(radius)
    inside = _with_rim(part, canvas.hu)
    if abscess:
        halo = outer + 12.0 + 8.0 * canvas.uneven(15.0)
        canvas.tissue(0.9 * canvas.inside(halo) * inside, 10.0)
    canvas.tissue(np.maximum(canvas.inside(outer) * inside, 0.0), 40.0)
    gas = canvas.inside(np.minimum(inner, depth - 1.5)) * part
    if abscess:
        level = float(rng.uniform(-0.2, 0.5)) * radius
        canvas.tissue(gas * (h >= level), 15.0)
        gas = gas * (h < level)
    canvas.air(gas)
    return canvas.finished(f"{'abscess' if abscess else 'cavity'} of {radius:.0f} mm radius in the {side} lung")


def _with_rim(part: Mask, hu: Floats) -> Floats:
    """The lung (0 or 1) with the voxels of its rim that hold some of it: dense lung leaves no dark line there."""
    return np.asarray(part | (ndimage.binary_dilation(part) & (hu < 0.0)), dtype=np.float32)


def plant_dense_apex(ct: Volume, *, chest: ChestAir, seed: int, size: float, side: str) -> tuple[Volume, Mask]:
    """The top of a lung without air behind a tumour, with 4 to 60 mL of irregular air left in it. Raises InputError."""
    rng = np.random.default_rng([seed, 43])
    lung = lung_of(chest, side)
    rows = np.flatnonzero(lung.any(axis=(1, 2)))
    height = int((0.18 + 0.2 * size) * (rows[-1] - rows[0]))
    top = lung.copy()
    top[rows[0] + height + round(25.0 / ct.spacing_mm[0]) :] = False
    canvas = Canvas.round(top, ct, chest, rng)
    part = lung[canvas.box]
    d, _, _ = canvas.offsets((rows[0] + height, 0.0, 0.0))
    dense = canvas.inside(-d + 8.0 * canvas.uneven(25.0)) * _with_rim(part, canvas.hu)
    canvas.tissue(dense, 40.0)
    depth = depth_mm(part, ct.spacing_mm)
    pattern = canvas.uneven(float(rng.uniform(10.0, 16.0)))
    limit = np.minimum(depth - float(rng.uniform(0.5, 6.0)), -d - 6.0)
    volume_ml = 4.0 * 15.0**size

    def share(threshold: float) -> Floats:
        return canvas.inside(np.minimum(6.0 * (pattern - 3.0 + threshold), limit)) * part

    most = float(share(5.5).sum()) * ct.voxel_ml
    threshold = fitted_size(lambda t: float(share(t).sum()) * ct.voxel_ml, min(volume_ml, 0.5 * most), 0.0, 5.5)
    canvas.air(share(threshold))
    return canvas.finished(f"dense {side} apex with {min(volume_ml, 0.5 * most):.0f} mL of air in it")


def plant_paraseptal_emphysema(
    ct: Volume, *, chest: ChestAir, seed: int, size: float, side: str
) -> tuple[Volume, Mask]:
    """A row of cysts of 4 to 13 mm along the upper wall, with walls of about 1 mm. Raises InputError."""
    rng = np.random.default_rng([seed, 44])
    lung = lung_of(chest, side)
    rows = np.flatnonzero(lung.any(axis=(1, 2)))
    upper = lung.copy()
    upper[rows[0] + int(0.6 * (rows[-1] - rows[0])) :] = False
    canvas = Canvas.round(upper, ct, chest, rng)
    part = lung[canvas.box]
    depth = depth_mm(part, ct.spacing_mm)
    first, second = np.full(part.shape, -99.0, np.float32), np.full(part.shape, -99.0, np.float32)
    count = 6 + int(20 * size)
    patch = upper[canvas.box] & (canvas.uneven(40.0) > 0.0)
    centres: list[NDArray[np.int64]] = []
    for _ in range(count):
        radius = float(rng.uniform(4.0, 7.0) + 6.0 * size * rng.random())
        places = np.argwhere(patch & (np.abs(depth - 0.8 * radius) < max(ct.spacing_mm)))
        if not len(places):
            continue
        near = places
        if centres:
            away = np.linalg.norm((places - centres[-1]) * np.asarray(ct.spacing_mm), axis=1)
            near = places[(away > 1.4 * radius) & (away < 3.5 * radius)]
        centre = (near if len(near) else places)[rng.integers(len(near) if len(near) else len(places))]
        centres.append(centre)
        d, h, w = canvas.offsets(centre + [b.start for b in canvas.box])
        signed = (radius - np.sqrt(d * d + h * h + w * w)).astype(np.float32)
        second = np.maximum(second, np.minimum(first, signed))
        first = np.maximum(first, signed)
    if not centres:
        raise InputError(f"no cyst fits along the wall of the {side} lung")
    wall = float(rng.uniform(0.7, 1.2))
    whole = canvas.inside(np.minimum(first + wall, depth))
    canvas.tissue(0.8 * whole * part, -20.0)
    apart = np.minimum(first, first - second - 0.5 * wall)
    canvas.air(canvas.inside(np.minimum(apart, depth)) * part, above_hu=8.0)
    return canvas.finished(f"paraseptal emphysema of {len(centres)} cysts in the {side} lung")


def plant_giant_bulla(ct: Volume, *, chest: ChestAir, seed: int, size: float, side: str) -> tuple[Volume, Mask]:
    """A bulla of 200 to 900 mL at the wall, with a few septa and thin rests of lung in it. Raises InputError."""
    rng = np.random.default_rng([seed, 45])
    lung = lung_of(chest, side)
    canvas = Canvas.round(lung, ct, chest, rng)
    part = lung[canvas.box]
    depth = depth_mm(part, ct.spacing_mm)
    height = np.arange(part.shape[0])[:, None, None] / part.shape[0]
    upper = rng.random() < 0.7
    at_wall = (depth > 4.0) & (depth < 4.0 + 2.0 * max(ct.spacing_mm))
    places = np.argwhere(at_wall & ((height < 0.45) if upper else (height > 0.55)))
    if not len(places):
        raise InputError(f"no place for a bulla in the {side} lung")
    place = places[rng.integers(len(places))] + [b.start for b in canvas.box]
    d, h, w = canvas.offsets(place)
    stretch = rng.uniform(0.8, 1.3, 2)
    away = np.sqrt(d * d + (h / stretch[0]) ** 2 + (w / stretch[1]) ** 2) * (1.0 + 0.06 * canvas.uneven(30.0))
    volume_ml = min(200.0 * 4.5**size, 0.45 * float(part.sum()) * ct.voxel_ml)
    radius = fitted_size(lambda r: float(canvas.inside(r - away)[part].sum()) * ct.voxel_ml, volume_ml, 10.0, 200.0)
    signed = radius - away
    thin = float(rng.uniform(0.3, 0.8))
    rim = np.clip(1.0 - (-signed - thin) / 25.0, 0.0, 1.0) * (signed < -thin) * part
    pressed = np.minimum(canvas.hu, -300.0) + 1000.0
    factor = 1.0 + 0.6 * float(rng.random()) * rim
    canvas.hu[:] = np.where((rim > 0) & (canvas.hu < -300.0), pressed * factor - 1000.0, canvas.hu)
    wall = canvas.inside(signed + thin) - canvas.inside(signed)
    canvas.tissue(wall * part * canvas.inside(depth - 1.0), 10.0)
    septa = canvas.inside(0.5 - np.abs(14.0 * canvas.uneven(35.0))) * 0.25
    rests = 12.0 + 10.0 * canvas.uneven(12.0) + 600.0 * septa
    canvas.air(canvas.inside(np.minimum(signed, depth - 0.3)) * part, above_hu=np.clip(rests, 0.0, 400.0))
    return canvas.finished(f"giant bulla of {volume_ml:.0f} mL in the {side} lung")


def plant_azygos_lobe(ct: Volume, *, chest: ChestAir, seed: int, size: float, side: str) -> tuple[Volume, Mask]:
    """A curved sheet of four layers of pleura through the inner part of an upper lobe, a vein at its end; no gas.

    Raises InputError.
    """
    rng = np.random.default_rng([seed, 46])
    lung = lung_of(chest, side)
    rows = np.flatnonzero(lung.any(axis=(1, 2)))
    upper = lung.copy()
    length = round((45.0 + 25.0 * size) / ct.spacing_mm[0])
    upper[rows[0] + length :] = False
    canvas = Canvas.round(upper, ct, chest, rng)
    part = upper[canvas.box]
    _, h_all, w_all = np.nonzero(part)
    outward = -1.0 if side == "right" else 1.0
    medial = float(np.quantile(w_all * outward, 0.05)) * outward
    centre = (rows[0] + length, float(h_all.mean()) + canvas.box[1].start, medial + canvas.box[2].start)
    d, h, w = canvas.offsets(centre)
    reach = (8.0 + 18.0 * size) * np.clip(-d / (length * ct.spacing_mm[0]), 0.0, 1.0) ** 0.6 + 2.0
    sheet = 0.6 + 0.4 * float(rng.random()) - np.abs(w * outward - reach * np.exp(-((h / 45.0) ** 2)))
    canvas.tissue(canvas.inside(sheet) * part, 20.0)
    vein = 4.5 - np.sqrt((d + 4.0) ** 2 + (w * outward - 3.0) ** 2)
    canvas.tissue(canvas.inside(vein) * part * (np.abs(h) < 40.0), 50.0)
    return canvas.finished(f"azygos lobe, {side}")
