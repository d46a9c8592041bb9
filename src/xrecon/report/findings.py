"""One self-contained HTML page of a segmentation: numbers, formulas, figures, limits. No script, no request."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from xrecon.quantify.findings import Component, Findings
from xrecon.quantify.measures import SideMeasures
from xrecon.quantify.mediastinum import MediastinalShift
from xrecon.report.parts.figures import percent
from xrecon.report.parts.findings_figures import measurement_figure, preview_figure
from xrecon.report.parts.page import data_uri, flatten, render_template
from xrecon.segmentation import Segmentation
from xrecon.volume import Volume

_DASH = "–"
_WORTH_SAYING_ML = 15.0
_TAKEN_FOR = {"uncertain": "of air that may be free or not", "bulla/emphysema": "of bulla or emphysema"}
_IN_OTHER_PLACES = {"notice", "environment", "command"}


def render_findings(
    ct: Volume,
    segmentation: Segmentation,
    findings: Findings,
    *,
    preview_png: bytes | None = None,
    title: str = "Free pleural air in a chest CT",
    created: datetime | None = None,
) -> str:
    """The page as HTML text.

    Args:
        ct: the CT that was segmented.
        segmentation: its labels.
        findings: built from the same segmentation.
        preview_png: the preview figure as a PNG file, where it was drawn already.
        title: heading of the page.
        created: time of the report; None is now.

    Raises:
        InputError: CT and segmentation are on different grids.
    """
    measures = measurement_figure(ct, segmentation, findings)
    environment = findings.provenance.get("environment") or {}
    rest = {key: value for key, value in findings.provenance.items() if key not in _IN_OTHER_PLACES}
    return render_template(
        "findings.html.j2",
        title=title,
        created=created,
        schema=findings.schema_version,
        headline=headline(findings),
        not_counted=not_counted(findings),
        warnings=findings.warnings,
        tiles=_tiles(findings),
        preview=data_uri(preview_figure(ct, segmentation) if preview_png is None else preview_png),
        measures=None if measures is None else data_uri(measures),
        rows=list(_rows(findings)),
        mediastinum=mediastinum_in_words(findings.mediastinum),
        limit=findings.detection_limit.statement,
        counted=list(map(_component_row, findings.confidence.counted)),
        confounders=list(map(_component_row, findings.confidence.confounders)),
        remarks=[(_side_word(remark.side), remark.text, remark.source) for remark in findings.remarks],
        formulas=list(findings.formulas.items()),
        notes=[*findings.notes, *_side_notes(findings)],
        facts=[*_grid_facts(findings), *flatten(rest), *flatten(environment, "environment.")],
    )


def headline(findings: Findings) -> str:
    """What was found, in one sentence."""
    if not findings.air_found:
        return "No free pleural air was found."
    sides = []
    for name, measured, air in (
        ("right", findings.right, findings.volumes_ml.right_air),
        ("left", findings.left, findings.volumes_ml.left_air),
    ):
        if measured is not None:
            share = getattr(findings.occupancy, name)
            sides.append(
                f"{air:.0f} mL on the {name} side ({_percent(share)} of that hemithorax; {measured.location.words})"
            )
    return f"Free pleural air was found: {' and '.join(sides)}."


def not_counted(findings: Findings) -> str:
    """Larger regions of air that were taken for something else, in one sentence; empty if there are none."""
    parts = [
        f"{volume:.0f} mL {_TAKEN_FOR.get(kind, f'of {kind}')} on the {side} side"
        for (kind, side), volume in findings.confidence.confounder_volumes_ml().items()
        if volume >= _WORTH_SAYING_ML
    ]
    return f"Not counted: {'; '.join(parts)}." if parts else ""


def mediastinum_in_words(shift: MediastinalShift | None) -> str:
    """Position of the mediastinum in a sentence."""
    if shift is None:
        return "Mediastinal shift: not measured, because both sides are needed for it."
    usual = f"usual {shift.usual_offset_mm:.1f} ± {shift.usual_spread_mm:.1f} mm"
    place = (
        f"the mediastinum's centroid lies {abs(shift.offset_mm):.1f} mm {'left' if shift.offset_mm > 0 else 'right'}"
    )
    words = f"Mediastinal shift: {place} of the chest wall's midline ({usual} left): "
    if shift.direction == "none":
        further = "left" if shift.shift_mm > 0 else "right"
        return f"{words}{abs(shift.shift_mm):.1f} mm further {further} than usual, within the usual spread."
    away = {None: "", True: ", away from the side with more free air", False: ", towards the side with more free air"}
    return (
        f"{words}a shift of {abs(shift.shift_mm):.1f} mm to the patient's {shift.direction}{away[shift.away_from_air]}."
    )


def _percent(share: float | None) -> str:
    return "n/a" if share is None else percent(share)


def _side_word(side: str | None) -> str:
    return "" if side is None else f"{side.capitalize()} side. "


def _tiles(findings: Findings) -> list[tuple[str, str]]:
    volumes, shares = findings.volumes_ml, findings.occupancy
    tiles = [
        (_percent(shares.whole_chest), "occupancy, whole chest"),
        (_percent(shares.right), "occupancy, right hemithorax"),
        (_percent(shares.left), "occupancy, left hemithorax"),
        (f"{volumes.air:.0f} mL", "free pleural air"),
    ]
    if findings.largest_depth_mm is not None:
        tiles.append((f"{findings.largest_depth_mm:.0f} mm", "largest radial depth"))
    tiles.append(("yes" if findings.bilateral else "no", "bilateral"))
    return tiles


def _rows(findings: Findings) -> Iterator[tuple[str, str, str, str]]:
    """(measure, right, left, JSON key) of the main table."""
    shares, volumes = findings.occupancy, findings.volumes_ml
    yield "Free air", f"{volumes.right_air:.1f} mL", f"{volumes.left_air:.1f} mL", "volumes_ml.*_air"
    yield "Lung", f"{volumes.right_lung:.0f} mL", f"{volumes.left_lung:.0f} mL", "volumes_ml.*_lung"
    yield "Occupancy", _percent(shares.right), _percent(shares.left), "occupancy.*"
    sides = (findings.right, findings.left)
    if not findings.air_found:
        return
    for name, key in (
        ("Largest radial depth", "radial_depth.depth_mm"),
        ("Radial depth near the hilum level", "radial_depth_at_hilum.depth_mm"),
        ("Apex to cupola", "apex_to_cupola_mm"),
        ("Rim at the hilum level", "rim_at_hilum_mm"),
        ("Collins A, B, C", "collins"),
        ("Collins index", "collins.percent"),
        ("Light index", "light.percent"),
        ("Location", "location.words"),
        ("Anterior / posterior", "location.anterior, .posterior"),
        ("Lateral / medial", "location.lateral, .medial"),
        ("Apical / mid / basal", "location.apical, .mid, .basal"),
    ):
        right, left = (_DASH if side is None else _cell(side, key) for side in sides)
        yield name, right, left, f"*.{key}"
    confidence = findings.confidence
    if confidence.right is not None or confidence.left is not None:
        words = [_DASH if value is None else f"{value:.2f}" for value in (confidence.right, confidence.left)]
        yield "Segmenter's confidence, 0 to 1", words[0], words[1], "confidence.*"


def _cell(side: SideMeasures, key: str) -> str:
    place = side.location
    if key == "location.words":
        return place.words
    if key.startswith("location."):
        names = [name.strip().rpartition(".")[2] for name in key.split(",")]
        return " / ".join(percent(getattr(place, name)) for name in names)
    if key == "collins":
        c = side.collins
        return _DASH if c is None else f"{c.a_cm:.1f}, {c.b_cm:.1f}, {c.c_cm:.1f} cm"
    value: Any = side
    for part in key.split("."):
        value = None if value is None else getattr(value, part)
    if value is None:
        return _DASH
    return f"{value:.0f} %" if key.endswith("percent") else f"{value:.1f} mm"


def _component_row(part: Component) -> tuple[str, str, str, str, str]:
    volume = _DASH if part.volume_ml is None else f"{part.volume_ml:.1f} mL"
    confidence = _DASH if part.confidence is None else f"{part.confidence:.2f}"
    return part.kind, part.side or _DASH, volume, confidence, part.reason or _DASH


def _side_notes(findings: Findings) -> list[str]:
    return [f"{side.side} side: {note}" for side in (findings.right, findings.left) if side for note in side.notes]


def _grid_facts(findings: Findings) -> list[tuple[str, str]]:
    spacing = " × ".join(f"{s:.3f}" for s in findings.grid.spacing_mm)
    return [("grid", f"{' × '.join(map(str, findings.grid.shape))} voxels of {spacing} mm (stored axes)")]
