"""What is measured on a candidate for free pleural air: where it lies, how its HU behave, and its shape."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.anatomy.morphology import Mask, Spacing, bounding_box, depth_mm, grown
from xrecon.ptxseg.candidates.border import REACH_MM, lung_share
from xrecon.ptxseg.candidates.steepness import surface_slope
from xrecon.ptxseg.levels import SHARP_REACH, AirLevels

_MIDDLE_SHARE = 0.6
"""The middle of a candidate lies deeper than this share of its greatest depth: free of its edge's partial volume."""
_NOTHING_BEYOND_HU = 1000.0
"""Rise at the border of a candidate that meets no lung at all: that of tissue."""


@dataclass(frozen=True)
class Features:
    """Measurements of a candidate on the working grid.

    Attributes:
        volume_ml: mL.
        wall_share: share of its surface that lies on the chest wall, diaphragm or mediastinum, 0..1.
        edge_hu: rise of HU from free air to the brightest voxel just inside the lung, lower quartile over that surface.
        step_hu: rise of HU from free air to the lung three voxels behind that surface, median.
        above_air_hu: mean HU above the level of free air in its middle.
        spread_hu: standard deviation of HU in its middle.
        depth_mm: radius of the largest ball that it holds, mm.
        sphericity: 1 for a ball, less for a crescent.
        top, bottom: height of its ends in the hemithorax, 0 at the apex to 1 at the lowest recess.
        lung_share: which way its border with the lung bulges, see `border.lung_share`; None if it lies at the wall.
        slope_hu_mm: steepest slope of HU beside its surface, HU/mm, median over the surface.
    """

    volume_ml: float
    wall_share: float
    edge_hu: float
    step_hu: float
    above_air_hu: float
    spread_hu: float
    depth_mm: float
    sphericity: float
    top: float
    bottom: float
    lung_share: float | None = None
    slope_hu_mm: float | None = None

    def rounded(self) -> dict[str, float | None]:
        """Every measurement by name with two decimals, for findings.json."""
        return {name: None if value is None else round(value, 2) for name, value in asdict(self).items()}


def measure(
    candidate: Mask, hemithorax: Mask, hu: NDArray[np.float32], *, levels: AirLevels, spacing: Spacing
) -> Features:
    """Measure a candidate.

    Args:
        candidate: [D, H, W] air that hangs together, not empty.
        hemithorax: [D, H, W] the side that holds it.
        hu: [D, H, W] HU.
        levels: of the hemithorax.
        spacing: (D, H, W) mm.
    """
    box = bounding_box(candidate, margin=levels.reach + 3)
    assert box is not None
    part, side, values = candidate[box], hemithorax[box], hu[box]
    # A sharp edge is passed in one step from the air's surface, a blurred one in several.
    within = grown(part, levels.reach - SHARP_REACH)
    near = grown(within)
    surface = near & ~within
    # The last step to the wall is partial volume, which belongs to the hemithorax but is not lung.
    on_wall = surface & grown(~side)
    to_lung = surface & ~on_wall
    inner = depth_mm(part, spacing)
    middle = values[inner >= _MIDDLE_SHARE * float(inner.max())]
    bright = ndimage.maximum_filter(values, 3)[to_lung]
    second = grown(near)
    behind = grown(second) & ~second & side
    volume_mm3 = float(part.sum() * np.prod(spacing))
    top, bottom = _height(candidate, hemithorax)
    return Features(
        volume_ml=volume_mm3 / 1000.0,
        wall_share=float(on_wall.sum() / max(1, surface.sum())),
        edge_hu=float(np.percentile(bright, 25)) - levels.air_hu if bright.size else _NOTHING_BEYOND_HU,
        step_hu=float(np.median(values[behind])) - levels.air_hu if behind.any() else _NOTHING_BEYOND_HU,
        above_air_hu=float(middle.mean()) - levels.air_hu,
        spread_hu=float(middle.std()),
        depth_mm=float(inner.max()),
        sphericity=float(min(1.0, np.pi ** (1 / 3) * (6 * volume_mm3) ** (2 / 3) / _area_mm2(part, spacing))),
        top=top,
        bottom=bottom,
        lung_share=_lung_share(candidate, hemithorax, spacing),
        slope_hu_mm=surface_slope(values, surface, spacing),
    )


def _lung_share(candidate: Mask, hemithorax: Mask, spacing: Spacing) -> float | None:
    box = bounding_box(candidate, margin=math.ceil(REACH_MM / min(spacing)))
    assert box is not None
    return lung_share(candidate[box], hemithorax[box], spacing)


def _height(candidate: Mask, hemithorax: Mask) -> tuple[float, float]:
    """First and last row of the candidate, as shares of the hemithorax's height."""
    rows = np.flatnonzero(hemithorax.any(axis=(1, 2)))
    part = np.flatnonzero(candidate.any(axis=(1, 2)))
    height = max(1, int(rows[-1] - rows[0]))
    return float((part[0] - rows[0]) / height), float((part[-1] - rows[0]) / height)


def _area_mm2(mask: Mask, spacing: Spacing) -> float:
    """Surface: faces between the mask and its outside, times 2/3 (staircase excess of a randomly oriented plane)."""
    padded = np.pad(mask, 1)
    total = 0.0
    for axis in range(3):
        face = float(np.prod(spacing)) / spacing[axis]
        total += float(np.count_nonzero(np.diff(padded, axis=axis))) * face
    return total * 2.0 / 3.0
