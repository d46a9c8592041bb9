"""Free air of one hemithorax: its candidates, each taken apart where it has a neck, and judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.morphology import Mask, Spacing, bounding_box, components, dilated
from xrecon.jobs import at_once
from xrecon.ptxseg.candidates.air import find_candidates
from xrecon.ptxseg.candidates.features import Features, measure
from xrecon.ptxseg.candidates.necks import parts_behind_necks
from xrecon.ptxseg.hemithoraces.sides import SIDE_NAMES
from xrecon.ptxseg.judge import BOWEL, BULLA, MIN_ML, MOSTLY_WALL_SHARE, PNEUMOTHORAX, Verdict, judge
from xrecon.ptxseg.levels import SHARP_REACH, AirLevels
from xrecon.ptxseg.plausibility import CONTRAST_HU, is_thick
from xrecon.ptxseg.scan import MAX_REACH, Scan
from xrecon.segmentation import AirComponent, Side

_REPORTED_ML = 1.0
"""What is smaller is not listed in the findings."""
_HALF_AIR_HU = -500.0
"""Darker voxels are more than half air beside tissue."""
_BESIDE_MM = 6.0
"""Drawn air of a thickness up to this may lie outside the hemithorax of the network."""


@dataclass(frozen=True, eq=False)
class SideAir:
    """One hemithorax: the free air in it [D, H, W], its levels and all its candidates, the largest first."""

    air: Mask
    levels: AirLevels
    components: list[AirComponent]


AirBySide = dict[Side, SideAir]
"""The free air of right and left."""


class JudgedPart(NamedTuple):
    """A candidate, or a part of one [D, H, W]: what was measured on it, and what it is taken for."""

    mask: Mask
    features: Features
    verdict: Verdict


def find_air(scan: Scan, body: Mask, hemithoraces: NDArray[np.uint8], levels: Mapping[Side, AirLevels]) -> AirBySide:
    """Free air of both sides.

    Into a smooth image air may have been drawn with the sharp edges that real air has. It is looked for first, as in a
    sharp image; where there is any, nothing with a blurred edge is air.

    Args:
        scan: the working image.
        body: [D, H, W] the body on the working grid.
        hemithoraces: [D, H, W] 0 outside, 1 right, 2 left.
        levels: of both sides.
    """
    if scan.smooth and not is_thick(scan.grid.source.spacing_mm):
        wide = _with_air_beside(scan, body, hemithoraces)
        sharp = _both(scan, wide, {side: _sharp_levels(scan, of_side) for side, of_side in levels.items()})
        if any(side_air.air.any() for side_air in sharp.values()):
            return sharp
    return _both(scan, hemithoraces, levels)


def _both(scan: Scan, hemithoraces: NDArray[np.uint8], levels: Mapping[Side, AirLevels]) -> AirBySide:
    airs = at_once(lambda side: find_side_air(scan, hemithoraces, side, levels[side]), SIDE_NAMES)
    return dict(zip(SIDE_NAMES, airs, strict=True))


def _sharp_levels(scan: Scan, levels: AirLevels) -> AirLevels:
    """The levels of a smooth image, for air that was drawn into it with sharp edges."""
    d, h, w = (ratio.split - 1 for ratio in scan.grid.ratios)
    reach = SHARP_REACH + min(d, h, w)
    return replace(levels, smooth=False, reach=reach, spread=(d, h, w), usual_slope=CONTRAST_HU / scan.edge_mm)


def _with_air_beside(scan: Scan, body: Mask, hemithoraces: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The hemithoraces with dark voxels right beside them: thin air that a network which looks for lungs leaves out."""
    out = hemithoraces.copy()
    dark = body & (scan.hu < _HALF_AIR_HU) & (hemithoraces == 0) & ~scan.airways.mask
    for side in SIDE_NAMES:
        near = dilated(hemithoraces == side, _BESIDE_MM, scan.grid.spacing_mm)
        out[dark & near & (out == 0)] = side
    return out


def find_side_air(scan: Scan, hemithoraces: NDArray[np.uint8], side: Side, levels: AirLevels) -> SideAir:
    """Free air of one side.

    Args:
        scan: the working image.
        hemithoraces: [D, H, W] 0 outside, 1 right, 2 left.
        side: right or left.
        levels: of that side.
    """
    spacing = scan.grid.spacing_mm
    air = np.zeros(hemithoraces.shape, dtype=np.bool_)
    box = bounding_box(hemithoraces == side, margin=MAX_REACH + 3)
    if box is None:
        return SideAir(air, levels, [])
    hu, hemithorax = np.ascontiguousarray(scan.hu[box]), np.ascontiguousarray(hemithoraces[box] == side)
    labels, count = find_candidates(hu, hemithorax, levels, spacing=spacing)
    pitch_mm = max(*spacing, *scan.grid.source.spacing_mm)
    listed: list[AirComponent] = []
    for number in range(1, count + 1):
        for part in judged_parts(labels == number, hemithorax, hu, levels=levels, spacing=spacing, pitch_mm=pitch_mm):
            if part.verdict.kind == PNEUMOTHORAX:
                air[box] |= part.mask
            if part.features.volume_ml >= _REPORTED_ML:
                listed.append(_component(side, part))
    listed.sort(key=lambda component: float(component["volume_ml"]), reverse=True)
    return SideAir(air, levels, listed)


def judged_parts(
    candidate: Mask, hemithorax: Mask, hu: NDArray[np.float32], *, levels: AirLevels, spacing: Spacing, pitch_mm: float
) -> list[JudgedPart]:
    """What a candidate is taken for: as a whole, or part by part if a part behind a neck is no free air.

    Such a part lies off the wall for the most part, as a bulla does; a recess of a pocket lies on it.

    Args:
        candidate: [D, H, W].
        hemithorax: [D, H, W] the side that holds it.
        hu: [D, H, W] HU.
        levels: of the hemithorax.
        spacing: (D, H, W) mm.
        pitch_mm: longest side of a voxel of the input or of the working grid, mm.
    """

    def judged(part: Mask) -> JudgedPart:
        features = measure(part, hemithorax, hu, levels=levels, spacing=spacing)
        return JudgedPart(part & candidate, features, judge(features, levels, pitch_mm=pitch_mm))

    # Smooth images show neither pleura nor leak.
    parts = [] if levels.smooth else [judged(part) for part in parts_behind_necks(candidate, hu, levels, spacing)]
    others = [part for part in parts if _is_part_by_itself(part)]
    if not others:
        return [judged(candidate)]
    labels, sizes = components(candidate & ~np.logical_or.reduce([part.mask for part in others]))
    large = 1 + np.flatnonzero(sizes * float(np.prod(spacing)) / 1000.0 >= MIN_ML)
    return others + [judged(labels == number) for number in large]


def _is_part_by_itself(part: JudgedPart) -> bool:
    return part.verdict.kind in (BULLA, BOWEL) and part.features.wall_share < MOSTLY_WALL_SHARE


def _component(side: Side, part: JudgedPart) -> AirComponent:
    """One candidate for findings.json."""
    return {
        "volume_ml": round(part.features.volume_ml, 2),
        "side": SIDE_NAMES[side],
        "kind": part.verdict.kind,
        "confidence": part.verdict.confidence,
        "reason": part.verdict.reason,
        "measurements": part.features.rounded(),
    }
