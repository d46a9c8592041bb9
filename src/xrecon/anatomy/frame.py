"""The reconstruction frame: a cube of 384 mm centred on the thorax, in which all cases look alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.body import lung_box
from xrecon.geometry import FRAME_MM
from xrecon.volume import OUTSIDE_HU, Volume


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
