"""The report of `xrecon study robustness`: metric against disturbance, per model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xrecon.evaluation.disturbances import MEANINGS
from xrecon.evaluation.robustness_study import METRICS
from xrecon.evaluation.tables import format_value, label
from xrecon.report.parts.evaluation_page import PageSection, render_evaluation
from xrecon.report.parts.evaluation_plots import CurvePoint, curve_figure
from xrecon.report.parts.page import PageTable

_NEUTRAL = {"gain": 1.0, "gamma": 1.0}
"""Level at which a disturbance does nothing; 0 for all others."""


def robustness_report(
    entries: Sequence[Mapping[str, Any]], *, failures: Sequence[str], notes: Sequence[str], record: Mapping[str, Any]
) -> str:
    """The page as HTML text; `entries` from `summarise_robustness`."""
    kinds = [kind for kind in MEANINGS if any(one["kind"] == kind for one in entries)]
    models = list(dict.fromkeys(one["model"] for one in entries))
    text = [*(f"Not measured, and in no figure: {one}." for one in failures), *notes] or ["Nothing failed."]
    sections = [PageSection("Denominators and limits", text, warn=True)]
    for kind in kinds:
        own = [one for one in entries if one["kind"] in (kind, "none")]
        figures = [
            (
                curve_figure(
                    {model: _points(own, model, kind, name) for model in models}, x=MEANINGS[kind], y=label(name)
                ),
                label(name),
            )
            for name in METRICS[::2]
            if len({one["level"] for one in own}) > 2
        ]
        sections.append(PageSection(f"{kind}: {MEANINGS[kind]}", tables=[_table(own)], figures=figures))
    return render_evaluation(
        "What disturbed films do",
        sections,
        lead="One disturbance at a time; the model is told the nominal geometry. Mean over the cases [95 % interval].",
        record=record,
    )


def _points(entries: Sequence[Mapping[str, Any]], model: str, kind: str, name: str) -> list[CurvePoint]:
    points = [
        CurvePoint(_NEUTRAL.get(kind, 0.0) if entry["kind"] == "none" else entry["level"], **entry[name])
        for entry in entries
        if entry["model"] == model and entry[name]["value"] is not None
    ]
    return sorted(points, key=lambda point: point.x)


def _table(entries: Sequence[Mapping[str, Any]]) -> PageTable:
    def cell(name: str, value: Mapping[str, float | None]) -> str:
        text = format_value(name, value["value"])
        if value["low"] is None:
            return text
        return f"{text} [{format_value(name, value['low'])}, {format_value(name, value['high'])}]"

    body = [
        [
            f"{one['model']}, {'undisturbed' if one['kind'] == 'none' else format(one['level'], 'g')}",
            str(one["n"]),
            *(cell(name, one[name]) for name in METRICS),
        ]
        for one in entries
    ]
    return PageTable(["Model, level", "Cases", *map(label, METRICS)], body)
