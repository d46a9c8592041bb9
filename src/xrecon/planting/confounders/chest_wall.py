"""Air between the layers of the chest wall: subcutaneous emphysema."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.special import ndtr
from skimage.morphology import convex_hull_image

from xrecon.anatomy.healthy_lungs import ChestAir, find_lungs
from xrecon.anatomy.morphology import Floats, Mask, box_of, depth_mm, distance_mm
from xrecon.errors import InputError
from xrecon.planting.confounders.drawing import (
    Canvas,
    check_planting,
    edge_blur_mm,
    filled_with_air,
    fitted_size,
    lung_of,
    other_side,
)
from xrecon.planting.flow import smooth_noise
from xrecon.planting.noise import measure_noise
from xrecon.volume import Volume


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
    check_planting(side, volume_ml, (1.0, 400.0))
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
    outside = distance_mm(trunk(lungs)[box], spacing) > 14.0  # of the ribs, as seen from the lungs
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
    blur = edge_blur_mm(spacing)

    def share(width: float) -> Floats:
        return np.asarray(room * ndtr((width * open_to - streak) / blur), dtype=np.float32)

    width = fitted_size(lambda w: float(share(w).sum()) * ct.voxel_ml, volume_ml, 0.05, 12.0)
    air = np.zeros(hu.shape, dtype=np.float32)
    air[some] = share(width)
    return filled_with_air(ct, box, air, noise, rng, f"subcutaneous emphysema of {volume_ml:g} mL planted, {side}")


def plant_rib_emphysema(ct: Volume, *, chest: ChestAir, seed: int, size: float, side: str) -> tuple[Volume, Mask]:
    """Streaks of 5 to 60 mL of air right outside the parietal pleura, along and between the ribs.

    `size` runs from 0 to 1, `side` is the patient's. Raises InputError where there is no room.
    """
    rng = np.random.default_rng([seed, 14])
    lung = lung_of(chest, side)
    canvas = Canvas.round(lung, ct, chest, rng, margin_mm=18.0)
    part = lung[canvas.box]
    other = lung_of(chest, other_side(side))[canvas.box]
    clear = distance_mm(part, ct.spacing_mm)
    column = np.arange(part.shape[2])[None, None, :] - np.argwhere(part)[:, 2].mean()
    lateral = column * (-1.0 if side == "right" else 1.0) * ct.spacing_mm[2] > -5.0
    rows = np.flatnonzero(part.any(axis=(1, 2)))
    height = np.arange(part.shape[0])[:, None, None]
    beside = (height > rows[0] + 8) & (height < rows[0] + 0.75 * (rows[-1] - rows[0])) & lateral
    tissue = (canvas.hu > -250.0) & (canvas.hu < 150.0)
    allowed = beside & tissue & chest.body[canvas.box] & ~part & ~other & (clear > 1.6) & (clear < 11.0)
    allowed &= depth_mm(chest.body, ct.spacing_mm)[canvas.box] > 6.0
    volume_ml = min(5.0 * 12.0**size, 0.12 * float(allowed.sum()) * ct.voxel_ml)
    if volume_ml < 1.0:
        raise InputError(f"no room for air along the ribs of the {side} side")
    soft = ndimage.gaussian_filter(allowed.astype(np.float32), 0.4) * ~part
    patches = canvas.uneven(24.0)
    streak = np.abs(clear - float(rng.uniform(3.0, 6.0)) - 1.5 * canvas.uneven(12.0))

    def share(width: float) -> Floats:
        return np.asarray(soft * ndtr((width * np.clip(patches - 0.2, 0.0, 1.5) - streak) / canvas.blur_mm))

    width = fitted_size(lambda x: float((share(x) * (patches > 0.2)).sum()) * ct.voxel_ml, volume_ml, 0.05, 15.0)
    canvas.air(share(width) * (patches > 0.2))
    return canvas.finished(f"emphysema of {volume_ml:.0f} mL along the {side} ribs")


def trunk(lungs: Mask) -> Mask:
    """[D, H, W] the convex outline of both lungs in every axial slice; below the lungs that of their lowest quarter."""
    out = np.zeros(lungs.shape, dtype=bool)
    slices = np.flatnonzero(lungs.any(axis=(1, 2)))
    for d in slices:
        out[d] = convex_hull_image(lungs[d])  # type: ignore[no-untyped-call]
    low = slices[len(slices) * 3 // 4 :]
    belly = out[low].any(axis=0)
    out[low[0] :] |= belly
    return out
