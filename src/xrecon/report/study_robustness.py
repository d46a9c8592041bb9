"""The report of `xrecon study robustness`: metric against disturbance, per model."""

from __future__ import annotations

from collections.abc import Sequence

from xrecon.evaluation.statistics.agreement import Estimate
from xrecon.evaluation.studies.disturbances import MEANINGS
from xrecon.evaluation.studies.robustness_study import RobustnessReport
from xrecon.evaluation.studies.robustness_summary import METRICS, UNDISTURBED, RobustnessFigures
from xrecon.evaluation.tables import format_value, label
from xrecon.report.parts.evaluation_page import PageSection, render_evaluation
from xrecon.report.parts.evaluation_plots import CurvePoint, curve_figure
from xrecon.report.parts.page import PageTable

_NEUTRAL = {"gain": 1.0, "gamma": 1.0}
"""Level at which a disturbance does nothing; 0 for all others."""
_CURVES = ("psnr_2500_db", "mae_body_hu")
"""Metrics that are drawn; the table states all."""


def robustness_report(report: RobustnessReport) -> str:
    """The page as HTML text."""
    figures = report.statistics
    text = [*(f"Not measured, and in no figure: {failure}." for failure in report.failures), *report.notes]
    sections = [PageSection("Denominators and limits", text or ["Nothing failed."], warn=True)]
    sections += [
        _kind_section(kind, [entry for entry in figures if entry.kind in (kind, UNDISTURBED)])
        for kind in MEANINGS
        if any(entry.kind == kind for entry in figures)
    ]
    return render_evaluation(
        "What disturbed films do",
        sections,
        lead="One disturbance at a time; the model is told the nominal geometry. Mean over the cases [95 % interval].",
        record=report.record.to_dict(),
    )


def _kind_section(kind: str, figures: Sequence[RobustnessFigures]) -> PageSection:
    """One disturbance beside the undisturbed films; curves where it has more than one level."""
    models = list(dict.fromkeys(entry.model for entry in figures))
    curves = []
    if len({entry.level for entry in figures}) > 2:
        for name in _CURVES:
            points = {model: _points(figures, model, kind, name) for model in models}
            curves.append((curve_figure(points, x=MEANINGS[kind], y=label(name)), label(name)))
    return PageSection(f"{kind}: {MEANINGS[kind]}", tables=[_table(figures)], figures=curves)


def _points(figures: Sequence[RobustnessFigures], model: str, kind: str, name: str) -> list[CurvePoint]:
    points = [
        CurvePoint.of(_NEUTRAL.get(kind, 0.0) if entry.kind == UNDISTURBED else entry.level, entry.means[name])
        for entry in figures
        if entry.model == model and entry.means[name].value is not None
    ]
    return sorted(points, key=lambda point: point.x)


def _table(figures: Sequence[RobustnessFigures]) -> PageTable:
    def cell(name: str, mean: Estimate) -> str:
        text = format_value(name, mean.value)
        return text if mean.low is None else f"{text} [{format_value(name, mean.low)}, {format_value(name, mean.high)}]"

    body = [
        [
            f"{entry.model}, {'undisturbed' if entry.kind == UNDISTURBED else format(entry.level, 'g')}",
            str(entry.n),
            *(cell(name, entry.means[name]) for name in METRICS),
        ]
        for entry in figures
    ]
    return PageTable(["Model, level", "Cases", *map(label, METRICS)], body)
