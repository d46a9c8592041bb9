"""What a candidate is: pneumothorax, or one of the things that resemble it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.anatomy.morphology import Mask, Spacing, bounding_box, components, depth_mm, grown
from xrecon.ptxseg.border import REACH_MM, lung_share
from xrecon.ptxseg.levels import SHARP_REACH, AirLevels
from xrecon.ptxseg.necks import parts_behind_necks

PNEUMOTHORAX = "pneumothorax"
BULLA = "bulla/emphysema"
BOWEL = "stomach/bowel"
OESOPHAGUS = "oesophagus"
UNCERTAIN = "uncertain"

_MIN_ML = 2.0
_SMALL_ML = 15.0
_MIN_CONTRAST_HU = 130.0
_ENCLOSED_SHARE = 0.65
_TISSUE_STEP_HU = 600.0
_MIN_WALL_SHARE = 0.1
_BALL = 0.7
_ROUND = 0.6
_SHEET_HU = 700.0
"""The pleura's 1 mm rises this high only where the lung behind it is airless; diaphragm and gut wall do everywhere."""
_AIRLESS_STEP_HU = 500.0
"""Lung that rises less above free air holds half of its air or more; behind the stomach of train case_013 218."""
_ROUND_WALL_SHARE = 0.3
_BALL_WALL_SHARE = 0.45
_HALF_BALL_WALL_SHARE = 1.0 / 3.0
"""Air round a lung has the larger of its two faces on the wall; a bulla the smaller. A half ball's foot is a third."""
_INTO_LUNG = 0.54
_MOSTLY_WALL = 0.5
"""Free pockets planted in train cases have 0.44 to 0.54 lung round their border at 600 mL (smaller ones up to 0.69) and
54 % or more of their surface on the wall; bullae of 120 to 400 mL 0.53 to 0.59, and at most 33 % on it
(`benchmarks/ptxseg_limits.py`)."""
_DOUBTFUL_CONFIDENCE = 0.3
_THICK_MM = 8.0
"""Thick slices hide a part of the foot of pockets with a smaller inner radius: there the rule does not hold."""
_BROAD_MM = 6.0
"""Planted pockets below `_SMALL_ML` are films, at most 5 mm deep: what is small and broad is no thin layer of air."""
_THIN_MM = 4.0
_THIN_VOXELS = 2.1
_THIN_HU = 60.0
_LINE_HU = 40.0
_SMOOTH_DEEP_MM = 10.0
_SMOOTH_PURE_SHARE = 0.2
_SMOOTH_SPREAD_HU = 22.0
"""Smooth images: the middle of a pocket this deep is free of its blurred edge, so it is as empty and even as air is.

Chosen on train cases at 4 and 6 mm, where thin lung, and what `deform` makes of healthy chests, is less so."""
_SMOOTH_WALL_SHARE = 0.57
"""Smooth images hide the pleura, but not where air lies. Of what passes the other rules in planted train chests (at 6
and 4 mm, and blurred) 56 pockets have 0.57 to 0.85 of their surface on the wall, 24 bullae 0.45 to 0.55
(`benchmarks/ptxseg_limits.py`)."""
_MIDDLE = 0.6
"""Its middle is what lies deeper than this share of its greatest depth: no partial volume of its edge."""


@dataclass(frozen=True)
class Features:
    """Measurements of a candidate on the working grid.

    Attributes:
        volume_ml: mL.
        wall_share: share of its surface that lies on the chest wall, diaphragm or mediastinum, 0..1.
        edge_hu: step from free air to the brightest voxel just inside the lung, lower quartile over that surface.
        step_hu: step from free air to the lung three voxels behind that surface, median.
        above_air_hu: mean above the level of free air in its middle.
        spread_hu: standard deviation of HU in its middle.
        depth_mm: radius of the largest ball that it holds.
        sphericity: 1 for a ball, less for a crescent.
        top, bottom: height of its ends in the hemithorax, 0 at the apex to 1 at the lowest recess.
        lung_share: which way its border with the lung bulges, see `border.lung_share`; None if it lies at the wall.
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


@dataclass(frozen=True)
class Verdict:
    """What a candidate is taken for, how sure that is (0..1), and why."""

    kind: str
    confidence: float
    reason: str


def judged(
    candidate: Mask, own: Mask, hu: NDArray[np.float32], *, levels: AirLevels, spacing: Spacing, pitch_mm: float
) -> list[tuple[Mask, Features, Verdict]]:
    """What a candidate [D, H, W] is taken for: as a whole, or part by part if a part behind a neck is no free air.

    Such a part lies off the wall for the most part, as a bulla does; a recess of a pocket lies on it.

    Args as for `measure` and `judge`.
    """

    def taken_for(part: Mask) -> tuple[Mask, Features, Verdict]:
        features = measure(part, own, hu, levels=levels, spacing=spacing)
        return part & candidate, features, judge(features, levels, pitch_mm=pitch_mm)

    # Smooth images show neither pleura nor leak.
    split = [] if levels.smooth else parts_behind_necks(candidate, hu, levels, spacing)
    parts = [taken_for(part) for part in split]
    others = [one for one in parts if one[2].kind in (BULLA, BOWEL) and one[1].wall_share < _MOSTLY_WALL]
    if not others:
        return [taken_for(candidate)]
    labels, sizes = components(candidate & ~np.logical_or.reduce([part for part, _, _ in others]))
    left = 1 + np.flatnonzero(sizes * float(np.prod(spacing)) / 1000.0 >= _MIN_ML)
    return others + [taken_for(labels == number) for number in left]


def measure(candidate: Mask, own: Mask, hu: NDArray[np.float32], *, levels: AirLevels, spacing: Spacing) -> Features:
    """Measure a candidate [D, H, W] of the hemithorax `own`."""
    box = bounding_box(candidate, margin=levels.reach + 3)
    assert box is not None
    part, lung_side, values = candidate[box], own[box], hu[box]
    # A sharp edge is passed in one step from the air's surface, a blurred one in several.
    within = grown(part, levels.reach - SHARP_REACH)
    near = grown(within)
    surface = near & ~within
    # The last step to the wall is partial volume, which belongs to the hemithorax but is not lung.
    on_wall = surface & grown(~lung_side)
    to_lung = surface & ~on_wall
    inner = depth_mm(part, spacing)
    middle = values[inner >= _MIDDLE * float(inner.max())]
    bright = ndimage.maximum_filter(values, 3)[to_lung]
    second = grown(near)
    behind = grown(second) & ~second & lung_side
    volume_mm3 = float(part.sum() * np.prod(spacing))
    area_mm2 = _area_mm2(part, spacing)
    return Features(
        volume_ml=volume_mm3 / 1000.0,
        wall_share=float(on_wall.sum() / max(1, surface.sum())),
        edge_hu=float(np.percentile(bright, 25)) - levels.air_hu if bright.size else 1000.0,
        step_hu=float(np.median(values[behind])) - levels.air_hu if behind.any() else 1000.0,
        above_air_hu=float(middle.mean()) - levels.air_hu,
        spread_hu=float(middle.std()),
        depth_mm=float(inner.max()),
        sphericity=float(min(1.0, np.pi ** (1 / 3) * (6 * volume_mm3) ** (2 / 3) / area_mm2)),
        top=_height(candidate, own)[0],
        bottom=_height(candidate, own)[1],
        lung_share=_lung_share(candidate, own, spacing),
    )


def _lung_share(candidate: Mask, own: Mask, spacing: Spacing) -> float | None:
    box = bounding_box(candidate, margin=math.ceil(REACH_MM / min(spacing)))
    assert box is not None
    return lung_share(candidate[box], own[box], spacing)


def judge(features: Features, levels: AirLevels, *, pitch_mm: float) -> Verdict:
    """Decide what a candidate is.

    Free pleural air lies on the chest wall and ends at the visceral pleura, a step against the lung; emphysema and
    bullae lie within the lung or have only a small foot on the wall; gut lies at the base behind the diaphragm.

    Args:
        features: of the candidate.
        levels: of its hemithorax.
        pitch_mm: longest side of a voxel of the input or of the working grid.
    """
    wall = f"{features.wall_share:.0%} of its surface lies on the wall of the chest"
    if features.volume_ml < _MIN_ML:
        return Verdict(UNCERTAIN, 0.9, f"{features.volume_ml:.1f} mL: too small to tell")
    if features.wall_share > _ENCLOSED_SHARE and features.edge_hu > _TISSUE_STEP_HU:
        if features.top > 0.5:
            return Verdict(BOWEL, 0.7, f"at the base, and tissue parts it from the lung ({wall})")
        if features.volume_ml < _SMALL_ML:
            return Verdict(OESOPHAGUS, 0.6, f"small and enclosed by tissue ({wall}): oesophagus, airway or cavity")
        return Verdict(PNEUMOTHORAX, 0.7, f"large, reaches the upper chest; hardly any aerated lung beside it ({wall})")
    if features.wall_share < _MIN_WALL_SHARE:
        return Verdict(BULLA, 0.8, f"inside the lung: only {wall}")
    deep = levels.smooth and features.depth_mm >= _SMOOTH_DEEP_MM
    # A film of one or two voxels is all partial volume; instead of pure air its pleural line has to be plain to see.
    thin = (
        not levels.smooth
        and features.depth_mm < max(_THIN_MM, _THIN_VOXELS * pitch_mm)
        and features.edge_hu > levels.step_hu + _LINE_HU
    )
    if levels.smooth and levels.lung_hu - levels.air_hu < _MIN_CONTRAST_HU:
        return Verdict(UNCERTAIN, 0.5, "the image is smooth and the lung too thin to be told from free air by its HU")
    impure_hu = _SMOOTH_PURE_SHARE * (levels.lung_hu - levels.air_hu) if deep else levels.impure_hu
    if features.above_air_hu > impure_hu + (_THIN_HU if thin else 0.0):
        return Verdict(BULLA, 0.7, f"its middle lies {features.above_air_hu:.0f} HU above free air: rarefied lung")
    if deep and features.spread_hu > _SMOOTH_SPREAD_HU:
        return Verdict(
            UNCERTAIN,
            0.5,
            f"HU vary by {features.spread_hu:.0f} in its middle, which those of air in a smooth image do not",
        )
    # Without a pleural line only a broad pocket of pure air counts; in a narrow one the line has to be plain to see.
    broad = features.depth_mm >= _BROAD_MM and features.volume_ml >= _SMALL_ML
    line_hu = levels.step_hu + (0.0 if broad or levels.smooth else _LINE_HU)
    lineless = features.edge_hu < line_hu
    if lineless and not (broad and levels.is_edge(features.edge_hu, features.above_air_hu)):
        return Verdict(BULLA, 0.7, f"no edge: HU rises by no more than {features.edge_hu:.0f} towards the lung")
    if features.edge_hu > _SHEET_HU:
        sheet = f"behind a sheet of tissue ({features.edge_hu:.0f} HU above air)"
        if features.sphericity > _BALL and features.bottom > 0.5:
            return Verdict(BOWEL, 0.7, f"a ball {sheet}, low: {wall}")
        if features.step_hu < _AIRLESS_STEP_HU and features.top > 0.5:
            return Verdict(BOWEL, 0.7, f"at the base, {sheet} with aerated lung beyond it; {wall}")
    foot = _BALL_WALL_SHARE if features.sphericity > _BALL else _ROUND_WALL_SHARE
    if features.sphericity > _ROUND and features.wall_share < foot:
        return Verdict(
            BULLA, 0.6, f"round (sphericity {features.sphericity:.2f}), which air around a lung is not; {wall}"
        )
    if features.wall_share < _HALF_BALL_WALL_SHARE and features.depth_mm > _THICK_MM:
        return Verdict(BULLA, 0.5, f"bulges into the lung: its foot is smaller than a half ball's ({wall})")
    if levels.smooth and features.wall_share < _SMOOTH_WALL_SHARE:
        return Verdict(BULLA, 0.5, f"{wall}, in a smooth image, where air round a lung has more of it there")
    doubts = []
    if features.lung_share is not None and features.lung_share > _INTO_LUNG and features.wall_share < _MOSTLY_WALL:
        doubts.append(
            f"it bulges into the lung ({features.lung_share:.0%} lung round its border, a plane has 50 %), which "
            "bullae do"
        )
    if lineless:
        doubts.append(
            f"no pleural line is seen (HU rise by {features.edge_hu:.0f} towards the lung, a pleura by {line_hu:.0f}), "
            "and a large bulla on the wall looks the same"
        )
    # Between slices far apart the line is lost, so that its absence is no second sign.
    if len(doubts) == 2 and not any(levels.spread):
        return Verdict(BULLA, 0.5, f"{'; and '.join(doubts)}; {wall}")
    edge = "with a blurred edge (smooth image)" if levels.smooth else "with a sharp edge"
    confidence = _confidence(features) * (0.7 if levels.smooth else 1.0)
    if doubts:
        confidence = min(confidence, _DOUBTFUL_CONFIDENCE)
    reason = "; but ".join([f"free air {edge}; {wall}", *doubts])
    return Verdict(PNEUMOTHORAX, round(confidence, 2), reason)


def _confidence(features: Features) -> float:
    """0.3 to 0.95: higher the larger it is and the more of it lies on the wall."""
    size = min(1.0, features.volume_ml / 60.0)
    contact = min(1.0, max(0.0, (features.wall_share - 0.15) / 0.25))
    return 0.3 + 0.65 * size * contact


def _height(candidate: Mask, own: Mask) -> tuple[float, float]:
    """First and last row of the candidate, as shares of the hemithorax's height."""
    rows = np.flatnonzero(own.any(axis=(1, 2)))
    part = np.flatnonzero(candidate.any(axis=(1, 2)))
    height = max(1, int(rows[-1] - rows[0]))
    return float((part[0] - rows[0]) / height), float((part[-1] - rows[0]) / height)


def as_json(features: Features) -> dict[str, float | None]:
    """Rounded for findings.json."""
    return {name: None if value is None else round(value, 2) for name, value in asdict(features).items()}


def _area_mm2(mask: Mask, spacing: Spacing) -> float:
    """Surface: faces between the mask and its outside, times 2/3 (staircase excess of a randomly oriented plane)."""
    padded = np.pad(mask, 1)
    total = 0.0
    for axis in range(3):
        face = float(np.prod(spacing)) / spacing[axis]
        total += float(np.count_nonzero(np.diff(padded, axis=axis))) * face
    return total * 2.0 / 3.0
