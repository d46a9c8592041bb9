"""The report of `xrecon evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xrecon.evaluation.metrics.catalogue import HEADLINE, TESTED, section
from xrecon.evaluation.results import EvaluationResults
from xrecon.evaluation.summary import pairs_of
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


def evaluation_report(
    results: EvaluationResults, *, summary: Mapping[str, Any], record: Mapping[str, Any], spacing_mm: float
) -> str:
    """The page as HTML text.

    Args:
        results: rows, details and planes.
        summary: `summary.json`: `results`, `tests`, `agreement`, `cases`, `patients`, `baseline`, `notes`.
        record: what made it.
        spacing_mm: voxel pitch of the planes.
    """
    rows, baseline = results.rows, str(summary["baseline"])
    names = metric_names(rows)
    models = list(dict.fromkeys(row.model for row in rows))
    head = [metric.name for metric in HEADLINE if metric.name in names]
    tested = [metric.name for metric in TESTED if metric.name in names]
    sections = [
        limits_section(results, cases=len(summary["cases"]), patients=len(summary["patients"]), notes=summary["notes"]),
        PageSection(
            "Result",
            [_RESULT],
            [metric_table(summary["results"], [*head, "seconds"])],
            [(violin_figure(rows, tested), "Every case; the bar is the mean.")],
        ),
    ]  # fmt: skip
    if len(models) > 1 and summary["tests"]:
        sections.append(
            PageSection(
                f"Against {baseline}",
                ["The same cases, paired. Holm's correction counts all rows of the table."],
                [tests_table(summary["tests"])],
                [(difference_figure(rows, tested, baseline=baseline), f"Per case, minus {baseline}.")],
            )
        )
    sections += _anatomy(results, summary)
    structures = section("structure", names)
    if structures:
        sections.append(PageSection("Heart and spine", [_STRUCTURES], [metric_table(summary["results"], structures)]))
    best = "psnr_2500_db"
    sections.append(
        PageSection(
            "Single cases",
            ["Best, median and worst case of each model by volumetric PSNR."],
            figures=[
                (example_figure(rows, results.planes, model=model, metric=best, spacing_mm=spacing_mm), model)
                for model in models
            ],
        )
    )
    plain = [name for name in names if name not in (*section("anatomy", names), *structures)]
    sections.append(PageSection("All image metrics", tables=[metric_table(summary["results"], plain)]))
    sections.append(_cases(results, head))
    sections.append(conventions_section(names))
    return render_evaluation(
        "How well films become CTs",
        sections,
        lead="Known CTs were projected to a PA and a lateral film, reconstructed by every model, and measured.",
        record=record,
    )


def _anatomy(results: EvaluationResults, summary: Mapping[str, Any]) -> list[PageSection]:
    names = section("anatomy", metric_names(results.rows))
    if not names:
        return []
    volume = pairs_of(results.rows, results.details, "right_lung_ml")
    for model, both in pairs_of(results.rows, results.details, "left_lung_ml").items():
        volume.setdefault(model, []).extend(both)
    share = pairs_of(results.rows, results.details, "whole_chest")
    return [
        PageSection(
            "Anatomy: PTX-Seg on the reconstruction against PTX-Seg on the true CT",
            [_SEGMENTED],
            [metric_table(summary["results"], names)],
        ),
        PageSection(
            "Agreement of volumes and occupancy",
            ["Lung volume per side, mL; below it occupancy of the whole chest, percent."],
            [
                agreement_table(summary["agreement"]["lung_ml"], decimals=0),
                agreement_table(summary["agreement"]["occupancy_percent"], decimals=1),
            ],
            [
                (scatter_figure(volume, quantity="lung volume, mL"), "Each lung of each case."),
                (bland_altman_figure(volume, quantity="lung volume, mL"), "Lung volume: bias and 95 % limits."),
                (bland_altman_figure(share, quantity="occupancy, %"), "Occupancy: bias and 95 % limits."),
            ],
        ),
    ]  # fmt: skip


def _cases(results: EvaluationResults, names: Sequence[str]) -> PageSection:
    body = [
        [row.case, row.model, *(format_value(name, row.metrics.get(name)) for name in names)] for row in results.rows
    ]
    return PageSection("Every case", tables=[PageTable(["Case", "Model", *map(label, names)], body)])
