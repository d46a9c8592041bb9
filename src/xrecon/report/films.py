"""A picture of what the film networks see: each film, and over it free air in red and the outlines of the lungs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from xrecon.films.thickness_maps import SIDES
from xrecon.inference.film_assessment import FilmAssessment
from xrecon.inference.film_findings import FilmFindings
from xrecon.radiograph import Radiograph
from xrecon.report.parts.figures import FILM_FOOTER, FILM_LETTERS, VIEW_NAMES
from xrecon.report.parts.panels import Panel, Row, compose, percentile_window

_FULL_MM = 60.0
"""Length of free air along a ray that is drawn in full red."""
_LUNG_MM = 15.0
"""The outline of a lung is where a ray crosses this much of it."""
_OUTLINE = {"right": (0.2, 0.75, 1.0), "left": (0.55, 1.0, 0.35)}
_RED = np.array([1.0, 0.12, 0.1], dtype=np.float32)


def film_findings_figure(films: Mapping[str, Radiograph], findings: FilmFindings, assessment: FilmAssessment) -> Figure:
    """One row per film: the film, and the film with free air in red and the outlines of both lungs.

    Args:
        films: by view, as they were given to `film_findings`.
        findings: of these films.
        assessment: of these findings; its statement is the heading's remark.
    """
    rows = [
        Row(VIEW_NAMES[name], film_panels(films, findings, name, key=name), remark=_volumes(findings, number))
        for number, name in enumerate(findings.views)
    ]
    footer = f"{FILM_FOOTER} Right lung blue, left lung green; full red is {_FULL_MM:g} mm of air along the ray."
    return compose(rows, heading="Free pleural air on the films", remark=_verdict(assessment), footer=footer)


def film_panels(films: Mapping[str, Radiograph], findings: FilmFindings, view: str, *, key: str) -> list[Panel]:
    """The film of a view, and the film with free air in red and the outlines of both lungs.

    Args:
        films: by view.
        findings: of these films.
        view: "pa" or "lateral", one of `findings.views`.
        key: end of the names of the panels' axes.
    """
    number = findings.views.index(view)
    geometry = findings.geometry[number]
    grey = _grey(films[view].resampled(geometry).image)
    row_mm, col_mm = geometry.pixel_at_isocentre_mm
    extent = (grey.shape[0] * row_mm, grey.shape[1] * col_mm)
    overlay = _with_air(grey, findings.expected_air_mm[number].sum(axis=0))
    for side, lung in zip(SIDES, findings.lung_mm[number], strict=True):
        overlay[_outline(lung)] = _OUTLINE[side]
    return [
        Panel(picture, extent, f"{VIEW_NAMES[view]}, {title}", FILM_LETTERS[view], (0.0, 1.0), key=f"{place} {key}")
        for picture, title, place in ((grey, "film", "input"), (overlay, "free air in red, lungs outlined", "air"))
    ]


def _grey(image: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = percentile_window(image)
    return np.asarray(np.clip((image - low) / max(high - low, 1e-6), 0.0, 1.0), dtype=np.float32)


def _with_air(grey: NDArray[np.float32], air_mm: NDArray[np.float32]) -> NDArray[np.float32]:
    """[rows, cols, 3] the film with red laid over it, by the length of air."""
    share = np.clip(air_mm / _FULL_MM, 0.0, 1.0)[..., None] * 0.75
    return np.asarray(grey[..., None] * (1.0 - share) + _RED * share, dtype=np.float32)


def _outline(lung_mm: NDArray[np.float32]) -> NDArray[np.bool_]:
    inside = lung_mm > _LUNG_MM
    edge = np.zeros_like(inside)
    for axis in (0, 1):
        step = np.diff(inside, axis=axis)
        edge |= np.pad(step, [(0, 1) if k == axis else (0, 0) for k in (0, 1)])
    return edge


def _volumes(findings: FilmFindings, number: int) -> str:
    area = float(np.prod(findings.geometry[number].pixel_at_isocentre_mm)) / 1000.0
    air = findings.expected_air_mm[number].sum(axis=(1, 2)) * area
    return ", ".join(f"{side} {volume:.0f} mL of free air" for side, volume in zip(SIDES, air, strict=True))


def _verdict(assessment: FilmAssessment) -> str:
    """A few words for the corner of the figure."""
    whole = assessment.whole_chest
    if whole is None:
        return "networks without calibration: no verdict"
    present = " and ".join(assessment.present_sides)
    finding = f"free air: {present}" if present else "no free air reaches the threshold"
    return f"{finding}; {whole.percent:.1f} % of the chest ({whole.low:.1f} to {whole.high:.1f} %)"
