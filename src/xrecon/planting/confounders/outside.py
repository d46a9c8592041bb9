"""What lies beside the chest: folds of skin and arms, which trap air that no scanner tells from air inside."""

from __future__ import annotations

import numpy as np

from xrecon.anatomy.healthy_lungs import ChestAir
from xrecon.anatomy.morphology import Mask, depth_mm, distance_mm
from xrecon.errors import InputError
from xrecon.planting.confounders.drawing import Canvas, lung_of
from xrecon.volume import Volume

_BONE_HU = 500.0


def plant_skin_fold(ct: Volume, *, chest: ChestAir, seed: int, size: float, side: str) -> tuple[Volume, Mask]:
    """A sheet of air of 1.5 to 5 mm under a fold of skin of 5 to 18 mm at the side of the chest. Raises InputError."""
    rng = np.random.default_rng([seed, 71])
    lung = lung_of(chest, side)
    rows = np.flatnonzero(lung.any(axis=(1, 2)))
    row = int(rows[0] + rng.uniform(0.2, 0.8) * (rows[-1] - rows[0]))
    outward = -1 if side == "right" else 1
    plane = np.argwhere(chest.body[row])
    line = plane[np.abs(plane[:, 0] - np.argwhere(lung[row])[:, 0].mean()) < 2.0]
    if not len(line):
        raise InputError(f"no skin at the {side} side in this scan")
    edge = line[np.argmax(line[:, 1] * outward)]
    near = np.zeros(ct.shape, dtype=bool)
    reach = np.ceil(60.0 / np.asarray(ct.spacing_mm)).astype(int)
    near[
        max(0, row - reach[0]) : row + reach[0],
        max(0, edge[0] - reach[1]) : edge[0] + reach[1],
        max(0, edge[1] - reach[2]) : edge[1] + reach[2],
    ] = True
    canvas = Canvas.round(near & chest.body, ct, chest, rng)
    body = chest.body[canvas.box]
    skin = depth_mm(chest.body, ct.spacing_mm)[canvas.box]
    clear = distance_mm(lung[canvas.box], ct.spacing_mm)
    d, h, _ = canvas.offsets((row, edge[0], edge[1]))
    deep = rng.uniform(5.0, 18.0) * np.clip(1.0 - h * rng.choice((-1.0, 1.0)) / 90.0, 0.2, 1.4)
    extent = 1.0 - np.sqrt((d / (25.0 + 35.0 * size)) ** 2 + (h / (20.0 + 25.0 * size)) ** 2)
    thick = (0.75 + 1.75 * size) * np.clip(4.0 * extent, 0.0, 1.0)
    sheet = np.minimum(thick - np.abs(skin - deep + 1.5 * canvas.uneven(20.0)), 20.0 * extent)
    canvas.air(canvas.inside(np.minimum(sheet, clear - 6.0)) * body * (extent > 0.0))
    return canvas.finished(f"skin fold at the {side} side")


def plant_arm(ct: Volume, *, chest: ChestAir, seed: int, size: float, side: str) -> tuple[Volume, Mask]:
    """An arm beside the chest that touches it along a line, with the gap before and behind; the field may cut it.

    Raises InputError.
    """
    rng = np.random.default_rng([seed, 72])
    lung = lung_of(chest, side)
    rows = np.flatnonzero(lung.any(axis=(1, 2)))
    outward = -1 if side == "right" else 1
    body = chest.body
    columns = np.flatnonzero(body[rows[0] : rows[-1]].any(axis=(0, 1)))
    room_mm = (columns[0] if side == "right" else ct.shape[2] - 1 - columns[-1]) * ct.spacing_mm[2]
    radius = 30.0 + 20.0 * size
    edges = np.full(ct.shape[0], np.nan)
    for row in range(ct.shape[0]):
        line = np.flatnonzero(body[row].any(axis=0))
        if len(line):
            edges[row] = line[0] if side == "right" else line[-1]
    if room_mm < 6.0:
        raise InputError(f"the field of view ends at the {side} side of the body: no room for an arm")
    edges = np.interp(np.arange(len(edges)), np.flatnonzero(np.isfinite(edges)), edges[np.isfinite(edges)])
    near = np.zeros(ct.shape, dtype=bool)
    if side == "right":
        near[:, :, : int(edges.max()) + round(12.0 / ct.spacing_mm[2])] = True
    else:
        near[:, :, int(edges.min()) - round(12.0 / ct.spacing_mm[2]) :] = True
    canvas = Canvas.round(near, ct, chest, rng)
    middle = float(np.argwhere(lung[rows[0] : rows[-1]])[:, 1].mean()) + rng.uniform(-20.0, 25.0) / ct.spacing_mm[1]
    d, h, w = canvas.offsets((0.0, middle, 0.0))
    gap = rng.uniform(-4.0, 1.0)
    centre = edges * ct.spacing_mm[2] + outward * (radius + gap)
    column = (w - centre[:, None, None]).astype(np.float32)
    away = np.sqrt(column**2 + ((h + 0.1 * (d - d.mean())) / 1.15) ** 2)
    free = ~_tissue(ct, body)[canvas.box]
    arm = canvas.inside(radius - away) * free
    canvas.tissue(arm, -90.0)
    canvas.tissue(canvas.inside(0.82 * radius - away) * free, 50.0)
    canvas.tissue(canvas.inside(0.3 * radius - away) * free, _BONE_HU)
    whole = canvas.inside(radius - away) > 0.5
    # The gap that arm and chest enclose belongs to neither.
    between = ~whole & ~body[canvas.box] & (np.abs(column) < 1.5 * radius) & (np.abs(h) < 0.8 * radius)
    canvas.gas[:] = between & (distance_mm(whole, ct.spacing_mm) < 15.0)
    return canvas.finished(f"arm beside the {side} side of the chest")


def _tissue(ct: Volume, body: Mask) -> Mask:
    return np.asarray(body & (ct.hu > -700.0)) | _inner(body, ct)


def _inner(body: Mask, ct: Volume) -> Mask:
    return np.asarray(depth_mm(body, ct.spacing_mm) > 3.0)
