"""Every model on every case whose CT is known: from CT files or a data set to rows, statistics and files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xrecon.errors import InputError
from xrecon.evaluation.case_job import EvaluationJob, Preview, evaluate_case, preview_path
from xrecon.evaluation.case_set import CaseSet
from xrecon.evaluation.plan import TRAIN_NOTE, EvaluationPlan, check_machine, plan_evaluation
from xrecon.evaluation.results import TABLE_FILES, CaseFailure, CaseOutcome, EvaluationReport, EvaluationResults
from xrecon.io.output.staging import check_outputs, staged_outputs
from xrecon.jobs import gathered
from xrecon.records import RunRecord

STORE_NAME = "results"
"""Folder of the results of single cases, below that of the evaluation."""


def evaluate(
    dataset: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str],
    models: Sequence[str] = (),
    subset: str = "test",
    split: str | os.PathLike[str] | None = None,
    size: int | None = None,
    geometry: str | None = None,
    baseline: str | None = None,
    baselines: bool | None = None,
    anatomy: bool = True,
    structures: str | os.PathLike[str] | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    assets: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    seed: int = 0,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> EvaluationReport:
    """Reconstruct known CTs from their two films with several models, and measure the errors.

    Writes per-case.csv, summary.json and table.md; `xrecon evaluate` also draws report.html. Results of single cases
    stay in results/ below the output folder, so that a run that was stopped goes on where it was.

    Args:
        dataset: folder of a data set of `xrecon prepare`, or of CT files.
        output: folder to write to; made if absent.
        models: names (`xrecon models list`) or folders of trained networks.
        subset: "train", "test" or "aux"; CT files without a split are all test cases.
        split: YAML with the lists train and test, for CT files; the train list is only needed for models with a bank.
        size: voxels per edge of the 384 mm cube, 64..256; None: that of the data set, 64 for CT files.
        geometry: preset of the films; None: that of the data set, "chest" for CT files.
        baseline: model that the others are tested against; None: deform if it is among them, else the first.
        baselines: also evaluate atlas, pca and deform; None: on a data set, and where no model is named.
        anatomy: also run PTX-Seg on truth and reconstructions.
        structures: YAML with label maps of heart and spine (data sets only).
        workers: cases at a time on this machine; more than 1 needs Dask.
        scheduler: address of a Dask scheduler to run on.
        assets: priors file; None for the shipped one.
        device: torch device of films and models.
        seed: of the bootstrap; recorded.
        overwrite: replace files that exist.
        progress: called with a line of text after each case.

    Raises:
        InputError: no cases, an unknown model, an option that does not apply, or not a single result.
        ConfigError: the split or the structures cannot be read.
        MissingPartError: no priors, or several workers or a scheduler without Dask.
        OutputExistsError: a file exists and `overwrite` is False.

    Example:
        >>> report = xrecon.evaluate("chests-96", models=["runs/mine/model"], output="evaluation")
        >>> print(report.table)
    """
    check_outputs(Path(output), TABLE_FILES, overwrite=overwrite)
    plan = plan_evaluation(
        dataset, models=models, subset=subset, split=split, size=size, geometry=geometry, baseline=baseline,
        baselines=baselines, anatomy=anatomy, structures=structures, assets=assets, device=device, seed=seed,
    )  # fmt: skip
    report = run_evaluation(plan, Path(output) / STORE_NAME, workers=workers, scheduler=scheduler, progress=progress)
    with staged_outputs(Path(output), TABLE_FILES, overwrite=overwrite) as stage:
        report.write(stage)
    return report


def run_evaluation(
    plan: EvaluationPlan,
    store: Path,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    preview: Preview | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> EvaluationReport:
    """Evaluate the cases of a plan, and summarise.

    Args:
        plan: see `plan_evaluation`.
        store: folder of the results of single cases; what it holds already is not computed again.
        workers: processes on this machine (more than one needs Dask).
        scheduler: address of a Dask scheduler.
        preview: draws the reconstruction of the last model, for a picture of each case.
        progress: called with a line of text after each case.

    Raises:
        InputError: not a single result, workers beside a scheduler, or no scheduler answers.
        MissingPartError: more than one worker, or a scheduler, without Dask.
    """
    check_machine(workers=workers, scheduler=scheduler, device=plan.device)
    store = Path(store)
    jobs = [
        EvaluationJob(
            source, plan.models, store, plan.anatomy, plan.assets, plan.seed, plan.structures, plan.device, preview
        )
        for source in plan.cases.sources
    ]
    outcomes, failures = gathered(
        evaluate_case, jobs, plan.cases.names, workers=workers, scheduler=scheduler, progress=progress
    )
    results = _collected(outcomes, failures, store)
    if preview is not None:
        pictures = {job.source.name: preview_path(job) for job in jobs}
        results.previews.update({name: path for name, path in pictures.items() if path.is_file()})
    labels = {row.model for row in results.rows}
    baseline = plan.baseline if plan.baseline in labels else results.rows[0].model
    record = _record(plan, workers)
    notes = _notes(plan.cases)
    if baseline != plan.baseline:
        notes += (f"the baseline {plan.baseline} has no result, so the tests compare with {baseline}",)
    return EvaluationReport(results, plan.cases, record, plan.bank, baseline, notes, plan.seed)


def _collected(
    outcomes: Sequence[CaseOutcome | CaseFailure], failures: Sequence[str], store: Path
) -> EvaluationResults:
    rows, details, planes = [], {}, {}
    failures = list(failures)
    for outcome in outcomes:
        if isinstance(outcome, CaseFailure):
            failures.append(str(outcome))
            continue
        key = outcome.case, outcome.model
        rows.append(outcome.row())
        details[key] = outcome.details
        planes[key] = store / outcome.planes
    if not rows:
        raise InputError("nothing could be evaluated: " + "; ".join(failures[:5]))
    return EvaluationResults(tuple(rows), details, tuple(failures), planes)


def _record(plan: EvaluationPlan, workers: int) -> RunRecord:
    rules = None if plan.structures is None else plan.structures.rules()
    settings: dict[str, Any] = {
        "subset": plan.cases.subset,
        "anatomy": plan.anatomy,
        "structures": None if rules is None else {name: rule.model_dump() for name, rule in rules.items()},
        "workers": workers,
        "device": plan.device,
    }
    models = {choice.label: choice.digest for choice in plan.models}
    if plan.cases.dataset is not None:
        return RunRecord(
            command="xrecon evaluate", seed=plan.seed, settings=settings, dataset=plan.cases.dataset.provenance(),
            models=models,
        )  # fmt: skip
    settings |= {"size": plan.cases.size, "geometry": plan.cases.geometry}
    return RunRecord(
        command="xrecon evaluate", seed=plan.seed, settings=settings, inputs=plan.cases.digests(), models=models
    )


def _notes(cases: CaseSet) -> tuple[str, ...]:
    films = (
        "The films were simulated from the whole CT without its table: line integrals without scatter and noise."
        if cases.dataset is None
        else "The films are those of the data set: line integrals without scatter and noise, unless it says otherwise."
    )
    return (films, *cases.notes, *([TRAIN_NOTE] if cases.subset == "train" else []))
