"""The report of `xrecon evaluate`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xrecon.evaluation.metrics.catalogue import HEADLINE, TESTED, section
from xrecon.evaluation.results import EvaluationReport
from xrecon.evaluation.summary import agreements
from xrecon.evaluation.tables import format_value, label, metric_names
from xrecon.report.parts.evaluation_page import (
    PageSection,
    agreement_table,
    conventions_section,
    limits_section,
    metric_table,
    render_evaluation,
    tests_table,
)
from xrecon.report.parts.evaluation_plots import (
    bland_altman_figure,
    difference_figure,
    example_figure,
    scatter_figure,
    violin_figure,
)
from xrecon.report.parts.page import PageTable

_RESULT = (
    "Mean ± SD over the cases, [95 % interval from 2000 draws of patients]. PSNR stands here in the volumetric "
    "convention with peak 2500 HU and, to show how far conventions part, in that of the X2CT script."
)
_SEGMENTED = (
    "The same code on the same grid, each volume on its own. A mean stands with the number of cases that have a value; "
    "masks that are empty in both volumes have none."
)

_STRUCTURES = (
    "Next to the masks of a label map of the true CT, in the cases that have one: tissue by HU, without what belongs "
    "to a neighbour in the truth. The truth itself has Dice 1."
)
_RANKED_BY = "psnr_2500_db"
"""Metric by which the best, the median and the worst case are chosen."""


def evaluation_report(report: EvaluationReport) -> str:
    """The page as HTML text."""
    names = metric_names(report.results.rows)
    headline = [metric.name for metric in HEADLINE if metric.name in names]
    tested = [metric.name for metric in TESTED if metric.name in names]
    anatomy, structures = section("anatomy", names), section("structure", names)
    others = [name for name in names if name not in (*anatomy, *structures)]
    sections = [
        limits_section(
            report.results, cases=len(report.cases.names), patients=len(report.cases.patients), notes=report.notes
        ),
        _result(report, headline, tested),
        *_against_baseline(report, tested),
        *_anatomy(report, anatomy),
        *_structures(report, structures),
        _single_cases(report),
        PageSection("All image metrics", tables=[metric_table(report.statistics, others)]),
        _every_case(report, headline),
        conventions_section(names),
    ]
    return render_evaluation(
        "How well films become CTs",
        sections,
        lead="Known CTs were projected to a PA and a lateral film, reconstructed by every model, and measured.",
        record=report.record.to_dict(),
    )


def _result(report: EvaluationReport, headline: Sequence[str], tested: Sequence[str]) -> PageSection:
    return PageSection(
        "Result",
        [_RESULT],
        [metric_table(report.statistics, [*headline, "seconds"])],
        [(violin_figure(report.results.rows, tested), "Every case; the bar is the mean.")],
    )


def _against_baseline(report: EvaluationReport, tested: Sequence[str]) -> Iterator[PageSection]:
    if not report.tests:
        return
    figure = difference_figure(report.results.rows, tested, baseline=report.baseline)
    yield PageSection(
        f"Against {report.baseline}",
        ["The same cases, paired. Holm's correction counts all rows of the table."],
        [tests_table(report.tests)],
        [(figure, f"Per case, minus {report.baseline}.")],
    )


def _anatomy(report: EvaluationReport, names: Sequence[str]) -> Iterator[PageSection]:
    if not names:
        return
    yield PageSection(
        "Anatomy: PTX-Seg on the reconstruction against PTX-Seg on the true CT",
        [_SEGMENTED],
        [metric_table(report.statistics, names)],
    )
    lungs, shares = report.lung_ml, report.occupancy_percent
    yield PageSection(
        "Agreement of volumes and occupancy",
        ["Lung volume per side, mL; below it occupancy of the whole chest, percent."],
        [agreement_table(agreements(lungs), decimals=0), agreement_table(agreements(shares), decimals=1)],
        [
            (scatter_figure(lungs, quantity="lung volume, mL"), "Each lung of each case."),
            (bland_altman_figure(lungs, quantity="lung volume, mL"), "Lung volume: bias and 95 % limits."),
            (bland_altman_figure(shares, quantity="occupancy, %"), "Occupancy: bias and 95 % limits."),
        ],
    )


def _structures(report: EvaluationReport, names: Sequence[str]) -> Iterator[PageSection]:
    if names:
        yield PageSection("Heart and spine", [_STRUCTURES], [metric_table(report.statistics, names)])


def _single_cases(report: EvaluationReport) -> PageSection:
    results, spacing_mm = report.results, report.cases.spacing_mm
    figures = [
        (example_figure(results.rows, results.planes, model=model, metric=_RANKED_BY, spacing_mm=spacing_mm), model)
        for model in dict.fromkeys(row.model for row in results.rows)
    ]
    return PageSection(
        "Single cases", ["Best, median and worst case of each model by volumetric PSNR."], figures=figures
    )


def _every_case(report: EvaluationReport, names: Sequence[str]) -> PageSection:
    body = [
        [row.case, row.model, *(format_value(name, row.metrics.get(name)) for name in names)]
        for row in report.results.rows
    ]
    return PageSection("Every case", tables=[PageTable(["Case", "Model", *map(label, names)], body)])
