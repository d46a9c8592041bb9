"""The working image of a scan and what is measured on it before the search: airways, noise, sharpness, levels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.anatomy.morphology import Mask, bounding_box
from xrecon.jobs import at_once
from xrecon.ptxseg import plausibility
from xrecon.ptxseg.airways import TRACHEAL_AIR_HU, Airways, find_airways
from xrecon.ptxseg.hemithoraces.lungs import EDGE_HU
from xrecon.ptxseg.levels import SHARP_REACH, USUAL_CONTRAST_HU, AirLevels, side_levels
from xrecon.ptxseg.work_grid import WorkingGrid
from xrecon.segmentation import Side

NOISY_HU = 40.0
"""Noise (one working voxel) from which the image is smoothed before the search. Below it smoothing would cost more (the
pleural line) than it gains."""
_SMOOTHING_VOXELS = 0.9
"""Standard deviation of that smoothing."""
MAX_REACH = 7
"""Working voxels over which a blurred edge is followed at most."""
_REACH_PER_EDGE = 0.6
"""Share of the width of the lungs' edges over which HU rises from free air."""


@dataclass(frozen=True, eq=False)
class Scan:
    """The working image and what was measured on it before the search.

    Attributes:
        grid: smoothed where the scan is very noisy.
        airways: windpipe and the level of air.
        noise_hu: standard deviation in the windpipe before any smoothing, HU.
        edge_mm: width of the lungs' edges, mm.
        smooth: whether that is too wide to see the pleura.
    """

    grid: WorkingGrid
    airways: Airways
    noise_hu: float
    edge_mm: float
    smooth: bool

    @property
    def hu(self) -> NDArray[np.float32]:
        """[D, H, W] HU of the working image."""
        return np.asarray(self.grid.volume.hu)

    @property
    def reach(self) -> int:
        """Working voxels over which HU rises at an edge."""
        if self.smooth:
            edge_voxels = _REACH_PER_EDGE * self.edge_mm / max(self.grid.spacing_mm)
            return min(MAX_REACH, 1 + int(np.ceil(edge_voxels)))
        # Interpolation spreads an edge over the new voxels of an old one; of thick slices two axes stay sharp.
        return SHARP_REACH + min(ratio.split for ratio in self.grid.ratios) - 1


def read_scan(grid: WorkingGrid, body: Mask) -> Scan:
    """Airways, noise and sharpness; a very noisy image is smoothed first.

    Args:
        grid: the working grid.
        body: [D, H, W] the body on it.
    """
    hu = np.asarray(grid.volume.hu)
    airways = find_airways(hu, body, grid.spacing_mm)
    noise_hu = airways.noise_hu
    if noise_hu > NOISY_HU:
        hu = np.asarray(ndimage.gaussian_filter(hu, _SMOOTHING_VOXELS, truncate=2.5), dtype=np.float32)
        grid = replace(grid, volume=grid.volume.with_hu(hu))
        airways = find_airways(hu, body, grid.spacing_mm)
    edge_mm = plausibility.edge_width_mm(hu, (hu < EDGE_HU) & body, grid.spacing_mm)
    smooth = plausibility.is_smooth(edge_mm)
    if smooth:
        # The blur of its wall fills the lumen, so that its level is not that of air.
        airways = replace(airways, air_hu=min(airways.air_hu, TRACHEAL_AIR_HU))
    return Scan(grid, airways, noise_hu, edge_mm, smooth)


def levels_by_side(scan: Scan, hemithoraces: NDArray[np.uint8], sides: Iterable[Side]) -> dict[Side, AirLevels]:
    """Levels of air and lung in each of `sides`.

    Args:
        scan: the working image.
        hemithoraces: [D, H, W] 0 outside, 1 right, 2 left.
        sides: those to measure.
    """
    airways = scan.airways
    d, h, w = (0 if scan.smooth else ratio.split - 1 for ratio in scan.grid.ratios)

    def levels_of(side: Side) -> AirLevels:
        box = bounding_box(hemithoraces == side)
        if box is None:
            return AirLevels(airways.air_hu, airways.noise_hu, airways.air_hu + USUAL_CONTRAST_HU)
        return side_levels(
            scan.hu[box],
            hemithoraces[box] == side,
            air_hu=airways.air_hu,
            noise_hu=airways.noise_hu,
            smooth=scan.smooth,
            reach=scan.reach,
            spread=(d, h, w),
        )

    measured = list(sides)
    return dict(zip(measured, at_once(levels_of, measured), strict=True))
