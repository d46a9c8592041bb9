"""Mediastinal shift: what a pneumothorax under tension does to heart, windpipe and the other lung."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import convex_hull_image

from xrecon.anatomy.healthy_lungs import ChestAir
from xrecon.anatomy.morphology import Floats, Mask, Spacing, box_of, depth_mm
from xrecon.resample import resample_separable
from xrecon.smoothing import gaussian_smoothed
from xrecon.volume import Volume

FULL_SHIFT_MM = 20.0
_RAMP_MM = 65.0
"""Depth in the thorax over which the shift rises from none to full: gentle enough that nothing folds (slope < 0.5)."""
_SPINE_MM = 32.0
_PITCH_MM = 4.0
_MARGIN_MM = 8.0


def shift_mediastinum(ct: Volume, chest: ChestAir, *, side: str, tension: float) -> tuple[Volume, ChestAir]:
    """Chest and its masks with the mediastinum moved away from `side` by up to 20 mm (at `tension` 1).

    The shift is largest in the middle of the thorax and vanishes at the chest wall, the spine and below the lungs. The
    lungs keep their mass: what is compressed gets denser.
    """
    box = box_of(chest.right | chest.left, ct.spacing_mm, margin_mm=_MARGIN_MM)
    lungs = (chest.right | chest.left)[box]
    direction = 1.0 if side == "right" else -1.0
    across = direction * tension * FULL_SHIFT_MM * _mobility(lungs, ct.spacing_mm)  # mm towards the patient's left
    across_voxels = across / np.float32(ct.spacing_mm[2])
    # The tissue now at x came from x - shift (to first order in the slope, iterated once).
    back = _sampled(across_voxels, -across_voxels, order=1)
    hu = _sampled(ct.hu[box], -back, order=3)
    factor = np.clip(1.0 - np.gradient(back, axis=2), 0.4, 2.5)

    def moved(mask: Mask) -> Mask:
        out = mask.copy()
        out[box] = _sampled(mask[box].astype(np.float32), -back, order=1) > 0.5
        return out

    right, left, airway = moved(chest.right), moved(chest.left), moved(chest.airway)
    aerated = (right | left)[box] & (hu < -300.0)
    soft = gaussian_smoothed(aerated.astype(np.float32), 0.7)
    hu = hu + soft * (factor - 1.0) * (hu + np.float32(1000.0))
    out = np.array(ct.hu)
    still = np.abs(back) < 1e-3
    out[box] = np.where(still, ct.hu[box], np.clip(hu, ct.hu.min(), ct.hu.max()))
    carina = chest.carina
    if carina is not None:
        place = tuple(int(np.clip(round(c) - b.start, 0, n - 1)) for c, b, n in zip(carina, box, hu.shape, strict=True))
        carina = (carina[0], carina[1], carina[2] + float(across_voxels[place]))
    return ct.with_hu(out), replace(chest, right=right, left=left & ~right, airway=airway, carina=carina)


def _mobility(lungs: Mask, spacing: Spacing) -> Floats:
    """[D, H, W] 0..1: how far each place follows the mediastinum."""
    factor = [max(1, round(_PITCH_MM / s)) for s in spacing]
    coarse = lungs[:: factor[0], :: factor[1], :: factor[2]]
    pitch = (spacing[0] * factor[0], spacing[1] * factor[1], spacing[2] * factor[2])
    thorax = np.zeros(coarse.shape, dtype=bool)
    middle = np.argwhere(coarse)[:, 2].mean()
    columns = (np.arange(coarse.shape[2]) - middle) * pitch[2]
    for d, plane in enumerate(coarse):
        if plane.any():
            hull: Mask = np.asarray(convex_hull_image(plane))  # type: ignore[no-untyped-call]
            back = np.flatnonzero(hull.any(axis=1))[-1]
            rows = (np.arange(coarse.shape[1]) - back) * pitch[1]
            thorax[d] = hull & (rows[:, None] ** 2 + columns[None, :] ** 2 > _SPINE_MM**2)
    share = np.clip(depth_mm(np.pad(thorax, 1), pitch)[1:-1, 1:-1, 1:-1] / _RAMP_MM, 0.0, 1.0)
    share = ndimage.gaussian_filter(share * share * (3.0 - 2.0 * share), 6.0 / np.asarray(pitch), mode="constant")
    share[~ndimage.binary_dilation(thorax, iterations=1)] = 0.0
    scale = tuple(1.0 / f for f in factor)
    return resample_separable(
        share.astype(np.float32), lungs.shape, scale=(scale[0], scale[1], scale[2]), offset=(0.0, 0.0, 0.0), fill=0.0
    )


def _sampled(values: NDArray[np.float32], shift_voxels: Floats, *, order: int) -> Floats:
    """values at (d, h, w + shift)."""
    index = np.indices(values.shape, dtype=np.float32)
    index[2] += shift_voxels
    return np.asarray(ndimage.map_coordinates(values, index, order=order, mode="nearest"), dtype=np.float32)
