"""What an evaluation hands back: rows, statistics and files of single cases, and how they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from xrecon.evaluation.case_set import CaseSet
from xrecon.evaluation.metrics.catalogue import CATALOGUE
from xrecon.evaluation.summary import (
    MetricSummary,
    PairedTest,
    Pairs,
    agreements,
    compare_with_baseline,
    headline_rows,
    pairs_of,
    summarise,
)
from xrecon.evaluation.tables import PerCase, metric_names, summary_table, write_csv
from xrecon.json_text import json_text
from xrecon.records import RunRecord

TABLE_FILES = ("per-case.csv", "summary.json", "table.md")
"""What `EvaluationReport.write` writes."""


@dataclass(frozen=True)
class CaseOutcome:
    """One model on one case, as it is stored.

    Attributes:
        case: name of the case.
        patient: pseudonym of the patient.
        model: label of the model.
        metrics: metric name -> value; None where it could not be measured.
        seconds: wall time of the reconstruction, s.
        details: what does not fit a table: film residuals, volumes of both segmentations, flags; JSON values.
        planes: file with the middle planes of truth and estimate, relative to the store.
    """

    case: str
    patient: str
    model: str
    metrics: Mapping[str, float | None]
    seconds: float
    details: Mapping[str, Any]
    planes: str

    def row(self) -> PerCase:
        """The part that stands in tables."""
        return PerCase(self.case, self.model, self.metrics, self.seconds, patient=self.patient)


@dataclass(frozen=True)
class CaseFailure:
    """One model that gave no result on one case, and why."""

    case: str
    model: str
    reason: str

    def __str__(self) -> str:
        return f"{self.case}, {self.model}: {self.reason}"


@dataclass(frozen=True)
class EvaluationResults:
    """The results of all cases.

    Attributes:
        rows: one per case and model that worked, in the order of the cases.
        details: (case, model) -> what does not fit a table: film residuals, volumes of both segmentations, flags.
        failures: "case, model: reason" of those that did not work; they are in no mean.
        planes: (case, model) -> file with the middle planes of truth and estimate, HU.
        previews: case -> picture of the last model's reconstruction, PNG; empty where none was asked for.
    """

    rows: tuple[PerCase, ...]
    details: dict[tuple[str, str], Mapping[str, Any]]
    failures: tuple[str, ...]
    planes: dict[tuple[str, str], Path]
    previews: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationReport:
    """The results with their statistics, and what they were computed from.

    Attributes:
        results: of the single cases.
        cases: that were evaluated.
        record: command, environment, seed, digests and settings.
        bank: names of the cases that models with a bank could use.
        baseline: model that the others are tested against.
        notes: what a reader should know.
        seed: of the bootstrap.
    """

    results: EvaluationResults
    cases: CaseSet
    record: RunRecord
    bank: tuple[str, ...]
    baseline: str
    notes: tuple[str, ...]
    seed: int

    @property
    def table(self) -> str:
        """The headline metrics, mean and standard deviation by model, as a markdown table."""
        return summary_table(headline_rows(self.results.rows))

    @cached_property
    def statistics(self) -> dict[str, dict[str, MetricSummary]]:
        """Model -> metric -> mean, standard deviation and interval, see `summarise`."""
        return summarise(self.results.rows, cases=len(self.cases.sources), seed=self.seed)

    @cached_property
    def tests(self) -> list[PairedTest]:
        """Every model against the baseline, see `compare_with_baseline`."""
        return compare_with_baseline(self.results.rows, self.baseline)

    @cached_property
    def lung_ml(self) -> dict[str, Pairs]:
        """Model -> (estimate, truth) of the volume of every lung, mL."""
        return lung_pairs(self.results.rows, self.results.details)

    @cached_property
    def occupancy_percent(self) -> dict[str, Pairs]:
        """Model -> (estimate, truth) of the occupancy of the whole chest, percent."""
        return pairs_of(self.results.rows, self.results.details, "whole_chest")

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """The content of summary.json: record, notes, statistics by model and metric, tests and agreement."""
        values = {
            **self.record.to_dict(),
            "notes": list(self.notes),
            "cases": list(self.cases.names),
            "patients": list(self.cases.patients),
            "baseline": self.baseline,
            "failures": list(self.results.failures),
            "results": self.statistics,
            "tests": self.tests,
            "agreement": {
                "lung_ml": agreements(self.lung_ml),
                "occupancy_percent": agreements(self.occupancy_percent),
            },
            "details": [
                {"case": case, "model": model, **facts} for (case, model), facts in self.results.details.items()
            ],
        }
        return values if self.cases.dataset is not None else {**values, **self._of_files()}

    def _of_files(self) -> dict[str, Any]:
        """What the summary of CT files says beside that: the bank, the residuals by case, the metrics in words."""
        residuals: dict[str, dict[str, Any]] = {name: {} for name in self.cases.names}
        for (case, model), facts in self.results.details.items():
            residuals[case][model] = facts["film_residuals"]
        return {
            "bank": list(self.bank),
            "film_residuals_before_after": residuals,
            "conventions": {
                name: CATALOGUE[name].convention for name in metric_names(self.results.rows) if name in CATALOGUE
            },
        }

    def write(self, folder: Path, *, overwrite: bool = False) -> None:
        """Write `TABLE_FILES` into a folder that exists.

        Raises:
            OutputExistsError: a file exists and `overwrite` is False.
        """
        write_csv(folder / "per-case.csv", self.results.rows, overwrite=overwrite)
        (folder / "summary.json").write_text(json_text(self.summary) + "\n", encoding="utf-8")
        (folder / "table.md").write_text(self.table, encoding="utf-8")


def lung_pairs(rows: Sequence[PerCase], details: Mapping[tuple[str, str], Mapping[str, Any]]) -> dict[str, Pairs]:
    """Model -> (estimate, truth) of the volume of every lung, right lungs first, mL."""
    pairs = pairs_of(rows, details, "right_lung_ml")
    for model, left in pairs_of(rows, details, "left_lung_ml").items():
        pairs.setdefault(model, []).extend(left)
    return pairs
