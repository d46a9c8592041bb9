"""Gas in the stomach below the left half of the diaphragm, over a fluid level."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from xrecon.anatomy.healthy_lungs import ChestAir, find_lungs
from xrecon.anatomy.morphology import Floats, Mask, box_of, depth_mm, distance_mm
from xrecon.errors import InputError
from xrecon.planting.confounders.drawing import check_planting, edge_blur_mm, filled_with_air, fitted_size
from xrecon.planting.noise import measure_noise
from xrecon.volume import Volume

_LARGEST_STOMACH_MM = 110.0


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
    check_planting("left", volume_ml, (5.0, 600.0))
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
    blur = edge_blur_mm(ct.spacing_mm)
    # The radius is looked for among the voxels that may hold gas.
    some = allowed & (away < _LARGEST_STOMACH_MM + 6.0 * blur)
    edge, near = ndtr((clear[some] - wall_mm) / blur), away[some]
    counted = np.broadcast_to(above, ct.shape)[some]

    def share(radius: float) -> Floats:
        return np.asarray(edge * ndtr((radius - near) / blur), dtype=np.float32)

    radius = fitted_size(lambda r: float(share(r)[counted].sum()) * ct.voxel_ml, volume_ml, 5.0, _LARGEST_STOMACH_MM)
    lumen = np.zeros(ct.shape, dtype=np.float32)
    lumen[some] = share(radius)
    box = box_of(lumen > 0.01, ct.spacing_mm, margin_mm=4.0)
    fluid = np.where(above[:, :, :1], 0.0, 1.0)[box[0], box[1]] * np.ones_like(lumen[box])
    return filled_with_air(ct, box, lumen[box], noise, rng, f"stomach gas of {volume_ml:g} mL planted", fluid=fluid)


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
