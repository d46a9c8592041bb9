"""One self-contained HTML page of an evaluation or a study: sections of text, tables and figures. No script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import resources
from typing import Any

from matplotlib.figure import Figure

from xrecon import __version__
from xrecon.evaluation.metrics.catalogue import CATALOGUE
from xrecon.evaluation.prepared import DatasetResults
from xrecon.evaluation.tables import format_value, label
from xrecon.report.parts.page import data_uri, flatten
from xrecon.volume import RESEARCH_NOTICE

_FEWEST = 20
"""Patients below which the page warns: intervals over so few are wide, and tests nearly blind."""


@dataclass(frozen=True)
class PageTable:
    """A table as text; the first column is the heading of its row."""

    head: Sequence[str]
    body: Sequence[Sequence[str]]


@dataclass(frozen=True)
class PageSection:
    """One card of the page.

    Attributes:
        title: heading.
        text: paragraphs.
        tables: shown after the text.
        figures: (figure, caption), shown last.
        warn: drawn as a warning.
    """

    title: str
    text: Sequence[str] = ()
    tables: Sequence[PageTable] = ()
    figures: Sequence[tuple[Figure, str]] = ()
    warn: bool = field(default=False, kw_only=True)


def render_evaluation(
    title: str,
    sections: Sequence[PageSection],
    *,
    lead: str,
    record: Mapping[str, Any],
    created: datetime | None = None,
) -> str:
    """The page as HTML text, everything inside.

    Args:
        title: heading.
        sections: in this order.
        lead: one paragraph below the heading.
        record: command, environment, seed, inputs and settings, as in the JSON beside it.
        created: time of the report; None is now.
    """
    from jinja2 import Environment, StrictUndefined

    engine = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = (resources.files("xrecon.report") / "templates" / "evaluation.html.j2").read_text(encoding="utf-8")
    return engine.from_string(page).render(
        title=title,
        lead=lead,
        notice=RESEARCH_NOTICE,
        created=(created or datetime.now(timezone.utc)).strftime("%Y-%m-%d %H:%M UTC"),
        xrecon_version=__version__,
        sections=[
            {
                "title": one.title,
                "text": one.text,
                "tables": one.tables,
                "figures": [{"uri": data_uri(figure), "caption": caption} for figure, caption in one.figures],
                "warn": one.warn,
            }
            for one in sections
        ],
        facts=list(flatten(dict(record))),
    )


def interval(value: Mapping[str, Any] | None, name: str = "") -> str:
    """A summary's entry for people: mean ± SD [interval], with its own n where cases are missing."""
    if value is None or value["mean"] is None:
        return "–" if value is None else f"– (0 of {value['of']})"
    text = format_value(name, value["mean"])
    text += f" ± {format_value(name, value['sd'])}" if value["sd"] is not None else ""
    if value["ci95"] is not None:
        text += " [" + ", ".join(format_value(name, end) for end in value["ci95"]) + "]"
    return text if value["n"] == value["of"] else f"{text} (n = {value['n']} of {value['of']})"


def estimate_words(value: Mapping[str, Any] | None, *, decimals: int = 2) -> str:
    """An `Estimate` as plain values for people: figure [low, high]."""
    if value is None or value["value"] is None:
        return "–"
    text = f"{value['value']:.{decimals}f}"
    return text if value["low"] is None else f"{text} [{value['low']:.{decimals}f}, {value['high']:.{decimals}f}]"


def metric_table(summary: Mapping[str, Mapping[str, Mapping[str, Any]]], names: Sequence[str]) -> PageTable:
    """One row per metric, one column per model."""
    body = [[label(name), *(interval(values.get(name), name) for values in summary.values())] for name in names]
    return PageTable(["Metric", *summary], body)


def tests_table(tests: Sequence[Mapping[str, Any]]) -> PageTable:
    """Paired comparisons with the baseline."""

    def p(value: float | None) -> str:
        return "–" if value is None else f"{value:.3g}"

    body = [
        [
            f"{one['model']} against {one['baseline']}",
            label(one["metric"]),
            format_value(one["metric"], one["mean_difference"]),
            f"{one['better_in']} of {one['n']}",
            p(one["p"]),
            p(one["p_holm"]),
        ]
        for one in tests
    ]
    return PageTable(["Models", "Metric", "Mean difference", "Better in", "p (Wilcoxon)", "p (Holm)"], body)


def agreement_table(agreements: Mapping[str, Mapping[str, Any]], *, decimals: int = 2) -> PageTable:
    """One row per model: how the quantity on the reconstruction agrees with that on the true CT."""
    head = [
        "Model", "n", "Pearson r", "Spearman", "ICC(2,1)", "ICC(3,1)", "Concordance", "Bias", "Limits of agreement",
        "Slope of the difference", "MAE",
    ]  # fmt: skip
    body = []
    for model, found in agreements.items():
        if "pearson" not in found:
            body.append([model, str(found["n"]), *["–"] * (len(head) - 2)])
            continue
        altman = found["bland_altman"]
        body.append(
            [
                model,
                str(found["n"]),
                *(estimate_words(found[key]) for key in ("pearson", "spearman", "icc_2_1", "icc_3_1", "concordance")),
                estimate_words(altman["bias"], decimals=decimals),
                " to ".join(f"{altman[end]['value']:.{decimals}f}" for end in ("lower", "upper")),
                estimate_words(altman["slope"]),
                f"{found['mean_absolute_error']:.{decimals}f}",
            ]
        )
    return PageTable(head, body)


def conventions_section(names: Sequence[str]) -> PageSection:
    """What every metric of the page is."""
    return PageSection(
        "What the numbers are",
        ["A number without its convention means nothing in this field; compare only equal names."],
        [
            PageTable(
                ["Metric", "Convention"],
                [[CATALOGUE[name].heading, CATALOGUE[name].convention] for name in names if name in CATALOGUE],
            )
        ],
    )


def limits_section(results: DatasetResults, *, cases: int, patients: int, notes: Sequence[str] = ()) -> PageSection:
    """What is missing, and how far so few patients carry."""
    text = [f"{cases} cases of {patients} patients."]
    if patients < _FEWEST:
        text.append(
            f"{patients} patients are few: read the single cases. A paired Wilcoxon test over n patients gives no p "
            f"below 2 / 2^n = {2 / 2**patients:.2g}."
        )
    text += [f"Not measured, and in no mean: {failure}." for failure in results.failures] or ["No case failed."]
    return PageSection("Denominators and limits", [*text, *notes], warn=True)
