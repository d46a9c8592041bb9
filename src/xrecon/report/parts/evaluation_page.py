"""One self-contained HTML page of an evaluation or a study: sections of text, tables and figures. No script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from matplotlib.figure import Figure

from xrecon.evaluation.metrics.catalogue import CATALOGUE
from xrecon.evaluation.results import EvaluationResults
from xrecon.evaluation.statistics.agreement import Agreement, Estimate, TooFewPairs
from xrecon.evaluation.statistics.comparison import smallest_p
from xrecon.evaluation.summary import MetricSummary, PairedTest
from xrecon.evaluation.tables import format_value, label
from xrecon.report.parts.page import PageTable, data_uri, flatten, render_template

_DASH = "–"
_FEWEST = 20
"""Patients below which the page warns: intervals over so few are wide, and tests nearly blind."""


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
    return render_template(
        "evaluation.html.j2",
        title=title,
        created=created,
        lead=lead,
        sections=[
            {
                "title": section.title,
                "text": section.text,
                "tables": section.tables,
                "figures": [{"uri": data_uri(figure), "caption": caption} for figure, caption in section.figures],
                "warn": section.warn,
            }
            for section in sections
        ],
        facts=list(flatten(dict(record))),
    )


def interval(summary: MetricSummary | None, name: str = "") -> str:
    """A metric of a model for people: mean ± SD [interval], with its own n where cases are missing."""
    if summary is None:
        return _DASH
    if summary.mean is None:
        return f"{_DASH} (0 of {summary.of})"
    text = format_value(name, summary.mean)
    text += f" ± {format_value(name, summary.sd)}" if summary.sd is not None else ""
    if summary.ci95 is not None:
        text += " [" + ", ".join(format_value(name, end) for end in summary.ci95) + "]"
    return text if summary.n == summary.of else f"{text} (n = {summary.n} of {summary.of})"


def estimate_words(estimate: Estimate | None, *, decimals: int = 2) -> str:
    """A figure with its interval for people: figure [low, high]."""
    if estimate is None or estimate.value is None:
        return _DASH
    text = f"{estimate.value:.{decimals}f}"
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} [{estimate.low:.{decimals}f}, {estimate.high:.{decimals}f}]"


def metric_table(summary: Mapping[str, Mapping[str, MetricSummary]], names: Sequence[str]) -> PageTable:
    """One row per metric, one column per model."""
    body = [[label(name), *(interval(values.get(name), name) for values in summary.values())] for name in names]
    return PageTable(["Metric", *summary], body)


def tests_table(tests: Sequence[PairedTest]) -> PageTable:
    """Paired comparisons with the baseline."""

    def p(value: float | None) -> str:
        return _DASH if value is None else f"{value:.3g}"

    body = [
        [
            f"{test.model} against {test.baseline}",
            label(test.metric),
            format_value(test.metric, test.mean_difference),
            f"{test.better_in} of {test.n}",
            p(test.p),
            p(test.p_holm),
        ]
        for test in tests
    ]
    return PageTable(["Models", "Metric", "Mean difference", "Better in", "p (Wilcoxon)", "p (Holm)"], body)


def agreement_table(agreements: Mapping[str, Agreement | TooFewPairs], *, decimals: int = 2) -> PageTable:
    """One row per model: how the quantity on the reconstruction agrees with that on the true CT."""
    head = [
        "Model", "n", "Pearson r", "Spearman", "ICC(2,1)", "ICC(3,1)", "Concordance", "Bias", "Limits of agreement",
        "Slope of the difference", "MAE",
    ]  # fmt: skip
    body = []
    for model, figures in agreements.items():
        if isinstance(figures, TooFewPairs):
            body.append([model, str(figures.n), *[_DASH] * (len(head) - 2)])
            continue
        correlations = (figures.pearson, figures.spearman, figures.icc_2_1, figures.icc_3_1, figures.concordance)
        limits = figures.bland_altman
        body.append(
            [
                model,
                str(figures.n),
                *map(estimate_words, correlations),
                estimate_words(limits.bias, decimals=decimals),
                " to ".join(f"{end.value:.{decimals}f}" for end in (limits.lower, limits.upper)),
                estimate_words(limits.slope),
                f"{figures.mean_absolute_error:.{decimals}f}",
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


def limits_section(results: EvaluationResults, *, cases: int, patients: int, notes: Sequence[str] = ()) -> PageSection:
    """What is missing, and how far so few patients carry."""
    text = [f"{cases} cases of {patients} patients."]
    if patients < _FEWEST:
        text.append(
            f"{patients} patients are few: read the single cases. A paired Wilcoxon test over n patients gives no p "
            f"below 2 / 2^n = {smallest_p(patients):.2g}."
        )
    text += [f"Not measured, and in no mean: {failure}." for failure in results.failures] or ["No case failed."]
    return PageSection("Denominators and limits", [*text, *notes], warn=True)
