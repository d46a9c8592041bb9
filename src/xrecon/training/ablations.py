"""Several runs that differ in listed settings, and one table that compares them case by case."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from xrecon.config import Config, load_config
from xrecon.errors import ConfigError, MissingPartError
from xrecon.io.output.atomic import write_json_atomic
from xrecon.training.config import Training
from xrecon.training.loop import fit
from xrecon.training.run_folder import METRICS_NAME
from xrecon.training.tracker import Tell, silent
from xrecon.volume import RESEARCH_NOTICE

FIGURES = (("psnr", "PSNR, dB"), ("ssim", "SSIM"), ("body_mae_hu", "body MAE, HU"))
RESAMPLES = 2000


class GridRun(Config):
    """One run of a grid."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,60}$", description="Its folder, and its row in the table.")
    set: tuple[str, ...] = Field(default=(), description="Overrides, as with --set.")


class Grid(Config):
    """The runs of a grid; all are compared with the first."""

    runs: tuple[GridRun, ...] = Field(min_length=1, description="In order.")


@dataclass(frozen=True)
class Table:
    """The comparison.

    Attributes:
        title, columns, rows: for people.
        runs: per run, its figures per case, their means, and the paired difference to the baseline with its interval.
        baseline: name of the first run.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[list[str]]
    runs: list[dict[str, Any]]
    baseline: str


def load_grid(path: Path) -> Grid:
    """Read a grid.

    Raises:
        ConfigError: not YAML, no runs, or two runs of one name.
    """
    grid = load_config(Grid, path)
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
    tell: Tell = silent,
) -> Table:
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
        tell: progress of the run at hand.

    Raises:
        ConfigError: the grid or its settings are wrong; all are checked before the first one starts.
        MissingPartError: a scheduler without dask.
    """
    listed = load_grid(grid).runs
    trainings = {run.name: load_config(Training, config, (*overrides, *run.set, f"name={run.name}")) for run in listed}
    if index is not None and index >= len(listed):
        raise ConfigError(f"{grid}: holds runs 0..{len(listed) - 1}, --index asks for {index}")
    chosen = listed if index is None else listed[index : index + 1]
    todo = [run for run in chosen if overwrite or not (folder / run.name / "model" / "model.json").exists()]
    if scheduler is not None:
        _on_cluster([(trainings[run.name], folder / run.name, overwrite) for run in todo], scheduler)
    else:
        for run in todo:
            _train(trainings[run.name], folder / run.name, overwrite, tell)
    done = [run.name for run in listed if (folder / run.name / METRICS_NAME).exists()]
    table = compare({name: last_validation(folder / name) for name in done})
    write_json_atomic(
        folder / "comparison.json",
        {"notice": RESEARCH_NOTICE, "baseline": table.baseline, "runs": table.runs},
        overwrite=True,
    )
    return table


def _train(training: Training, folder: Path, overwrite: bool, tell: Tell) -> None:
    fit(training, folder, resume=None if overwrite else "auto", overwrite=overwrite, progress=tell)


def _on_cluster(tasks: Sequence[tuple[Training, Path, bool]], scheduler: str) -> None:
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingPartError("--scheduler needs dask: pip install 'xrecon[scale]'") from error
    with Client(scheduler) as client:  # type: ignore[no-untyped-call]
        # Not pure: a run that failed and is asked for again must not be answered from memory.
        client.gather([client.submit(_silent, *task, pure=False) for task in tasks])


def _silent(training: Training, folder: Path, overwrite: bool) -> None:
    _train(training, folder, overwrite, silent)


def last_validation(folder: Path) -> list[dict[str, Any]]:
    """Figures per case of a run's last validation; empty where it has none."""
    found: list[dict[str, Any]] = []
    for line in (folder / METRICS_NAME).read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        if values["kind"] == "validation":
            found = values["cases"]
    return found


def compare(figures: dict[str, list[dict[str, Any]]]) -> Table:
    """Means and, against the first run, mean paired differences with bootstrap intervals of 95 % over the cases."""
    baseline = next(iter(figures))
    rows, runs = [], []
    for name, cases in figures.items():
        entry: dict[str, Any] = {"name": name, "cases": cases, "count": len(cases)}
        row = [name, str(len(cases))]
        theirs = {one["case"]: one for one in figures[baseline]}
        shared = [one for one in cases if one["case"] in theirs]
        for key, _ in FIGURES:
            if not cases:
                row.append("-")
                continue
            mean = float(np.mean([one[key] for one in cases]))
            text = f"{mean:.4g}"
            if name != baseline and shared:
                differences = np.array([one[key] - theirs[one["case"]][key] for one in shared])
                low, high = bootstrap_interval(differences)
                text += f" ({differences.mean():+.2g}: {low:+.2g} to {high:+.2g})"
                entry[f"{key}_difference"] = {"mean": float(differences.mean()), "low": low, "high": high}
            entry[key] = mean
            row.append(text)
        rows.append(row)
        runs.append(entry)
    columns = ("run", "cases", *(title for _, title in FIGURES))
    title = f"validation cases; in brackets the paired difference to {baseline} and its 95 % interval"
    return Table(title, columns, rows, runs, baseline)


def bootstrap_interval(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    """95 % percentile interval of the mean, cases resampled; seeded."""
    draws = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)
