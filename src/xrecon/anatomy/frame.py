"""The reconstruction frame: a cube of 384 mm centred on the thorax, in which all cases look alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.body import body_mask, coarsened
from xrecon.anatomy.morphology import bounding_box, components, depth_mm, distance_mm, eroded, filled_slices, select
from xrecon.errors import InputError
from xrecon.geometry import FRAME_MM
from xrecon.volume import OUTSIDE_HU, Volume

_PITCH_MM = 3.0
_LUNG_BELOW_HU = -450.0
_CORE_MM = 6.0
"""Windpipe and gas of the bowel hold little that lies deeper than this."""
_RECESS_MM = 20.0
"""The posterior recesses are thinner than the cores are deep and reach about this far beyond them."""
_MIN_CORE_ML, _MIN_AIR_ML = 100.0, 500.0


def lung_box(volume: Volume) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper corner, LPS (x, y, z) mm, of the box round both air-filled lungs.

    Air inside the body below -450 HU; windpipe and bowel gas are dropped by size (cores that survive an erosion of
    6 mm and hold at least a twentieth of the largest). Each remaining air voxel belongs to the nearest core, at most
    20 mm away: the thin recesses beside the diaphragm count, the windpipe does not.

    Raises:
        InputError: less than 0.5 L of air inside the body: not a chest, or not in HU.
    """
    coarse = coarsened(volume.canonical(), _PITCH_MM)
    spacing = coarse.spacing_mm
    body = filled_slices(body_mask(coarse))
    air = (coarse.hu < _LUNG_BELOW_HU) & body & (depth_mm(body, spacing) > _CORE_MM)
    core = eroded(air, _CORE_MM, spacing)
    parts, sizes = components(core)
    if sizes.max(initial=0) * coarse.voxel_ml < _MIN_CORE_ML or air.sum() * coarse.voxel_ml < _MIN_AIR_ML:
        raise InputError(
            f"no lungs found: {air.sum() * coarse.voxel_ml:.0f} mL of air inside the body, expected at least "
            f"{_MIN_AIR_ML:.0f} mL; is this a chest CT in Hounsfield units?"
        )
    large = select(parts, 1 + np.flatnonzero(sizes >= sizes.max() * 0.05), len(sizes))
    to_lung, to_other = distance_mm(large, spacing), distance_mm(core & ~large, spacing)
    box = bounding_box(air & (to_lung <= _RECESS_MM) & (to_lung < to_other))
    assert box is not None  # it holds the cores
    corners = np.array([[part.start for part in box], [part.stop - 1 for part in box]])
    world = corners @ coarse.affine[:3, :3].T + coarse.affine[:3, 3]
    return world.min(axis=0), world.max(axis=0)


def thorax_centre(volume: Volume) -> NDArray[np.float64]:
    """LPS position (x, y, z), mm, of the middle of the box round both lungs: the isocentre of simulated films.

    Raises:
        InputError: no lungs in the volume.
    """
    low, high = lung_box(volume)
    return np.asarray((low + high) / 2)


def framed(
    volume: Volume, size: int, *, centre_mm: NDArray[np.float64] | None = None, frame_mm: float = FRAME_MM
) -> Volume:
    """The volume on a `size`^3 grid that spans `frame_mm`, centred at `centre_mm` (default: the thorax centre).

    In canonical orientation, whatever that of the input. An oblique scan keeps its own axes, as its films do.

    Raises:
        InputError: no lungs in the volume, and no centre given.
    """
    volume = volume.canonical()
    centre = thorax_centre(volume) if centre_mm is None else centre_mm
    return volume.resampled((size, size, size), frame_mm / size, centre_mm=centre, fill_hu=OUTSIDE_HU)
