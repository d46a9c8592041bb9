"""What a candidate is: pneumothorax, or one of the things that resemble it.

Free pleural air lies on the chest wall and ends at the visceral pleura, a step against the lung; emphysema and bullae
lie within the lung or have only a small foot on the wall; gut lies at the base behind the diaphragm. `RULES` says so in
order: the first rule that applies to a candidate decides. A new rule is one more entry.

Where the numbers come from: docs/results/ptx-seg-constants.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xrecon.ptxseg.candidates.features import Features
from xrecon.ptxseg.candidates.steepness import SHARP_SLOPE_SHARE
from xrecon.ptxseg.levels import AirLevels

PNEUMOTHORAX = "pneumothorax"
BULLA = "bulla/emphysema"
BOWEL = "stomach/bowel"
OESOPHAGUS = "oesophagus"
UNCERTAIN = "uncertain"

MIN_ML = 2.0
"""What is smaller is too small to tell."""
_SMALL_ML = 15.0
"""Pockets below this are films: they have to show the pleural line, however broad they are."""
_MIN_CONTRAST_HU = 130.0
"""In smooth images lung has to lie this far above free air to be told from it."""
_ENCLOSED_SHARE = 0.65
"""What has more of its surface on the wall, and tissue round the rest, is enclosed."""
_TISSUE_STEP_HU = 600.0
"""Rise at the border of what is enclosed by tissue."""
_MIN_WALL_SHARE = 0.1
"""What has less of its surface on the wall lies inside the lung."""
_BALL = 0.7
"""Sphericity above which a candidate is a ball."""
_ROUND = 0.6
"""Sphericity above which a candidate is round, which air around a lung is not."""
_SHEET_HU = 700.0
"""Rise at a border of tissue. The pleura's 1 mm rises so high only where the lung behind it is airless; the diaphragm
and the wall of the gut do everywhere."""
_DOME_SHEET_HU = 530.0
"""Rise at a border of diaphragm and gut wall, 2 to 3 mm together, towards aerated lung: gas below a raised diaphragm
has 548 and more in train cases, loculated pockets in the lower half up to 500."""
_DOME_TOP = 0.45
"""Height in the hemithorax below which gas lies that a raised diaphragm covers."""
_DOME_SPHERICITY, _DOME_DEPTH_MM = 0.45, 14.0
"""Gas in a gut is broad and deep (0.48 and 15 mm or more); air round a lung is a crescent."""
_AIRLESS_STEP_HU = 500.0
"""Lung that rises less above free air holds half of its air or more."""
_ROUND_WALL_SHARE = 0.3
"""Share of the surface of what is round that lies on the wall, below which it is a bulla."""
_BALL_WALL_SHARE = 0.45
"""The same for a ball."""
_HALF_BALL_WALL_SHARE = 1.0 / 3.0
"""Air around a lung has the larger of its two faces on the wall, a bulla the smaller one. Between them stands half a
ball, a third of whose surface is its flat face."""
_INTO_LUNG_SHARE = 0.54
"""Share of lung round the border above which a candidate bulges into the lung; a plane has half."""
MOSTLY_WALL_SHARE = 0.5
"""What has less of its surface on the wall lies off it for the most part."""
_DOUBTFUL_CONFIDENCE = 0.3
"""Confidence in a pneumothorax that is counted with a doubt."""
_THICK_MM = 8.0
"""Depth from which a small foot on the wall is a sign: thick slices hide a part of the foot of thinner pockets."""
_BROAD_MM = 6.0
"""Depth from which a candidate is no film of air."""
_THIN_MM = 4.0
_THIN_VOXELS = 2.1
"""Depth (the larger of both) below which a candidate is a film, all of it partial volume."""
_THIN_HU = 60.0
"""By how much more than others a film may lie above free air."""
_LINE_HU = 40.0
"""By how much a pleural line that is plain to see rises over the level of any edge."""
_SMOOTH_DEEP_MM = 10.0
"""Smooth images: depth from which the middle of a pocket is free of its blurred edge, so that it shows pure air."""
_SMOOTH_PURE_SHARE = 0.2
"""Smooth images: how far on the way from free air to lung the middle of a deep pocket may lie."""
_SMOOTH_SPREAD_HU = 22.0
"""Smooth images: standard deviation of HU up to which the middle of a deep pocket is as even as air."""
_SMOOTH_WALL_SHARE = 0.57
"""Smooth images hide the pleura, but not where air lies: less of the surface on the wall is a bulla."""
_SHARP_EDGE_SHARE = 0.83
"""Rise at the border of drawn air, as a share of the way from free air to lung: 0.86 and more on reconstructions of
train cases, of what was not drawn 0.8 and less."""
_SHARP_WALL_SHARE = 0.4
"""Share of the surface of drawn air that lies on the wall: it goes round a lung."""
_SHARP_FILM_VOXELS = 3.3
"""Depth up to which drawn air may be all partial volume: its steep edge shows it."""
_VERY_SHARP = 1.5
"""Slope, in steepest usual slopes, from which no texture explains an edge, whatever has run together in the middle."""
_BELOW_AIR_HU = -22.0
"""Smooth images: what lies further below the level of air is darker than air can be."""
_FULL_ML = 60.0
"""Size up to which the confidence in free air rises."""
_LEAST_CONTACT_SHARE, _FULL_CONTACT_SHARE = 0.15, 0.4
"""Shares of the surface on the wall between which the confidence rises."""


@dataclass(frozen=True)
class Verdict:
    """What a candidate is taken for, how sure that is (0..1), and why."""

    kind: str
    confidence: float
    reason: str


@dataclass(frozen=True)
class ScanContext:
    """What a rule may ask about the scan beside the candidate.

    Attributes:
        levels: HU of free air and lung in the hemithorax.
        pitch_mm: longest side of a voxel of the input or of the working grid, mm.
    """

    levels: AirLevels
    pitch_mm: float


@dataclass(frozen=True)
class Rule:
    """One rule of the judgement.

    Attributes:
        name: for people who read or test the rules.
        applies: whether it decides about a candidate that no earlier rule decided about.
        kind: what the candidate is then taken for.
        confidence: how sure that is, 0..1.
        reason: why, as a sentence for findings.json.
    """

    name: str
    applies: Callable[[Features, ScanContext], bool]
    kind: str
    confidence: Callable[[Features, ScanContext], float]
    reason: Callable[[Features, ScanContext], str]


def judge(features: Features, levels: AirLevels, *, pitch_mm: float) -> Verdict:
    """Decide what a candidate is, by the first of `RULES` that applies.

    Args:
        features: of the candidate.
        levels: of its hemithorax.
        pitch_mm: longest side of a voxel of the input or of the working grid, mm.
    """
    scan = ScanContext(levels, pitch_mm)
    rule = deciding_rule(features, scan)
    return Verdict(rule.kind, rule.confidence(features, scan), rule.reason(features, scan))


def deciding_rule(features: Features, scan: ScanContext) -> Rule:
    """The first rule that applies; the last one always does."""
    return next(rule for rule in RULES if rule.applies(features, scan))


def _sure(confidence: float) -> Callable[[Features, ScanContext], float]:
    return lambda _features, _scan: confidence


def _on_wall(f: Features) -> str:
    return f"{f.wall_share:.0%} of its surface lies on the wall of the chest"


def _is_enclosed(f: Features) -> bool:
    return f.wall_share > _ENCLOSED_SHARE and f.edge_hu > _TISSUE_STEP_HU


def _is_deep_in_smooth(f: Features, scan: ScanContext) -> bool:
    return scan.levels.smooth and f.depth_mm >= _SMOOTH_DEEP_MM


def _is_impure(f: Features, scan: ScanContext) -> bool:
    """Whether the middle holds tissue. A film is all partial volume; it has to show its pleural line instead."""
    levels = scan.levels
    if _is_sharp(f, scan) and f.volume_ml >= _SMALL_ML:
        usual, slope = levels.usual_slope or 0.0, f.slope_hu_mm or 0.0
        if f.depth_mm < _SHARP_FILM_VOXELS * scan.pitch_mm or slope > _VERY_SHARP * usual:
            return f.above_air_hu > levels.lung_hu - levels.air_hu
    if _is_deep_in_smooth(f, scan):
        return f.above_air_hu > _SMOOTH_PURE_SHARE * (levels.lung_hu - levels.air_hu)
    film = (
        not levels.smooth
        and f.depth_mm < max(_THIN_MM, _THIN_VOXELS * scan.pitch_mm)
        and f.edge_hu > levels.step_hu + _LINE_HU
    )
    return f.above_air_hu > levels.impure_hu + (_THIN_HU if film else 0.0)


def _is_broad(f: Features) -> bool:
    return f.depth_mm >= _BROAD_MM and f.volume_ml >= _SMALL_ML


def _line_hu(f: Features, scan: ScanContext) -> float:
    """Rise of HU that counts as a pleural line; in a narrow candidate it has to be plain to see."""
    return scan.levels.step_hu + (0.0 if _is_broad(f) or scan.levels.smooth else _LINE_HU)


def _lacks_line(f: Features, scan: ScanContext) -> bool:
    return f.edge_hu < _line_hu(f, scan)


def _lacks_edge(f: Features, scan: ScanContext) -> bool:
    """Whether nothing bounds it: without a pleural line only a broad pocket of pure air counts."""
    if _is_sharp(f, scan) and f.volume_ml >= _SMALL_ML:
        return False
    return _lacks_line(f, scan) and not (_is_broad(f) and scan.levels.is_edge(f.edge_hu, f.above_air_hu))


def _is_sharp(f: Features, scan: ScanContext) -> bool:
    """Whether a candidate in a smooth image has the edges of drawn air, steeper than any of the image's own."""
    slope, usual = f.slope_hu_mm, scan.levels.usual_slope
    steep = slope is not None and usual is not None and slope >= SHARP_SLOPE_SHARE * usual
    return steep and f.edge_hu >= _SHARP_EDGE_SHARE * (scan.levels.lung_hu - scan.levels.air_hu)


def _is_blurred(f: Features, scan: ScanContext) -> bool:
    """Whether a candidate for air with sharp edges in a smooth image has none."""
    if scan.levels.usual_slope is None:
        return False
    return not _is_sharp(f, scan) or f.wall_share < _SHARP_WALL_SHARE


def _is_behind_sheet(f: Features) -> bool:
    return f.edge_hu > _SHEET_HU


def _is_below_raised_diaphragm(f: Features, scan: ScanContext) -> bool:
    sharp = not scan.levels.smooth and scan.levels.usual_slope is None
    covered = f.edge_hu > _DOME_SHEET_HU and f.step_hu < _AIRLESS_STEP_HU and f.top > _DOME_TOP
    return sharp and covered and f.sphericity > _DOME_SPHERICITY and f.depth_mm > _DOME_DEPTH_MM


def _sheet(f: Features) -> str:
    return f"behind a sheet of tissue ({f.edge_hu:.0f} HU above air)"


def _is_round_with_small_foot(f: Features, _scan: ScanContext) -> bool:
    foot = _BALL_WALL_SHARE if f.sphericity > _BALL else _ROUND_WALL_SHARE
    return f.sphericity > _ROUND and f.wall_share < foot


def _doubts(f: Features, scan: ScanContext) -> list[str]:
    """What speaks for a bulla, though neither of the two alone is enough."""
    doubts = []
    if f.lung_share is not None and f.lung_share > _INTO_LUNG_SHARE and f.wall_share < MOSTLY_WALL_SHARE:
        doubts.append(
            f"it bulges into the lung ({f.lung_share:.0%} lung round its border, a plane has 50 %), which bullae do"
        )
    if _lacks_line(f, scan):
        doubts.append(
            f"no pleural line is seen (HU rise by {f.edge_hu:.0f} towards the lung, a pleura by "
            f"{_line_hu(f, scan):.0f}), and a large bulla on the wall looks the same"
        )
    return doubts


def _is_doubted_twice(f: Features, scan: ScanContext) -> bool:
    # Between slices far apart the line is lost, so that its absence is no second sign.
    return len(_doubts(f, scan)) == 2 and not any(scan.levels.spread)


def _confidence_in_free_air(f: Features, scan: ScanContext) -> float:
    """0.3 to 0.95: higher the larger it is and the more of it lies on the wall; less with a doubt or a blurred edge."""
    size = min(1.0, f.volume_ml / _FULL_ML)
    contact = min(1.0, max(0.0, (f.wall_share - _LEAST_CONTACT_SHARE) / (_FULL_CONTACT_SHARE - _LEAST_CONTACT_SHARE)))
    confidence = (0.3 + 0.65 * size * contact) * (0.7 if scan.levels.smooth else 1.0)
    return round(min(confidence, _DOUBTFUL_CONFIDENCE) if _doubts(f, scan) else confidence, 2)


def _free_air(f: Features, scan: ScanContext) -> str:
    edge = "with a blurred edge (smooth image)" if scan.levels.smooth else "with a sharp edge"
    return "; but ".join([f"free air {edge}; {_on_wall(f)}", *_doubts(f, scan)])


RULES = (
    Rule(
        "too small",
        lambda f, _: f.volume_ml < MIN_ML,
        UNCERTAIN,
        _sure(0.9),
        lambda f, _: f"{f.volume_ml:.1f} mL: too small to tell",
    ),
    Rule(
        "enclosed at the base",
        lambda f, _: _is_enclosed(f) and f.top > 0.5,
        BOWEL,
        _sure(0.7),
        lambda f, _: f"at the base, and tissue parts it from the lung ({_on_wall(f)})",
    ),
    Rule(
        "enclosed and small",
        lambda f, _: _is_enclosed(f) and f.volume_ml < _SMALL_ML,
        OESOPHAGUS,
        _sure(0.6),
        lambda f, _: f"small and enclosed by tissue ({_on_wall(f)}): oesophagus, airway or cavity",
    ),
    Rule(
        "enclosed and large",
        lambda f, _: _is_enclosed(f),
        PNEUMOTHORAX,
        _sure(0.7),
        lambda f, _: f"large, reaches the upper chest; hardly any aerated lung beside it ({_on_wall(f)})",
    ),
    Rule(
        "inside the lung",
        lambda f, _: f.wall_share < _MIN_WALL_SHARE,
        BULLA,
        _sure(0.8),
        lambda f, _: f"inside the lung: only {_on_wall(f)}",
    ),
    Rule(
        "lung as dark as air in a smooth image",
        lambda _, scan: scan.levels.smooth and scan.levels.lung_hu - scan.levels.air_hu < _MIN_CONTRAST_HU,
        UNCERTAIN,
        _sure(0.5),
        lambda _f, _scan: "the image is smooth and the lung too thin to be told from free air by its HU",
    ),
    Rule(
        "blurred in a smooth image with sharp air",
        _is_blurred,
        UNCERTAIN,
        _sure(0.6),
        lambda f, _: (
            f"its edge is as blurred as the image (HU change by {f.slope_hu_mm or 0.0:.0f} per mm); {_on_wall(f)}"
        ),
    ),
    Rule(
        "darker than air in a smooth image",
        lambda f, scan: scan.levels.smooth and f.above_air_hu < _BELOW_AIR_HU,
        UNCERTAIN,
        _sure(0.6),
        lambda f, _: f"its middle lies {-f.above_air_hu:.0f} HU below free air: an artefact of the reconstruction",
    ),
    Rule(
        "rarefied lung",
        _is_impure,
        BULLA,
        _sure(0.7),
        lambda f, _: f"its middle lies {f.above_air_hu:.0f} HU above free air: rarefied lung",
    ),
    Rule(
        "uneven in a smooth image",
        lambda f, scan: _is_deep_in_smooth(f, scan) and f.spread_hu > _SMOOTH_SPREAD_HU,
        UNCERTAIN,
        _sure(0.5),
        lambda f, _: f"HU vary by {f.spread_hu:.0f} in its middle, which those of air in a smooth image do not",
    ),
    Rule(
        "without an edge",
        _lacks_edge,
        BULLA,
        _sure(0.7),
        lambda f, _: f"no edge: HU rises by no more than {f.edge_hu:.0f} towards the lung",
    ),
    Rule(
        "ball behind a sheet of tissue",
        lambda f, _: _is_behind_sheet(f) and f.sphericity > _BALL and f.bottom > 0.5,
        BOWEL,
        _sure(0.7),
        lambda f, _: f"a ball {_sheet(f)}, low: {_on_wall(f)}",
    ),
    Rule(
        "aerated lung beyond a sheet of tissue",
        lambda f, _: _is_behind_sheet(f) and f.step_hu < _AIRLESS_STEP_HU and f.top > 0.5,
        BOWEL,
        _sure(0.7),
        lambda f, _: f"at the base, {_sheet(f)} with aerated lung beyond it; {_on_wall(f)}",
    ),
    Rule(
        "below a raised diaphragm",
        _is_below_raised_diaphragm,
        BOWEL,
        _sure(0.6),
        lambda f, _: (
            f"broad and low ({f.depth_mm:.0f} mm deep), {_sheet(f)} with aerated lung above it, as below a raised "
            f"diaphragm; cannot be told from a loculated pneumothorax of {f.volume_ml:.0f} mL by its HU alone"
        ),
    ),
    Rule(
        "round",
        _is_round_with_small_foot,
        BULLA,
        _sure(0.6),
        lambda f, _: f"round (sphericity {f.sphericity:.2f}), which air around a lung is not; {_on_wall(f)}",
    ),
    Rule(
        "smaller foot than half a ball",
        lambda f, _: f.wall_share < _HALF_BALL_WALL_SHARE and f.depth_mm > _THICK_MM,
        BULLA,
        _sure(0.5),
        lambda f, _: f"bulges into the lung: its foot is smaller than a half ball's ({_on_wall(f)})",
    ),
    Rule(
        "off the wall in a smooth image",
        lambda f, scan: scan.levels.smooth and f.wall_share < _SMOOTH_WALL_SHARE,
        BULLA,
        _sure(0.5),
        lambda f, _: f"{_on_wall(f)}, in a smooth image, where air round a lung has more of it there",
    ),
    Rule(
        "doubted twice",
        _is_doubted_twice,
        BULLA,
        _sure(0.5),
        lambda f, scan: f"{'; and '.join(_doubts(f, scan))}; {_on_wall(f)}",
    ),
    Rule("free air", lambda _f, _scan: True, PNEUMOTHORAX, _confidence_in_free_air, _free_air),
)
"""From what is told by size and place to what takes HU and shape; the order matters."""
