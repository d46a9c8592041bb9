"""Per-case metrics to tables: mean and standard deviation per model, as markdown (also for a terminal) and CSV."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xrecon.errors import InputError
from xrecon.evaluation.metrics.catalogue import CATALOGUE, SECONDS
from xrecon.io.output.atomic import atomic_path


@dataclass(frozen=True)
class PerCase:
    """The metrics of one model on one case.

    Attributes:
        case: name of the case (never a patient's).
        model: name of the model or baseline.
        metrics: metric name -> value; None or NaN where it could not be measured.
        seconds: wall time of the reconstruction, s.
        patient: pseudonym of the patient; empty where the case is the patient.
    """

    case: str
    model: str
    metrics: Mapping[str, float | None]
    seconds: float
    patient: str = ""


@dataclass(frozen=True)
class Statistic:
    """Mean and sample standard deviation (N - 1) of one metric over the cases that have it.

    Attributes:
        mean: None if no case has a value; infinite if one is.
        sd: None for fewer than two values, or if one is infinite.
        n: number of cases with a value.
    """

    mean: float | None
    sd: float | None
    n: int


def summary(rows: Sequence[PerCase]) -> dict[str, dict[str, Statistic]]:
    """Model -> metric (and "seconds") -> `Statistic`; models and metrics in order of first appearance.

    Raises:
        InputError: no rows, or one case occurs twice for one model.
    """
    _check(rows)
    names = metric_names(rows)
    table: dict[str, dict[str, Statistic]] = {}
    for model in dict.fromkeys(row.model for row in rows):
        cases = [row for row in rows if row.model == model]
        table[model] = {name: _statistic([row.metrics.get(name) for row in cases]) for name in names}
        table[model]["seconds"] = _statistic([row.seconds for row in cases])
    return table


def metric_names(rows: Sequence[PerCase]) -> list[str]:
    """All metric names of the rows, in order of first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row.metrics))


def label(name: str) -> str:
    """Column heading of a metric with its unit, such as "MAE, inside the body (HU)"; the name of an unknown one."""
    return CATALOGUE[name].heading if name in CATALOGUE else name


def format_value(name: str, value: float | None) -> str:
    """A metric's value for people, without its unit: "-" if not measured, "inf" if infinite."""
    if name in CATALOGUE or value is None or not math.isfinite(value):
        return CATALOGUE.get(name, SECONDS).text(value)
    return f"{value:.4g}"


def format_statistic(name: str, statistic: Statistic) -> str:
    """Mean +- SD for people; the mean alone where there is no SD."""
    mean = format_value(name, statistic.mean)
    return mean if statistic.sd is None else f"{mean} ± {format_value(name, statistic.sd)}"


def summary_table(rows: Sequence[PerCase]) -> str:
    """Markdown table, one line per model: number of cases and mean +- SD of each metric; padded for a terminal.

    Raises:
        InputError: as `summary`.
    """
    table = summary(rows)
    names = [*metric_names(rows), "seconds"]
    cells = [["Model", "n", *map(label, names)]]
    for model, values in table.items():
        count = sum(row.model == model for row in rows)
        cells.append([model, str(count), *(_with_count(name, values[name], count) for name in names)])
    return _markdown(cells)


def write_csv(path: Path, rows: Sequence[PerCase], *, overwrite: bool = False) -> Path:
    """Write one line per case and model: case, model, the metrics in full precision, seconds; atomic, UTF-8.

    A value that was not measured is an empty cell.

    Raises:
        InputError: as `summary`.
        OutputExistsError: the file exists and `overwrite` is False.
    """
    _check(rows)
    names = metric_names(rows)
    with atomic_path(path, overwrite=overwrite) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "model", *names, "seconds"])
        for row in rows:
            writer.writerow([row.case, row.model, *(_cell(row.metrics.get(n)) for n in names), _cell(row.seconds)])
    return path


def _check(rows: Sequence[PerCase]) -> None:
    if not rows:
        raise InputError("there are no results to tabulate: expected at least one case")
    seen: set[tuple[str, str]] = set()
    for row in rows:
        if (row.case, row.model) in seen:
            raise InputError(f"case {row.case!r} occurs twice for model {row.model!r}: its mean would count it double")
        seen.add((row.case, row.model))


def _statistic(values: Sequence[float | None]) -> Statistic:
    numbers = [float(v) for v in values if v is not None and not math.isnan(v)]
    if not numbers:
        return Statistic(None, None, 0)
    if not all(map(math.isfinite, numbers)):
        return Statistic(sum(numbers), None, len(numbers))
    return Statistic(statistics.fmean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else None, len(numbers))


def _with_count(name: str, statistic: Statistic, cases: int) -> str:
    """The cell of a summary; says so where only some of the cases have a value."""
    text = format_statistic(name, statistic)
    return text if statistic.n in (0, cases) else f"{text} (n={statistic.n})"


def _cell(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(float(value))


def _markdown(cells: list[list[str]]) -> str:
    """Rows of text (the first is the heading) as a padded table; text left, numbers right."""
    safe = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in cells]
    widths = [max(3, *map(len, column)) for column in zip(*safe, strict=True)]
    lines = [
        "| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True)))
        for r in safe
    ]
    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([lines[0] + " |", rule, *(line + " |" for line in lines[1:])]) + "\n"
