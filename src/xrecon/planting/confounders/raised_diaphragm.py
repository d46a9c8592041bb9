"""A hemidiaphragm that stands too high, with gas of colon or stomach below it: the commonest false alarm."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.anatomy.healthy_lungs import ChestAir
from xrecon.anatomy.morphology import Floats, Mask, depth_mm, distance_mm
from xrecon.errors import InputError
from xrecon.planting.confounders.drawing import Canvas, fitted_size, lung_of
from xrecon.smoothing import gaussian_smoothed
from xrecon.volume import Volume

_BASE_QUANTILE = 0.4
"""Columns of the lung that end lower than this share of all stand on the diaphragm, not on the heart."""
_RAMP_MM = 38.0
"""Distance from the rim of the base over which the dome rises."""
_FIXED_MM = 45.0
"""So much of the lung's height below the apex does not move."""
_LEAST_LUNG = 0.3
"""Share of the height of a column of lung that is left at least."""
_LEAST_GAS_ML = 40.0


@dataclass(frozen=True, eq=False)
class RaisedChest:
    """A chest one of whose hemidiaphragms stands too high.

    Attributes:
        ct: HU.
        chest: its lungs, moved along.
        side: "right" or "left".
        lift_mm: [H, W] by how much the base rose.
    """

    ct: Volume
    chest: ChestAir
    side: str
    lift_mm: Floats


def raise_diaphragm(ct: Volume, *, chest: ChestAir, side: str, raised_mm: float) -> RaisedChest:
    """The chest with the dome of one hemidiaphragm up to `raised_mm` higher; the lung above keeps its mass.

    Args:
        ct: HU, canonical.
        chest: its lungs.
        side: "right" or "left", the patient's.
        raised_mm: rise of the middle of the dome, mm.

    Raises:
        InputError: the lung is too short for it.
    """
    lung = lung_of(chest, side)
    pitch = ct.spacing_mm[0]
    rows = lung.shape[0]
    present = lung.any(axis=0)
    top = np.where(present, np.argmax(lung, axis=0), rows)
    bottom = np.where(present, rows - 1 - np.argmax(lung[::-1], axis=0), -1)
    base = present & (bottom >= np.quantile(bottom[present], _BASE_QUANTILE))
    base = ndimage.binary_opening(ndimage.binary_closing(base, iterations=3), iterations=3) & present
    plane = (1.0, ct.spacing_mm[1], ct.spacing_mm[2])
    rim = depth_mm(base[None], plane)[0]
    bump = np.clip(rim / _RAMP_MM, 0.0, 1.0)
    lift = raised_mm * (bump * bump * (3.0 - 2.0 * bump))
    apex = float(np.flatnonzero(lung.any(axis=(1, 2)))[0])
    start = np.maximum(top, apex + _FIXED_MM / pitch)
    room = np.maximum(_smooth(bottom.astype(np.float32), base) - start, 1.0) * pitch
    lift = np.minimum(lift, (1.0 - _LEAST_LUNG) * room)
    lift = np.asarray(gaussian_smoothed(lift.astype(np.float32)[None], (0.0, 2.0, 2.0))[0] * base, dtype=np.float32)
    if lift.max() < 0.5 * raised_mm:
        raise InputError(f"the {side} lung is too short for a diaphragm that stands {raised_mm:.0f} mm too high")
    hu, moved = _lifted(ct, chest, start=start, room_mm=room, lift_mm=lift)
    return RaisedChest(ct.with_hu(hu), moved, side, lift)


def _smooth(values: Floats, where: Mask) -> Floats:
    weight = ndimage.gaussian_filter(where.astype(np.float32), 4.0)
    return np.asarray(ndimage.gaussian_filter(np.where(where, values, 0.0), 4.0) / np.maximum(weight, 1e-3))


def _lifted(
    ct: Volume, chest: ChestAir, *, start: NDArray[np.float64], room_mm: Floats, lift_mm: Floats
) -> tuple[Floats, ChestAir]:
    """HU and masks seen through the map: each row takes what lay up to `lift_mm` below it."""
    pitch, rows = ct.spacing_mm[0], ct.shape[0]
    columns = np.argwhere(lift_mm > 0.2)
    h, w = columns[:, 0], columns[:, 1]
    lift, room = lift_mm[h, w], room_mm[h, w]
    place = np.arange(rows, dtype=np.float32)[:, None]
    way = np.clip((place - start[h, w]) * pitch / np.maximum(room - lift, 1.0), 0.0, 1.0)
    source = place + way * lift / pitch
    denser = np.gradient(source, axis=0)
    beyond = source > rows - 1
    source = np.minimum(source, rows - 1.001)
    low = source.astype(int)
    share = (source - low).astype(np.float32)
    pick = np.arange(len(h))
    line = ct.hu[:, h, w]
    hu = (1.0 - share) * line[low, pick] + share * line[low + 1, pick]
    nearest = np.rint(source).astype(int)

    def moved(mask: Mask) -> Mask:
        out = mask.copy()
        out[:, h, w] = mask[:, h, w][nearest, pick]
        return out

    right, left, airway, body = (moved(m) for m in (chest.right, chest.left, chest.airway, chest.body))
    inside = (right | left)[:, h, w] & (hu < -400.0)
    hu = np.where(inside, np.minimum((hu + 1000.0) * np.clip(denser, 1.0, 2.2) - 1000.0, -300.0), hu)
    # Below the end of the scan there is soft tissue.
    hu = np.where(beyond & body[:, h, w], 45.0, hu)
    out = np.array(ct.hu)
    out[:, h, w] = hu
    return out, replace(chest, right=right, left=left & ~right, airway=airway & ~(right | left), body=body)


def plant_raised_stomach(
    ct: Volume, *, chest: ChestAir, seed: int, size: float, side: str = "left"
) -> tuple[Volume, Mask]:
    """Gas of the stomach, 100 to 600 mL over a fluid level, below a left hemidiaphragm 3 to 10 cm too high.

    `size` from 0 to 1 is of the gas; `side` is left, unless the viscera lie mirrored. Raises InputError.
    """
    raised = _raised(ct, chest, seed, size, side)
    return gas_below(raised, seed=seed, volume_ml=100.0 * 6.0**size, colon=False)


def plant_raised_colon(ct: Volume, *, chest: ChestAir, seed: int, size: float, side: str) -> tuple[Volume, Mask]:
    """Gas of the colon, 100 to 600 mL between folds, below a hemidiaphragm 3 to 10 cm too high.

    `size` from 0 to 1 is of the gas; on the right it lies between liver and diaphragm. Raises InputError.
    """
    raised = _raised(ct, chest, seed, size, side)
    return gas_below(raised, seed=seed, volume_ml=100.0 * 6.0**size, colon=True)


def _raised(ct: Volume, chest: ChestAir, seed: int, size: float, side: str) -> RaisedChest:
    rng = np.random.default_rng([seed, 31])
    for raised_mm in (rng.uniform(30.0, 60.0) + 40.0 * size, 45.0, 30.0):
        try:
            return raise_diaphragm(ct, chest=chest, side=side, raised_mm=raised_mm)
        except InputError:
            continue
    raise InputError(f"the {side} lung is too short for a raised diaphragm; take the other side")


def gas_below(raised: RaisedChest, *, seed: int, volume_ml: float, colon: bool) -> tuple[Volume, Mask]:
    """Gas directly below the raised dome, behind a wall of 1 to 3 mm.

    Args:
        raised: the chest; its CT may hold a pneumothorax by now, its masks are those without.
        seed: of shape and place.
        volume_ml: of the gas; less where so much does not fit.
        colon: with folds (haustra) from the rim inwards; else a stomach with remnants of food.

    Raises:
        InputError: no room for 40 mL of gas.
    """
    rng = np.random.default_rng([seed, 32])
    ct, chest = raised.ct, raised.chest
    lung = lung_of(chest, raised.side)
    high = raised.lift_mm > 0.3 * raised.lift_mm.max()
    rows = np.arange(ct.shape[0])[:, None, None]
    bottom = np.where(lung.any(axis=0), ct.shape[0] - 1 - np.argmax(lung[::-1], axis=0), ct.shape[0])
    below = (rows > bottom) & high & chest.body
    reach = (rows - bottom) * ct.spacing_mm[0] < 110.0
    canvas = Canvas.round(below & reach, ct, chest, rng)
    clear = distance_mm((chest.right | chest.left)[canvas.box], ct.spacing_mm)
    wall_mm = float(rng.uniform(1.0, 3.0))
    room = (below & reach)[canvas.box] & (depth_mm(chest.body, ct.spacing_mm) > 15.0)[canvas.box]
    lumen = _lumen(canvas, raised, bottom, rng)
    if colon:
        lumen = np.minimum(lumen, _folds(canvas, raised, bottom, rng))
    allowed = np.minimum(canvas.inside(clear - wall_mm), ndimage.gaussian_filter(room.astype(np.float32), 0.6))
    _, h, _ = canvas.offsets(_middle(raised, bottom))
    # On the back, fluid lies behind the gas.
    level = float(rng.uniform(5.0, 25.0)) if rng.random() < (0.4 if colon else 0.7) else 200.0
    gas_side = np.broadcast_to(h < level, lumen.shape)

    def share(grow_mm: float) -> Floats:
        return np.asarray(allowed * canvas.inside(lumen + grow_mm), dtype=np.float32)

    def gas_ml(grow_mm: float) -> float:
        return float(share(grow_mm)[gas_side].sum()) * ct.voxel_ml

    most = gas_ml(40.0)
    if most < _LEAST_GAS_ML:
        raise InputError(f"{most:.0f} mL of gas fit below the {raised.side} diaphragm, expected {_LEAST_GAS_ML:.0f} mL")
    volume_ml = min(volume_ml, 0.95 * most)
    grow = fitted_size(gas_ml, volume_ml, -60.0, 40.0)
    whole = share(grow)
    canvas.tissue(canvas.inside(lumen + grow + 2.5) * allowed, 35.0)
    canvas.air(whole * gas_side)
    if level < 200.0:
        canvas.tissue(whole * ~gas_side, 12.0)
    if not colon and rng.random() < 0.5:
        canvas.tissue(whole * canvas.inside(5.0 * (canvas.uneven(9.0) - 1.9)), -60.0)
    what = "colon" if colon else "stomach"
    return canvas.finished(f"{volume_ml:.0f} mL of gas of the {what} below a raised {raised.side} diaphragm")


def _middle(raised: RaisedChest, bottom: NDArray[np.int64]) -> tuple[float, float, float]:
    """The highest part of the dome, as a voxel position."""
    h, w = np.nonzero(raised.lift_mm > 0.85 * raised.lift_mm.max())
    return float(np.median(bottom[h, w])), float(h.mean()), float(w.mean())


def _lumen(canvas: Canvas, raised: RaisedChest, bottom: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """Signed distance (mm) to a flattened ball below the dome, a little to the front, of uneven surface."""
    d0, h0, w0 = _middle(raised, bottom)
    deep, front = rng.uniform(15.0, 30.0), rng.uniform(-5.0, 20.0)
    centre = (d0 + deep / canvas.spacing[0], h0 - front / canvas.spacing[1], w0 + rng.uniform(-4.0, 4.0))
    d, h, w = canvas.offsets(centre)
    stretch = rng.uniform(1.0, 1.5, 2)
    away = np.sqrt(d * d + (h / stretch[0]) ** 2 + (w / stretch[1]) ** 2)
    return np.asarray(45.0 - away + 3.0 * canvas.uneven(22.0), dtype=np.float32)


def _folds(canvas: Canvas, raised: RaisedChest, bottom: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """Signed distance (mm) to what semilunar folds of 2 to 4 mm leave free: they reach in from the rim."""
    d, h, w = canvas.offsets(_middle(raised, bottom))
    angle = rng.uniform(0.0, np.pi)
    along = np.cos(angle) * h + np.sin(angle) * w + 4.0 * canvas.uneven(25.0)
    across = np.sqrt((np.sin(angle) * h - np.cos(angle) * w) ** 2 + (d - 20.0) ** 2)
    every, thick = rng.uniform(24.0, 40.0), rng.uniform(2.0, 4.0)
    from_fold = np.abs(np.mod(along + rng.uniform(0.0, every), every) - 0.5 * every) - 0.5 * thick
    return np.asarray(np.maximum(from_fold, 17.0 - across), dtype=np.float32)
