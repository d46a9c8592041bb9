"""Candidates for free air: homogeneous cores at the level of air, grown through their partial-volume rim."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.anatomy.morphology import (
    Mask,
    Spacing,
    at_least,
    components,
    depth_mm,
    grown,
    holding,
    select,
    shrunk,
    stretched,
    widened,
)
from xrecon.jobs import at_once
from xrecon.ptxseg.candidates.pleural_line import without_line
from xrecon.ptxseg.candidates.steepness import surface_slope
from xrecon.ptxseg.flood import flood
from xrecon.ptxseg.levels import AERATED_HU, AirLevels, edge_levels

_FILM_NEIGHBOURS = 9
"""Dark voxels in the cube of 27 round a seed: a film of one voxel has as many, noise and emphysema seldom have."""
_MIN_SEED_ML = 0.3
"""Smaller seeds, and smaller parts of plain lung or without a pleural line, do not count."""
_MIN_LUNG_ML = 5.0
"""Lung beyond doubt deep in the side is at least as large."""
_MIN_WALL_SHARE = 0.08
"""Share of the shell round a seed that lies outside the hemithorax, from which the seed reaches the wall."""
_MIN_BLURRED_WALL_SHARE = 0.25
"""The same one voxel further off, for a wall that is blurred: there more of the shell lies near the wall."""
_FILM_MM = 6.0
"""Pockets thinner than this may hold no core: nothing so near the wall is taken for lung beyond doubt."""
_SEED_SLOPE_SHARE = 0.6
"""Slope round a seed of drawn air, as a share of the steepest usual slope of a smooth image: the grown candidate is
measured more strictly."""
_LUNG, _AIR = 1, 2


def find_candidates(
    hu: NDArray[np.float32], hemithorax: Mask, levels: AirLevels, *, spacing: Spacing
) -> tuple[NDArray[np.uint32], int]:
    """Candidates of one hemithorax.

    Cores are air beyond doubt: the mean of a voxel and its neighbours is near the level of the windpipe. Lung beyond
    doubt has the density of lung and lies deeper than a thin pocket reaches, or far enough from anything brighter to
    hold no partial volume. A flood from both over HU gives the rest: the pleura is the watershed, so air runs along the
    wall into the thin edge of a crescent, and the lung's own partial volume at the wall stays lung.

    Args:
        hu: [D, H, W] HU.
        hemithorax: [D, H, W] the side to search.
        levels: HU of free air and lung there.
        spacing: (D, H, W) mm.

    Returns:
        Labels [D, H, W] from 1 (0 elsewhere), and how many there are.
    """
    air = flooded(hu, hemithorax, levels, spacing=spacing)
    if not levels.smooth and not any(levels.spread):
        least = _MIN_SEED_ML * 1000.0 / float(np.prod(spacing))
        air &= ~without_line(hu, hemithorax, air, levels, least=least)
    labels, sizes = components(air)
    return labels, len(sizes)


def flooded(hu: NDArray[np.float32], hemithorax: Mask, levels: AirLevels, *, spacing: Spacing) -> Mask:
    """What the flood of `find_candidates` takes for air [D, H, W], before what lacks a pleural line is taken back."""
    seeds, count = _seeds(hu, hemithorax, levels, spacing=spacing)
    if count == 0:
        return np.zeros(hu.shape, dtype=np.bool_)
    steps: tuple[Callable[[], NDArray[np.float32]], ...] = (
        partial(depth_mm, hemithorax, spacing),
        partial(masked_mean, hu, hemithorax & (hu < AERATED_HU)),
        partial(_edge_hu, hu, levels, min(spacing)),
    )
    deep, mean, edge = at_once(lambda step: step(), steps)
    markers = np.zeros(hu.shape, dtype=np.uint8)
    lung = shrunk((deep > _FILM_MM) & (mean > levels.lung_from_hu), 2)
    voxel_ml = float(np.prod(spacing)) / 1000.0
    markers[at_least(lung, _MIN_LUNG_ML / voxel_ml)] = _LUNG
    if not levels.smooth and not _is_coarsely_drawn(levels):
        plain = _plain_lung(hu, hemithorax, mean, levels, pitch_mm=min(spacing))
        markers[at_least(plain, _MIN_SEED_ML / voxel_ml)] = _LUNG
    markers[seeds] = _AIR
    flood(hu, markers, hemithorax, low_hu=levels.air_hu - 20.0, high_hu=0.0)
    return holding((markers == _AIR) & (seeds | (hu < edge)), seeds)


def _plain_lung(
    hu: NDArray[np.float32], hemithorax: Mask, mean: NDArray[np.float32], levels: AirLevels, *, pitch_mm: float
) -> Mask:
    """Lung of any thickness: brighter than free air, and nothing near is bright enough to have made it so.

    The partial volume of air too thin for a core lies beside its wall or pleura, which are brighter.
    """
    near = tuple(2 * (1 + steps) + 1 for steps in levels.spread)
    around = ndimage.maximum_filter(hu, near)
    return np.asarray(hemithorax & (mean > levels.seed_hu) & (around < edge_levels(levels, pitch_mm).plain_below_hu))


def _seeds(hu: NDArray[np.float32], hemithorax: Mask, levels: AirLevels, *, spacing: Spacing) -> tuple[Mask, int]:
    """Air beyond doubt, even in a film of one voxel, that reaches the wall and ends at a step; and how many parts."""
    dark = hemithorax & (hu < levels.seed_hu)
    together = ndimage.uniform_filter(dark.astype(np.float32), 3) > (_FILM_NEIGHBOURS - 0.5) / 27.0
    labels, sizes = components(dark & together)
    boxes = cc3d.statistics(labels)["bounding_boxes"]
    numbers = []
    for number in 1 + np.flatnonzero(sizes * float(np.prod(spacing)) / 1000.0 >= _MIN_SEED_ML):
        box = widened(boxes[number], levels.reach + max(levels.spread) + 2, hu.shape)
        if levels.smooth or _is_bounded(labels[box] == number, hemithorax[box], hu[box], levels, spacing):
            numbers.append(int(number))
    return select(labels, numbers, len(sizes)), len(numbers)


def _is_coarsely_drawn(levels: AirLevels) -> bool:
    """Whether the pleura that bounds drawn air fills too little of its voxels to be a step."""
    return levels.usual_slope is not None and any(levels.spread)


def _is_bounded(part: Mask, hemithorax: Mask, hu: NDArray[np.float32], levels: AirLevels, spacing: Spacing) -> bool:
    """Whether a seed ends as air does: at wall and step, or (drawn into a smooth image) more steeply than the image."""
    if levels.usual_slope is None or not any(levels.spread):
        if _ends_at_wall_and_step(part, hemithorax, hu, levels):
            return True
        if levels.usual_slope is None:
            return False
    return surface_slope(hu, _shell(grown(part, levels.reach - 1)), spacing) >= _SEED_SLOPE_SHARE * levels.usual_slope


def _ends_at_wall_and_step(part: Mask, hemithorax: Mask, hu: NDArray[np.float32], levels: AirLevels) -> bool:
    inner = grown(part, levels.reach - 1)
    # Between slices that were far apart the wall lies further off than the pleura's ridge in the other directions.
    wide = stretched(inner, levels.spread)
    at_wall = _share_outside(_shell(wide), hemithorax) >= _MIN_WALL_SHARE
    if not at_wall and _share_outside(_shell(grown(wide)), hemithorax) < _MIN_BLURRED_WALL_SHARE:
        return False
    to_lung = _shell(inner) & hemithorax
    if not to_lung.any():
        return True
    rise = float(np.percentile(ndimage.maximum_filter(hu, 3)[to_lung], 25)) - levels.air_hu
    # A blurred wall lies further off still: what ends only there needs a pleural line that is plain to see.
    return levels.is_edge(rise, float(np.median(hu[part])) - levels.air_hu) if at_wall else rise > levels.step_hu


def _shell(mask: Mask) -> Mask:
    """The voxels round the mask."""
    return grown(mask) & ~mask


def _share_outside(shell: Mask, hemithorax: Mask) -> float:
    return int(np.count_nonzero(shell & ~hemithorax)) / max(1, int(np.count_nonzero(shell)))


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
