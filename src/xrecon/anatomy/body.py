"""The patient's body in a CT, without table, clothes and cables; and the air-filled lungs for centring."""

from __future__ import annotations

from dataclasses import replace

import cc3d
import edt
import fill_voids
import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.volume import OUTSIDE_HU, Volume

_WORK_MM = 3.0
_SKIN_HU = -350.0
_OPEN_MM = 5.0
"""Table tops, wires and blankets are thinner than twice this; arms and the neck are thicker."""
_LUNG_HU = -450.0
_RECESS_MM = 20.0
"""The posterior recesses are thinner than the erosion below and reach about this far beyond what survives it."""


def body_mask(volume: Volume) -> NDArray[np.bool_]:
    """Voxels [D, H, W] of the patient's body: skin and everything inside it, lungs and airways included.

    Found on a 3 mm grid: above -350 HU, opened by 5 mm (exact distance maps), the largest component and every other
    one at least a fifth of its size that reaches no thinner than the opening (arms), holes filled slice by slice.

    Raises:
        InputError: nothing in the volume is denser than air, or the volume is not in canonical orientation (holes are
            filled in axial slices, so the axes must be known).
    """
    if not volume.is_canonical:
        raise InputError(
            "the axes of the volume are not D feet, H back, W left: bring it there first with .canonical()"
        )
    coarse = _coarse(volume)
    spacing = coarse.spacing_mm
    dense = coarse.hu > _SKIN_HU
    core = _erode(dense, _OPEN_MM, spacing)
    if not core.any():
        raise InputError("no body found: nothing in the volume is denser than -350 HU and thicker than 10 mm")
    parts = cc3d.connected_components(core, connectivity=6)
    sizes = np.bincount(parts.ravel())[1:]
    keep = np.isin(parts, 1 + np.flatnonzero(sizes >= sizes.max() * 0.2))
    body = dense & _dilate(keep, _OPEN_MM + 1.0, spacing)
    body = _fill_slices(body)
    # The outline is smoothed once more, so that hair-thin leftovers of the table's cover go.
    body = _dilate(_erode(body, _OPEN_MM, spacing), _OPEN_MM, spacing) & body
    return _onto(volume, coarse, body)


def without_table(volume: Volume, *, mask: NDArray[np.bool_] | None = None) -> Volume:
    """The volume, in canonical orientation, with everything outside the body set to vacuum (-1024 HU).

    Args:
        volume: any orientation.
        mask: `body_mask(volume.canonical())` where it is known already.

    Raises:
        InputError: nothing in the volume is denser than air.
    """
    volume = volume.canonical()
    mask = body_mask(volume) if mask is None else mask
    hu = np.where(mask, volume.hu, np.float32(OUTSIDE_HU)).astype(np.float32)
    return replace(volume, hu=hu, notes=(*volume.notes, "everything outside the body (table, covers) removed"))


def lung_box(volume: Volume) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper corner (LPS mm) of the box round both air-filled lungs.

    Air inside the body below -450 HU; windpipe and bowel gas are dropped by size (cores that survive an erosion of
    6 mm and hold at least a twentieth of the largest). Each remaining air voxel belongs to the nearest core, at most
    20 mm away: the thin recesses beside the diaphragm count, the windpipe does not.

    Raises:
        InputError: less than 0.5 L of air inside the body: not a chest, or not in HU.
    """
    coarse = _coarse(volume.canonical())
    spacing = coarse.spacing_mm
    body = _fill_slices(body_mask(coarse))
    air = (coarse.hu < _LUNG_HU) & body & (edt.edt(body, anisotropy=spacing) > 6.0)
    core = _erode(air, 6.0, spacing)
    parts = cc3d.connected_components(core, connectivity=6)
    sizes = np.bincount(parts.ravel(), minlength=2)[1:]
    if sizes.max() * coarse.voxel_ml < 100.0 or air.sum() * coarse.voxel_ml < 500.0:
        raise InputError(
            f"no lungs found: {air.sum() * coarse.voxel_ml:.0f} mL of air inside the body, expected at least 500 mL; "
            "is this a chest CT in Hounsfield units?"
        )
    keep = np.isin(parts, 1 + np.flatnonzero(sizes >= sizes.max() * 0.05))
    to_lung, to_other = _distance(keep, spacing), _distance(core & ~keep, spacing)
    lungs = air & (to_lung <= _RECESS_MM) & (to_lung < to_other)
    corners = np.array([[np.flatnonzero(lungs.any(axis=_others(a)))[i] for a in range(3)] for i in (0, -1)])
    world = corners @ coarse.affine[:3, :3].T + coarse.affine[:3, 3]
    return world.min(axis=0), world.max(axis=0)


def _others(axis: int) -> tuple[int, int]:
    first, second = (a for a in range(3) if a != axis)
    return first, second


def _coarse(volume: Volume) -> Volume:
    new = [max(_WORK_MM, s) for s in volume.spacing_mm]
    shape = [max(1, round(n * s / t)) for n, s, t in zip(volume.shape, volume.spacing_mm, new, strict=True)]
    return volume.resampled((shape[0], shape[1], shape[2]), (new[0], new[1], new[2]))


def _onto(volume: Volume, coarse: Volume, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A coarse mask on the volume's own grid, by the half-level of its linear interpolation."""
    values = coarse.with_hu(mask.astype(np.float32))
    fine = values.resampled(volume.shape, volume.spacing_mm, centre_mm=volume.centre_mm, fill_hu=0.0)
    return np.asarray(fine.hu > 0.5)


def _erode(mask: NDArray[np.bool_], radius_mm: float, spacing: tuple[float, float, float]) -> NDArray[np.bool_]:
    # The image's border is not a surface: a body cut by the field of view must not erode from there.
    return np.asarray(edt.edt(np.ascontiguousarray(mask), anisotropy=spacing, black_border=False) > radius_mm)


def _dilate(mask: NDArray[np.bool_], radius_mm: float, spacing: tuple[float, float, float]) -> NDArray[np.bool_]:
    return np.asarray(_distance(mask, spacing) <= radius_mm)


def _distance(mask: NDArray[np.bool_], spacing: tuple[float, float, float]) -> NDArray[np.float32]:
    """Distance of every voxel to the mask, mm; infinite if the mask is empty."""
    return np.asarray(edt.edt(np.ascontiguousarray(~mask), anisotropy=spacing, black_border=False))


def _fill_slices(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill holes of every axial slice: lungs that are open to the top or bottom of the scan are closed this way."""
    filled = np.empty_like(mask)
    for d in range(mask.shape[0]):
        filled[d] = fill_voids.fill(np.ascontiguousarray(mask[d]))
    return filled
