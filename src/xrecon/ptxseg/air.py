"""Candidates for free air: homogeneous cores at the level of air, grown through their partial-volume rim."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.parallel import at_once
from xrecon.ptxseg.flood import flood
from xrecon.ptxseg.morphology import (
    Mask,
    Spacing,
    at_least,
    components,
    depth,
    filled,
    grown,
    holding,
    select,
    shrunk,
    stretched,
    widened,
)

_SEED_SHARE = 0.45
"""A seed's HU lies below this share of the way from free air to lung."""
_PURE_SHARE = 0.15
_PLAIN_EDGE_SHARE = 0.8
_IMPURE_SHARE = 0.35
_IMPURE_SLACK_HU = 10.0
_FILM_NEIGHBOURS = 9
_MIN_SEED_ML = 0.3
_MIN_LUNG_ML = 5.0
_MIN_WALL_SHARE = 0.08
_MIN_BLURRED_WALL_SHARE = 0.25
"""One voxel further off, where more is near the wall: the pocket of train case_101 missed otherwise has 0.42."""
_LUNG_SHARE = 0.55
_FILM_MM = 6.0
"""Pockets thinner than this may hold no core: nothing so near the wall is taken for lung beyond doubt."""
_TISSUE_HU = 40.0
SHARP_REACH = 2
_PLEURA_MM = 1.0
_BLUR_MM = 0.4
_RIDGE_HU = 100.0
_PURE_HU = 40.0
_LINE_HU = 20.0
"""In 84 pockets of train cases all 187 parts of more than 100 voxels that are air meet the lung over a line whose lower
quartile is 69 HU or more above the side's lung; of 43 that a flood wrongly took for air 27 have less than 20, the
largest -78 (measured by hand)."""
_MIN_CORE_SHARE = 0.01
_LUNG, _AIR = 1, 2
_AERATED_HU = -500.0


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
    """

    air_hu: float
    noise_hu: float
    lung_hu: float
    smooth: bool = False
    reach: int = SHARP_REACH
    spread: tuple[int, int, int] = (0, 0, 0)

    @property
    def seed_hu(self) -> float:
        """Below this a voxel among its like is free air."""
        return self.air_hu + max(_SEED_SHARE * (self.lung_hu - self.air_hu), 2.0 * self.noise_hu)

    @property
    def step_hu(self) -> float:
        """Rise from free air to what bounds it, where that is pleura and collapsed lung and not just thin lung."""
        if self.smooth:
            return 0.65 * (self.lung_hu - self.air_hu)
        return 1.15 * (self.lung_hu - self.air_hu) + 60.0

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
    own: Mask,
    *,
    air_hu: float,
    noise_hu: float,
    smooth: bool,
    reach: int,
    spread: tuple[int, int, int] = (0, 0, 0),
) -> AirLevels:
    """Levels of one hemithorax. Free air is left out of the lung's median, or a large pocket would pull it down."""
    values = hu[own & (hu < _AERATED_HU)]
    lung = values[values > air_hu + max(60.0, 3.0 * noise_hu)]
    # With hardly any parenchyma left to measure, the usual density of lung stands in.
    lung_hu = float(np.median(lung)) if lung.size > 1000 else air_hu + 130.0
    return AirLevels(air_hu, noise_hu, lung_hu, smooth, reach, spread)


def find_candidates(
    hu: NDArray[np.float32], own: Mask, levels: AirLevels, *, spacing: Spacing
) -> tuple[NDArray[np.uint32], int]:
    """Candidates of one hemithorax.

    Cores are air beyond doubt: the mean of a voxel and its neighbours is near the level of the windpipe. Lung beyond
    doubt has the density of lung and lies deeper than a thin pocket reaches, or far enough from anything brighter to
    hold no partial volume. A flood from both over HU gives the rest: the pleura is the watershed, so air runs along the
    wall into the thin edge of a crescent, and the lung's own partial volume at the wall stays lung.

    Args:
        hu: [D, H, W] HU.
        own: [D, H, W] the hemithorax.
        levels: HU of free air and lung there.
        spacing: mm.

    Returns:
        Labels [D, H, W] from 1 (0 elsewhere), and how many there are.
    """
    seeds, count = _seeds(hu, own, levels, spacing=spacing)
    if count == 0:
        return np.zeros(hu.shape, dtype=np.uint32), 0
    steps: tuple[Callable[[], NDArray[np.float32]], ...] = (
        partial(depth, own, spacing),
        partial(masked_mean, hu, own & (hu < _AERATED_HU)),
        partial(_edge_hu, hu, levels, min(spacing)),
    )
    deep, mean, edge = at_once(lambda step: step(), steps)
    markers = np.zeros(hu.shape, dtype=np.uint8)
    lung = shrunk((deep > _FILM_MM) & (mean > levels.lung_from_hu), 2)
    voxel_ml = float(np.prod(spacing)) / 1000.0
    markers[at_least(lung, _MIN_LUNG_ML / voxel_ml)] = _LUNG
    if not levels.smooth:
        plain = _plain_lung(hu, own, mean, levels, pitch_mm=min(spacing))
        markers[at_least(plain, _MIN_SEED_ML / voxel_ml)] = _LUNG
    markers[seeds] = _AIR
    flood(hu, markers, own, low_hu=levels.air_hu - 20.0, high_hu=0.0)
    air = holding((markers == _AIR) & (seeds | (hu < edge)), seeds)
    if not levels.smooth and not any(levels.spread):
        air &= ~_without_line(hu, own, air, levels, least=_MIN_SEED_ML / voxel_ml)
    labels, sizes = components(air)
    return labels, len(sizes)


def _without_line(hu: NDArray[np.float32], own: Mask, air: Mask, levels: AirLevels, *, least: float) -> Mask:
    """Parts of `air` that are not pure, lie off what is, and meet the lung without a pleural line: thin lung.

    What is not pure beside pure air is partial volume. A pocket that holds nothing pure, thin as it is, lies between
    the wall and the pleura, which is brighter than the lung behind it. Thick slices do not show that line.
    """
    pure = air & (hu < levels.air_hu + max(_PURE_HU, 2.5 * levels.noise_hu))
    apart = air & ~grown(pure)
    labels, sizes = components(apart)
    cores = np.bincount(labels[shrunk(apart)], minlength=len(sizes) + 1)[1:]
    boxes = cc3d.statistics(labels)["bounding_boxes"]
    dropped = []
    for number in 1 + np.flatnonzero((sizes >= least) & (cores >= _MIN_CORE_SHARE * sizes)):
        box = widened(boxes[number], 1, hu.shape)
        beside = _shell(filled(labels[box] == number)) & own[box] & ~air[box]
        if beside.any() and float(np.percentile(hu[box][beside], 25)) < levels.lung_hu + _LINE_HU:
            dropped.append(int(number))
    return select(labels, dropped, len(sizes))


def _plain_lung(
    hu: NDArray[np.float32], own: Mask, mean: NDArray[np.float32], levels: AirLevels, *, pitch_mm: float
) -> Mask:
    """Lung of any thickness: brighter than free air, and nothing near is bright enough to have made it so.

    The partial volume of air too thin for a core lies beside its wall or pleura, which are brighter.
    """
    near = tuple(2 * (1 + steps) + 1 for steps in levels.spread)
    around = ndimage.maximum_filter(hu, near)
    return np.asarray(own & (mean > levels.seed_hu) & (around < edge_levels(levels, pitch_mm).plain_below_hu))


def _seeds(hu: NDArray[np.float32], own: Mask, levels: AirLevels, *, spacing: Spacing) -> tuple[Mask, int]:
    """Air beyond doubt, even in a film of one voxel, that reaches the wall and ends at a step; and how many parts."""
    dark = own & (hu < levels.seed_hu)
    # A film of one voxel has nine dark voxels in the cube round each of its own; noise and emphysema seldom have.
    together = ndimage.uniform_filter(dark.astype(np.float32), 3) > (_FILM_NEIGHBOURS - 0.5) / 27.0
    labels, sizes = components(dark & together)
    boxes = cc3d.statistics(labels)["bounding_boxes"]
    kept = []
    for number in 1 + np.flatnonzero(sizes * float(np.prod(spacing)) / 1000.0 >= _MIN_SEED_ML):
        box = widened(boxes[number], levels.reach + max(levels.spread) + 2, hu.shape)
        if levels.smooth or _ends_at_wall_and_step(labels[box] == number, own[box], hu[box], levels):
            kept.append(int(number))
    return select(labels, kept, len(sizes)), len(kept)


def _ends_at_wall_and_step(part: Mask, own: Mask, hu: NDArray[np.float32], levels: AirLevels) -> bool:
    inner = grown(part, levels.reach - 1)
    # Between slices that were far apart the wall lies further off than the pleura's ridge in the other directions.
    wide = stretched(inner, levels.spread)
    at_wall = _share_outside(_shell(wide), own) >= _MIN_WALL_SHARE
    if not at_wall and _share_outside(_shell(grown(wide)), own) < _MIN_BLURRED_WALL_SHARE:
        return False
    to_lung = _shell(inner) & own
    if not to_lung.any():
        return True
    rise = float(np.percentile(ndimage.maximum_filter(hu, 3)[to_lung], 25)) - levels.air_hu
    # A blurred wall lies further off still: what ends only there needs a pleural line that is plain to see.
    return levels.is_edge(rise, float(np.median(hu[part])) - levels.air_hu) if at_wall else rise > levels.step_hu


def _shell(mask: Mask) -> Mask:
    """The voxels round the mask."""
    return grown(mask) & ~mask


def _share_outside(shell: Mask, own: Mask) -> float:
    return int(np.count_nonzero(shell & ~own)) / max(1, int(np.count_nonzero(shell)))


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


def _edge_hu(hu: NDArray[np.float32], levels: AirLevels, pitch_mm: float) -> NDArray[np.float32]:
    """HU [D, H, W] below which a voxel is more than half air, from the brightest voxel around it."""
    edge = edge_levels(levels, pitch_mm)
    around = ndimage.maximum_filter(hu, 2 * levels.reach - 1)
    middle = (around + levels.air_hu) / 2.0
    bounded = np.clip(middle, edge.pleura_hu, edge.wall_hu)
    return np.asarray(np.where(around < edge.plain_below_hu, middle, bounded), dtype=np.float32)


def masked_mean(hu: NDArray[np.float32], mask: Mask) -> NDArray[np.float32]:
    """Mean over the voxels of the mask among the 3 x 3 x 3 neighbours; +3000 where there is none."""
    weight = ndimage.uniform_filter(mask.astype(np.float32), 3)
    total = ndimage.uniform_filter(np.where(mask, hu, np.float32(0.0)), 3)
    return np.where(weight > 0.02, total / np.maximum(weight, 0.02), np.float32(3000.0)).astype(np.float32)
