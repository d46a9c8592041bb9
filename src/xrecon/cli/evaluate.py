"""`xrecon evaluate`: every model on cases whose CT is known, from a prepared data set or from CT files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xrecon.cli.common import OverwriteOption, SeedOption, Shell, example
from xrecon.cli.options import (
    MODEL_HELP,
    AssetsOption,
    DeviceOption,
    GeometryName,
    GeometryOption,
    OutputFolderOption,
    SizeOption,
    usable_device,
)
from xrecon.json_text import json_text

if TYPE_CHECKING:
    from xrecon.evaluation.tables import PerCase


class SubsetName(str, Enum):
    """Lists of a split."""

    TEST = "test"
    TRAIN = "train"


@example(
    "xrecon evaluate --dataset chests-96 --model runs/xrecon/model -o evaluation",
    "xrecon evaluate --dataset cases --split split.yaml --model atlas --model pca --model deform -o evaluation",
    "xrecon evaluate --dataset cases --split split.yaml --model deform --model deform+bank --size 128 -o evaluation",
)
def evaluate(
    shell: Shell,
    dataset: Annotated[
        Path, typer.Option("--dataset", metavar="FOLDER", help="Made by `xrecon prepare`; or, with --split, CT files.")
    ],
    output: OutputFolderOption,
    split: Annotated[
        Path | None, typer.Option("--split", metavar="FILE", help="YAML with the lists train and test, for CT files.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME|DIR",
            help=f"{MODEL_HELP}; may be repeated.",
        ),
    ] = None,
    subset: Annotated[SubsetName, typer.Option("--subset", help="Which cases.")] = SubsetName.TEST,
    size: SizeOption = 64,
    geometry: GeometryOption = GeometryName.CHEST,
    baseline: Annotated[
        str, typer.Option("--baseline", metavar="NAME", help="Model that the others are tested against (data sets).")
    ] = "deform",
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help="Data sets: always add atlas, pca and deform.")
    ] = True,
    anatomy: Annotated[
        bool, typer.Option("--anatomy/--no-anatomy", help="Data sets: PTX-Seg on truth and reconstruction.")
    ] = True,
    structures: Annotated[
        Path | None,
        typer.Option(
            "--structures", metavar="FILE", help="Data sets: YAML with label maps, to measure heart and spine."
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Data sets: cases at a time (more than 1 needs Dask).")
    ] = 1,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", metavar="ADDRESS", help="Data sets: run on this Dask cluster.")
    ] = None,
    assets: AssetsOption = None,
    device: DeviceOption = "cpu",
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Reconstruct known CTs from simulated films with several models, and measure the error.

    On a data set of `xrecon prepare`: per-case.csv, summary.json (mean, SD, bootstrap interval by patient, paired
    tests), table.md and report.html with all plots. Results of single cases stay in results/ below the output folder,
    so that a run that was stopped goes on where it was. The size and the films are those of the data set.

    On CT files with --split: prints the table, and writes per-case.csv, summary.json, table.md and one picture per
    case. The table of the scanner is removed from truth and films.
    """
    from xrecon.data.manifest import MANIFEST_NAME
    from xrecon.errors import InputError

    if split is None and ((dataset / MANIFEST_NAME).is_file() or dataset.name == MANIFEST_NAME):
        return _evaluate_dataset(
            shell, dataset, output, models=model or (), subset=subset.value, baseline=baseline, baselines=baselines,
            anatomy=anatomy, structures=structures, workers=workers, scheduler=scheduler, assets=assets, seed=seed,
            overwrite=overwrite,
        )  # fmt: skip
    if split is None:
        raise InputError(
            f"{dataset}: holds no {MANIFEST_NAME}, so it is no data set of `xrecon prepare`; for a folder of CT files "
            "give --split FILE, too"
        )
    return _evaluate_files(
        shell, dataset, split, output, models=model, subset=subset, size=size, geometry=geometry, assets=assets,
        device=device, seed=seed, overwrite=overwrite,
    )  # fmt: skip


def _evaluate_dataset(
    shell: Shell,
    path: Path,
    output: Path,
    *,
    models: Sequence[str],
    subset: str,
    baseline: str,
    baselines: bool,
    anatomy: bool,
    structures: Path | None,
    workers: int,
    scheduler: str | None,
    assets: Path | None,
    seed: int,
    overwrite: bool,
) -> Mapping[str, Any]:
    """The form on a prepared data set."""
    from xrecon.data.dataset import PreparedDataset
    from xrecon.environment import run_environment
    from xrecon.errors import InputError
    from xrecon.evaluation.metrics.structures import load_structure_maps
    from xrecon.evaluation.models import bank_for, choose_models
    from xrecon.evaluation.prepared import evaluate_dataset
    from xrecon.evaluation.summary import agreements, compare_with_baseline, headline_rows, pairs_of, summarise
    from xrecon.evaluation.tables import summary_table, write_csv
    from xrecon.inference.models import baseline_names
    from xrecon.io.output.staging import check_outputs, staged_outputs
    from xrecon.report.evaluation import evaluation_report
    from xrecon.volume import RESEARCH_NOTICE

    names = ["per-case.csv", "summary.json", "table.md", "report.html"]
    check_outputs(output, names, overwrite=overwrite)
    cases = PreparedDataset(path, subset)  # type: ignore[arg-type]
    bank = bank_for(models, path, subset)
    chosen = choose_models(models, assets=assets, baselines=baseline_names() if baselines else (), bank=bank)
    if not chosen:
        raise InputError("give at least one --model, or leave --no-baselines out")
    maps = None if structures is None else load_structure_maps(structures)
    told = None if maps is None else {name: rule.model_dump() for name, rule in maps.rules().items()}
    labels = [one.label for one in chosen]
    if baseline not in labels:
        baseline = labels[0]
    with shell.progress("evaluating", total=len(cases)) as advance:

        def tell(text: str) -> None:
            advance(1)
            shell.note(text)

        results = evaluate_dataset(
            cases, chosen, output / "results", anatomy=anatomy, assets=assets, seed=seed, structures=maps,
            workers=workers, scheduler=scheduler, progress=tell,
        )  # fmt: skip
    rows = results.rows
    lungs = pairs_of(rows, results.details, "right_lung_ml")
    for name, both in pairs_of(rows, results.details, "left_lung_ml").items():
        lungs.setdefault(name, []).extend(both)
    notes = ["The films are those of the data set: line integrals without scatter and noise, unless it says otherwise."]
    if subset == "train":
        notes.append("Train cases: models and priors that have learned from them flatter themselves here.")
    record = {
        "notice": RESEARCH_NOTICE,
        "command": "xrecon evaluate",
        "environment": run_environment(),
        "seed": seed,
        "dataset": cases.provenance(),
        "models": {one.label: one.digest for one in chosen},
        "settings": {"subset": subset, "anatomy": anatomy, "structures": told, "workers": workers},
    }
    done = {row.model for row in rows}
    found = {
        **record,
        "notes": notes,
        "cases": [case.name for case in cases],
        "patients": sorted({case.patient for case in cases}),
        "baseline": baseline if baseline in done else rows[0].model,
        "failures": results.failures,
        "results": summarise(rows, cases=len(cases), seed=seed),
        "tests": compare_with_baseline(rows, baseline if baseline in done else rows[0].model),
        "agreement": {
            "lung_ml": agreements(lungs),
            "occupancy_percent": agreements(pairs_of(rows, results.details, "whole_chest")),
        },
        "details": [{"case": case, "model": name, **told} for (case, name), told in results.details.items()],
    }
    table = summary_table(headline_rows(rows))
    with staged_outputs(output, names, overwrite=overwrite) as stage:
        write_csv(stage / "per-case.csv", rows)
        (stage / "summary.json").write_text(json_text(found) + "\n", encoding="utf-8")
        (stage / "table.md").write_text(table, encoding="utf-8")
        page = evaluation_report(results, summary=found, record=record, spacing_mm=cases.frame_mm / cases.size)
        (stage / "report.html").write_text(page, encoding="utf-8")
    shell.print(table)
    for failure in results.failures:
        shell.note(f"not measured: {failure}")
    shell.print(f"report: {output / 'report.html'}")
    return {**found, "files": [output / name for name in names]}


def _evaluate_files(
    shell: Shell,
    dataset: Path,
    split: Path,
    output: Path,
    *,
    models: Sequence[str] | None,
    subset: SubsetName,
    size: int,
    geometry: GeometryName,
    assets: Path | None,
    device: str,
    seed: int,
    overwrite: bool,
) -> Mapping[str, Any]:
    """The form on CT files and a split."""
    from xrecon.config import load_config
    from xrecon.data.split import Split, cases_in
    from xrecon.errors import InputError
    from xrecon.evaluation.metrics.catalogue import CATALOGUE
    from xrecon.evaluation.study import STUDY_MODELS, WITH_BANK, evaluate_cases
    from xrecon.evaluation.tables import metric_names, summary, summary_table, write_csv
    from xrecon.inference.models import baseline_names
    from xrecon.io.output.staging import check_outputs, staged_outputs
    from xrecon.records import RunRecord
    from xrecon.report.parts.figures import reconstruction_preview, save_figure

    models = list(dict.fromkeys(models or baseline_names()))
    unknown = [one for one in models if one not in STUDY_MODELS]
    if unknown:
        raise InputError(
            f"unknown models {', '.join(unknown)}; on CT files choose from {', '.join(STUDY_MODELS)}, trained networks "
            "are evaluated on a data set of `xrecon prepare`"
        )
    lists = load_config(Split, split)
    cases = cases_in(dataset, lists, subset.value)
    names = ["per-case.csv", "summary.json", "table.md", *(f"{name}.png" for name, _ in cases)]
    check_outputs(output, names, overwrite=overwrite)
    usable_device(device)
    bank = cases_in(dataset, lists, "train") if any(one.endswith(WITH_BANK) for one in models) else ()
    notes = []
    if subset is SubsetName.TRAIN:
        notes.append("Priors that were learned from these train cases flatter themselves here.")
        shell.note(notes[0])
    settings = {"subset": subset.value, "models": models, "size": size, "geometry": geometry.value}
    files = {**dict(cases), "split": split}
    record = RunRecord.of_files("xrecon evaluate", seed=seed, files=files, settings=settings).to_dict()
    rows: list[PerCase] = []
    residuals = {}
    with (
        staged_outputs(output, names, overwrite=overwrite) as stage,
        shell.progress("evaluating", total=len(cases)) as advance,
    ):
        results = evaluate_cases(
            cases,
            models=models,
            size=size,
            bank=bank,
            geometry=geometry.value,
            assets=assets,
            device=device,
            seed=seed,
            progress=shell.note,
        )
        for result in results:
            rows.extend(result.rows)
            name = result.case.name
            residuals[name] = result.residuals
            save_figure(
                reconstruction_preview(result.reconstruction, result.case.truth), stage / f"{result.case.name}.png"
            )
            advance(1)
        table = summary_table(rows)
        found = {
            **record,
            "notes": notes,
            "cases": [name for name, _ in cases],
            "bank": [name for name, _ in bank],
            "results": summary(rows),
            "film_residuals_before_after": residuals,
            "conventions": {name: CATALOGUE[name].convention for name in metric_names(rows)},
        }
        write_csv(stage / "per-case.csv", rows)
        (stage / "summary.json").write_text(json_text(found) + "\n", encoding="utf-8")
        (stage / "table.md").write_text(table, encoding="utf-8")
    shell.print(table)
    shell.print(f"per case: {output / 'per-case.csv'}")
    return {**found, "files": [output / name for name in names]}
