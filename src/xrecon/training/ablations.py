"""Several runs that differ in listed settings, and one table that compares them case by case."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from xrecon.config import Config, load_config
from xrecon.errors import ConfigError
from xrecon.io.output.atomic import write_json_atomic
from xrecon.jobs import run_jobs
from xrecon.training.loop import fit
from xrecon.training.run_config import Training
from xrecon.training.run_folder import METRICS_NAME
from xrecon.training.tracker import Progress, silent
from xrecon.training.validation import CaseFigures
from xrecon.volume import RESEARCH_NOTICE

COLUMNS = {"psnr": "PSNR, dB", "ssim": "SSIM", "body_mae_hu": "body MAE, HU"}
"""Figures of a validation that the table shows, and their titles."""
RESAMPLES = 2000


class AblationRun(Config):
    """One run of a grid: a name, and the settings in which it differs."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,60}$", description="Its folder, and its row in the table.")
    set: tuple[str, ...] = Field(default=(), description="Overrides, as with --set.")


class AblationGrid(Config):
    """The runs of a grid; all are compared with the first."""

    runs: tuple[AblationRun, ...] = Field(min_length=1, description="In order.")


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference to the baseline over the shared cases, and its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class RunResult:
    """One run in the comparison.

    Attributes:
        name: of the run.
        cases: figures of the cases of its last validation.
        means: mean of each figure of `COLUMNS`; empty without cases.
        differences: to the baseline, by figure; empty for the baseline and without shared cases.
    """

    name: str
    cases: tuple[CaseFigures, ...]
    means: dict[str, float]
    differences: dict[str, PairedDifference]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values: dict[str, Any] = {
            "name": self.name,
            "cases": [asdict(case) for case in self.cases],
            "count": len(self.cases),
        }
        for name in COLUMNS:
            if name in self.differences:
                values[f"{name}_difference"] = asdict(self.differences[name])
            if name in self.means:
                values[name] = self.means[name]
        return values

    def row(self) -> list[str]:
        """The run as one row of the table."""
        cells = [self.name, str(len(self.cases))]
        for name in COLUMNS:
            text = f"{self.means[name]:.4g}" if name in self.means else "-"
            if name in self.differences:
                change = self.differences[name]
                text += f" ({change.mean:+.2g}: {change.low:+.2g} to {change.high:+.2g})"
            cells.append(text)
        return cells


@dataclass(frozen=True)
class Comparison:
    """Runs side by side; the first is the baseline."""

    runs: tuple[RunResult, ...]

    @property
    def baseline(self) -> str:
        """Name of the first run."""
        return self.runs[0].name

    @property
    def title(self) -> str:
        """Of the table."""
        return f"validation cases; in brackets the paired difference to {self.baseline} and its 95 % interval"

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the table."""
        return ("run", "cases", *COLUMNS.values())

    @property
    def rows(self) -> list[list[str]]:
        """Of the table, one per run."""
        return [run.row() for run in self.runs]


def load_grid(path: Path) -> AblationGrid:
    """Read a grid.

    Raises:
        ConfigError: not YAML, no runs, or two runs of one name.
    """
    grid = load_config(AblationGrid, path)
    names = [run.name for run in grid.runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{path}: two runs are called {twice[0]!r}; every run needs a name of its own")
    return grid


def run_grid(
    config: Path,
    grid: Path,
    folder: Path,
    *,
    overrides: Sequence[str] = (),
    index: int | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Comparison:
    """Train every run of a grid into `folder/NAME` and compare their last validations.

    Runs that are finished are not trained again, interrupted ones go on; so the same command continues a grid, and
    collects the table when runs were trained one by one with `index`.

    Args:
        config: the settings that all runs share.
        grid: file with `runs: [{name, set: [...]}, ...]`.
        folder: one folder per run, and `comparison.json`.
        overrides: on top of `config`, below the run's own.
        index: train only this run.
        scheduler: address of a Dask cluster; the runs are its tasks.
        overwrite: train finished runs again.
        progress: called after every step of the run at hand.

    Raises:
        ConfigError: the grid or its settings are wrong; all are checked before the first one starts.
        MissingPartError: a scheduler without Dask.
        InputError: no scheduler answers at the address.
    """
    listed = load_grid(grid).runs
    trainings = {run.name: load_config(Training, config, (*overrides, *run.set, f"name={run.name}")) for run in listed}
    if index is not None and index >= len(listed):
        raise ConfigError(f"{grid}: holds runs 0..{len(listed) - 1}, --index asks for {index}")
    chosen = listed if index is None else listed[index : index + 1]
    todo = [run for run in chosen if overwrite or not (folder / run.name / "model" / "model.json").exists()]
    tasks = [_Task(trainings[run.name], folder / run.name, overwrite) for run in todo]
    if scheduler is not None:
        _on_cluster(tasks, scheduler)
    else:
        for task in tasks:
            _train(task, progress)
    done = [run.name for run in listed if (folder / run.name / METRICS_NAME).exists()]
    comparison = compare({name: last_validation(folder / name) for name in done})
    write_json_atomic(
        folder / "comparison.json",
        {
            "notice": RESEARCH_NOTICE,
            "baseline": comparison.baseline,
            "runs": [run.to_dict() for run in comparison.runs],
        },
        overwrite=True,
    )
    return comparison


@dataclass(frozen=True)
class _Task:
    """One run to train, as it travels to a worker of the cluster."""

    training: Training
    folder: Path
    overwrite: bool


def _train(task: _Task, progress: Progress = silent) -> None:
    resume = None if task.overwrite else "auto"
    fit(task.training, task.folder, resume=resume, overwrite=task.overwrite, progress=progress)


def _on_cluster(tasks: Sequence[_Task], scheduler: str) -> None:
    """Train all of them; raises the error of the first that failed, after the others have ended."""
    errors = [result for _, result in run_jobs(_train, tasks, scheduler=scheduler) if isinstance(result, Exception)]
    if errors:
        raise errors[0]


def last_validation(folder: Path) -> tuple[CaseFigures, ...]:
    """Figures per case of a run's last validation; empty where it has none."""
    cases: list[dict[str, Any]] = []
    for line in (folder / METRICS_NAME).read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        if values["kind"] == "validation":
            cases = values["cases"]
    return tuple(CaseFigures(**case) for case in cases)


def compare(figures: Mapping[str, Sequence[CaseFigures]]) -> Comparison:
    """Means and, against the first run, mean paired differences with bootstrap intervals of 95 % over the cases."""
    baseline = next(iter(figures))
    return Comparison(
        tuple(_result(name, cases, None if name == baseline else figures[baseline]) for name, cases in figures.items())
    )


def _result(name: str, cases: Sequence[CaseFigures], baseline: Sequence[CaseFigures] | None) -> RunResult:
    """One run, compared with the baseline's cases; None for the baseline itself."""
    reference = {case.case: case for case in baseline or ()}
    shared = [case for case in cases if case.case in reference]
    means, differences = {}, {}
    for key in COLUMNS if cases else ():
        means[key] = float(np.mean([getattr(case, key) for case in cases]))
        if shared:
            change = np.array([getattr(case, key) - getattr(reference[case.case], key) for case in shared])
            low, high = bootstrap_interval(change)
            differences[key] = PairedDifference(float(change.mean()), low, high)
    return RunResult(name, tuple(cases), means, differences)


def bootstrap_interval(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    """95 % percentile interval of the mean, cases resampled; seeded."""
    draws = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)
