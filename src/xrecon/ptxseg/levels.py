"""HU that a scan shows for free air and lung in one hemithorax, and what follows for the edges between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.morphology import Mask

_SEED_SHARE = 0.45
"""Share of the way from free air to lung below which a voxel among its like is free air."""
_PURE_SHARE = 0.15
"""The same for the mean of a region that holds no tissue."""
_PLAIN_EDGE_SHARE = 0.8
"""Rise at a border, as a share of the way from free air to lung, at which pure air ends at any lung."""
_IMPURE_SHARE = 0.35
"""Share of the way from free air to lung above which the mean of a region holds tissue."""
_IMPURE_SLACK_HU = 10.0
"""Added to it in sharp images."""
_STEP_SHARE = 1.15
"""Rise at a border, as a share of the way from free air to lung, from which pleura or collapsed lung bounds it."""
_STEP_HU = 60.0
"""Added to it."""
_SMOOTH_STEP_SHARE = 0.65
"""The same in smooth images, which do not show the pleura."""
_LUNG_SHARE = 0.55
"""Share of the way from free air to lung above which smoothed HU, away from the wall, are lung."""
_TISSUE_HU = 40.0
"""Soft tissue."""
SHARP_REACH = 2
"""Voxels over which HU rises at a sharp edge."""
_PLEURA_MM = 1.0
"""Visceral pleura with the tissue that is pressed against it."""
_BLUR_MM = 0.4
"""By how much the scanner's blur widens half a voxel."""
_RIDGE_HU = 100.0
"""Rise over lung (more by twice the noise) from which a neighbour shows a pleura."""
AERATED_HU = -500.0
"""Brighter voxels are vessels, wall and airless lung."""
USUAL_CONTRAST_HU = 130.0
"""Usual rise from free air to lung, where it cannot be measured."""


@dataclass(frozen=True)
class AirLevels:
    """HU that a scan shows for free air and for lung.

    Attributes:
        air_hu: free air (windpipe).
        noise_hu: standard deviation inside the windpipe.
        lung_hu: median of the aerated lung of the side.
        smooth: the image is too blurred to show the pleura: edges are ramps, without a ridge between air and lung.
        reach: voxels over which HU rises from free air to what bounds it.
        spread: voxels by which interpolation of thick slices lengthens that, per axis D, H, W.
        usual_slope: HU/mm, the steepest usual slope of the lungs' edges in a smooth image in which air with sharp edges
            is looked for; None elsewhere.
    """

    air_hu: float
    noise_hu: float
    lung_hu: float
    smooth: bool = False
    reach: int = SHARP_REACH
    spread: tuple[int, int, int] = (0, 0, 0)
    usual_slope: float | None = None

    @property
    def seed_hu(self) -> float:
        """Below this a voxel among its like is free air."""
        return self.air_hu + max(_SEED_SHARE * (self.lung_hu - self.air_hu), 2.0 * self.noise_hu)

    @property
    def step_hu(self) -> float:
        """Rise from free air to what bounds it, where that is pleura and collapsed lung and not just thin lung."""
        if self.smooth:
            return _SMOOTH_STEP_SHARE * (self.lung_hu - self.air_hu)
        return _STEP_SHARE * (self.lung_hu - self.air_hu) + _STEP_HU

    @property
    def pure_hu(self) -> float:
        """Mean HU above the level of free air up to which a region holds no tissue at all."""
        return _PURE_SHARE * (self.lung_hu - self.air_hu)

    def is_edge(self, rise_hu: float, above_air_hu: float) -> bool:
        """Whether HU rises enough at a border: to pleura and collapsed lung, or from pure air to any lung."""
        pure = above_air_hu < self.pure_hu and rise_hu > _PLAIN_EDGE_SHARE * (self.lung_hu - self.air_hu)
        return pure or rise_hu > self.step_hu

    @property
    def impure_hu(self) -> float:
        """Mean HU above the level of free air from which a region holds tissue."""
        return _IMPURE_SHARE * (self.lung_hu - self.air_hu) + (0.0 if self.smooth else _IMPURE_SLACK_HU)

    @property
    def lung_from_hu(self) -> float:
        """Above this the smoothed HU, away from the wall, is lung."""
        return self.air_hu + max(_LUNG_SHARE * (self.lung_hu - self.air_hu), 1.5 * self.noise_hu)


def side_levels(
    hu: NDArray[np.float32],
    hemithorax: Mask,
    *,
    air_hu: float,
    noise_hu: float,
    smooth: bool,
    reach: int,
    spread: tuple[int, int, int] = (0, 0, 0),
) -> AirLevels:
    """Levels of one hemithorax. Free air is left out of the lung's median, or a large pocket would pull it down."""
    values = hu[hemithorax & (hu < AERATED_HU)]
    lung = values[values > air_hu + max(60.0, 3.0 * noise_hu)]
    # With hardly any parenchyma left to measure, the usual density of lung stands in.
    lung_hu = float(np.median(lung)) if lung.size > 1000 else air_hu + USUAL_CONTRAST_HU
    return AirLevels(air_hu, noise_hu, lung_hu, smooth, reach, spread)


class EdgeLevels(NamedTuple):
    """HU of a voxel that is half air, by what fills its other half.

    Attributes:
        wall_hu: beside soft tissue.
        pleura_hu: beside the visceral pleura with lung behind it.
        plain_below_hu: where no neighbour is brighter than this no pleura shows, and the midpoint to it counts.
        lung_hu: beside bare lung. A voxel behind the pleura is darker than the pleura's midpoint, but not than this.
    """

    wall_hu: float
    pleura_hu: float
    plain_below_hu: float
    lung_hu: float


def edge_levels(levels: AirLevels, pitch_mm: float) -> EdgeLevels:
    """Levels of half air for voxels of `pitch_mm`.

    The pleura with the tissue pressed against it is about 1 mm thick. Of the half voxel beside the air, widened by the
    scanner's blur, it fills a share; the rest is lung. Where the image is too smooth to show a pleura it is all lung.
    """
    wall, lung = (levels.air_hu + _TISSUE_HU) / 2.0, (levels.air_hu + levels.lung_hu) / 2.0
    if levels.smooth:
        return EdgeLevels(wall, lung, -np.inf, lung)
    share = min(1.0, _PLEURA_MM / (0.5 * pitch_mm + _BLUR_MM))
    pleura = share * _TISSUE_HU + (1.0 - share) * levels.lung_hu
    plain_below = levels.lung_hu + _RIDGE_HU + 2.0 * levels.noise_hu
    return EdgeLevels(wall, (levels.air_hu + pleura) / 2.0, plain_below, lung)
