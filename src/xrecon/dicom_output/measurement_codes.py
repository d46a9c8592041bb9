"""Codes and units of the measurements in the structured report. Every code of our own is in this table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xrecon.quantify.depth import Depth
from xrecon.quantify.measures import SideMeasures

Code = tuple[str, str, str]
"""Value, scheme, meaning."""
SCHEME = "99XRECON"
SCHEME_NAME = "Measures of xrecon, listed in its conformance statement"

PERCENT: Code = ("%", "UCUM", "%")
MILLILITRE: Code = ("mL", "UCUM", "mL")
MILLIMETRE: Code = ("mm", "UCUM", "mm")

VOLUME: Code = ("118565006", "SCT", "Volume")
OCCUPANCY: Code = ("occupancy", SCHEME, "Free pleural air over air and lung")
MEDIASTINAL_SHIFT: Code = ("mediast-shift", SCHEME, "Mediastinal shift, positive to the patient's left")
CHEST: Code = ("816094009", "SCT", "Chest")
MEDIASTINUM: Code = ("72410000", "SCT", "Mediastinum")
PRESENT: Code = ("52101004", "SCT", "Present")
UNDETERMINED: Code = ("373068000", "SCT", "Undetermined")
ABSENT: Code = ("272519000", "SCT", "Absent")
COMMENT: Code = ("121106", "DCM", "Comment")
CT_PROCEDURE: Code = ("25045-6", "LN", "CT unspecified body region")
PATH: Code = ("121055", "DCM", "Path")


@dataclass(frozen=True)
class SideMeasureCode:
    """One measure of one side.

    Attributes:
        code: what is measured.
        unit: UCUM.
        value: reads it; None where it could not be measured.
        line: reads the two ends of the measured line, LPS mm, where there is one.
    """

    code: Code
    unit: Code
    value: Callable[[SideMeasures], float | None]
    line: Callable[[SideMeasures], Depth | None] = lambda _side: None


def _length(depth: Depth | None) -> float | None:
    return None if depth is None else depth.depth_mm


def _private(value: str, meaning: str) -> Code:
    return value, SCHEME, meaning


SIDE_MEASURES = (
    SideMeasureCode(
        _private("depth-radial", "Largest depth of free air, square to the chest wall"),
        MILLIMETRE,
        lambda side: _length(side.radial_depth),
        lambda side: side.radial_depth,
    ),
    SideMeasureCode(
        _private("depth-hilum", "Largest depth of free air within 10 mm of the hilum level"),
        MILLIMETRE,
        lambda side: _length(side.radial_depth_at_hilum),
        lambda side: side.radial_depth_at_hilum,
    ),
    SideMeasureCode(
        _private("apex-cupola", "Height of the cupola over the apex of the lung"),
        MILLIMETRE,
        lambda side: side.apex_to_cupola_mm,
    ),
    SideMeasureCode(
        _private("rim-hilum", "Lateral rim of air at the hilum level, frontal projection"),
        MILLIMETRE,
        lambda side: side.rim_at_hilum_mm,
    ),
    SideMeasureCode(
        _private("collins", "Collins index"),
        PERCENT,
        lambda side: None if side.collins is None else side.collins.percent,
    ),
    SideMeasureCode(
        _private("light", "Light index"), PERCENT, lambda side: None if side.light is None else side.light.percent
    ),
)
"""Every measure of one side, in the order in which the report lists them."""
