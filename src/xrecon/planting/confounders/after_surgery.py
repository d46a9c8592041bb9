"""What treatment leaves in a chest: a drain, a lobe or a lung that is gone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from xrecon.anatomy.healthy_lungs import ChestAir
from xrecon.anatomy.morphology import Mask, depth_mm
from xrecon.errors import InputError
from xrecon.planting.confounders.drawing import Canvas, lung_of
from xrecon.planting.confounders.raised_diaphragm import RaisedChest, gas_below, raise_diaphragm
from xrecon.volume import Volume


def plant_chest_tube(ct: Volume, *, chest: ChestAir, seed: int, size: float, side: str) -> tuple[Volume, Mask]:
    """A drain of 7 to 12 mm through the side of the chest, along the wall to the apex; its lumen holds air.

    Raises InputError.
    """
    rng = np.random.default_rng([seed, 61])
    lung = lung_of(chest, side)
    path = _tube_path(ct, lung, side, rng)
    canvas = Canvas.round(lung, ct, chest, rng, margin_mm=75.0)
    # Distances are needed near the tube only.
    start = np.array([b.start for b in canvas.box])
    near = np.zeros(canvas.hu.shape, dtype=bool)
    index = np.rint(path / np.asarray(ct.spacing_mm) - start).astype(int)
    inside = ((index >= 0) & (index < np.array(near.shape))).all(axis=1)
    near[tuple(index[inside].T)] = True
    near = ndimage.binary_dilation(near, iterations=int(np.ceil(9.0 / min(ct.spacing_mm))))
    places = (np.argwhere(near) + start) * np.asarray(ct.spacing_mm)
    away = np.full(near.shape, 99.0, dtype=np.float32)
    away[near] = cKDTree(path).query(places)[0]
    radius = 3.5 + 2.5 * size
    body = chest.body[canvas.box]
    canvas.tissue(canvas.inside(radius - away) * body, float(rng.uniform(80.0, 350.0)))
    canvas.air(canvas.inside(0.66 * radius - away) * body)
    return canvas.finished(f"chest tube of {2 * radius:.0f} mm, {side}")


def _tube_path(ct: Volume, lung: Mask, side: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """Points [N, 3] (mm) every 0.7 mm from the skin through the side of the chest up along the wall."""
    spacing = np.asarray(ct.spacing_mm)
    rows = np.flatnonzero(lung.any(axis=(1, 2)))
    entry, tip = (int(rows[0] + s * (rows[-1] - rows[0])) for s in (rng.uniform(0.45, 0.6), rng.uniform(0.08, 0.2)))
    outward = -1 if side == "right" else 1
    points = []
    for row in range(entry, tip, -2):
        plane = np.argwhere(lung[row])
        way = (entry - row) / max(entry - tip, 1)
        middle = plane[:, 0].mean() + (0.15 - 0.4 * way) * np.ptp(plane[:, 0])
        line = plane[np.abs(plane[:, 0] - middle) < 2.5]
        if not len(line):
            continue
        column = (line[:, 1] * outward).max() * outward - outward * rng.uniform(4.5, 5.5) / spacing[2]
        points.append((row, float(line[:, 0].mean()), column))
    if len(points) < 8:
        raise InputError(f"no way for a chest tube along the wall of the {side} lung")
    path = np.asarray(points, dtype=np.float64) * spacing
    path = ndimage.gaussian_filter1d(path, 4.0, axis=0, mode="nearest")
    outside = [path[0] + np.array([0.3 * t, 0.0, outward * t]) for t in np.arange(70.0, 0.0, -0.7)]
    steps = np.vstack([np.asarray(outside), path])
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(steps, axis=0), axis=1))])
    at = np.arange(0.0, length[-1], 0.7)
    return np.stack([np.interp(at, length, steps[:, axis]) for axis in range(3)], axis=1)


def plant_lobectomy(ct: Volume, *, chest: ChestAir, seed: int, size: float, side: str) -> tuple[Volume, Mask]:
    """The state after a lobectomy: a raised diaphragm, thin overexpanded lung, a cap of scar at the apex; no gas.

    Raises InputError.
    """
    rng = np.random.default_rng([seed, 62])
    raised = _up(ct, chest, side, 25.0 + 35.0 * size)
    lung = lung_of(raised.chest, side)
    canvas = Canvas.round(lung, raised.ct, raised.chest, rng)
    part = lung[canvas.box]
    depth = depth_mm(part, ct.spacing_mm)
    thin = np.where(canvas.hu < -500.0, (canvas.hu + 1000.0) * float(rng.uniform(0.7, 0.9)) - 1000.0, canvas.hu)
    canvas.hu[:] = np.where(part, np.maximum(thin, canvas.noise.air_hu + 40.0), canvas.hu)
    rows = np.flatnonzero(part.any(axis=(1, 2)))
    from_top = (np.arange(part.shape[0]) - rows[0])[:, None, None] * ct.spacing_mm[0]
    cap = (4.0 + 10.0 * size) * np.clip(1.0 - from_top / 40.0, 0.0, 1.0) - depth + 1.5 * canvas.uneven(12.0)
    canvas.tissue(canvas.inside(cap) * part * (from_top < 40.0), 35.0)
    return canvas.finished(f"state after a lobectomy, {side}")


def plant_pneumonectomy(ct: Volume, *, chest: ChestAir, seed: int, size: float, side: str) -> tuple[Volume, Mask]:
    """The state after a pneumonectomy: the side holds fluid, the diaphragm stands high, gas of the bowel below it.

    Raises InputError.
    """
    rng = np.random.default_rng([seed, 63])
    raised = _up(ct, chest, side, 30.0 + 40.0 * size)
    lung = lung_of(raised.chest, side)
    canvas = Canvas.round(lung, raised.ct, raised.chest, rng)
    soft = ndimage.gaussian_filter(ndimage.binary_dilation(lung[canvas.box]).astype(np.float32), 0.6)
    canvas.tissue(soft * (canvas.hu < 60.0), 12.0)
    filled, _ = canvas.finished(f"state after a pneumonectomy, {side}")
    return gas_below(
        RaisedChest(filled, raised.chest, side, raised.lift_mm), seed=seed, volume_ml=60.0 * 5.0**size, colon=True
    )


def _up(ct: Volume, chest: ChestAir, side: str, raised_mm: float) -> RaisedChest:
    for lift in (raised_mm, 30.0, 20.0):
        try:
            return raise_diaphragm(ct, chest=chest, side=side, raised_mm=lift)
        except InputError:
            continue
    raise InputError(f"the {side} lung is too short for a raised diaphragm; take the other side")
