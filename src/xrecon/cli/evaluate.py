"""`xrecon evaluate`: every model on cases whose CT is known, from a prepared data set or from CT files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from xrecon.cli.common import OverwriteOption, SeedOption, Shell, example
from xrecon.cli.options import (
    MODEL_HELP,
    AssetsOption,
    CasesOption,
    CasesSplitOption,
    DeviceOption,
    GivenGeometryOption,
    OutputFolderOption,
    SchedulerOption,
    SubsetName,
    WorkersOption,
)


@example(
    "xrecon evaluate --dataset chests-96 --model runs/xrecon/model -o evaluation",
    "xrecon evaluate --dataset cases --split split.yaml --model atlas --model pca --model deform -o evaluation",
    "xrecon evaluate --dataset cases --split split.yaml --model deform --model deform+bank --size 128 -o evaluation",
)
def evaluate(
    shell: Shell,
    dataset: CasesOption,
    output: OutputFolderOption,
    split: CasesSplitOption = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", metavar="NAME|DIR", help=f"{MODEL_HELP}; may be repeated.")
    ] = None,
    subset: Annotated[
        SubsetName, typer.Option("--subset", help="Subset whose cases are reconstructed.")
    ] = SubsetName.TEST,
    size: Annotated[
        int | None,
        typer.Option(
            "--size", min=64, max=256, help="Voxels per edge for CT files; default 64. A data set has its own."
        ),
    ] = None,
    geometry: GivenGeometryOption = None,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", metavar="NAME", help="Model that the others are tested against; default deform."),
    ] = None,
    baselines: Annotated[
        bool | None,
        typer.Option(
            "--baselines/--no-baselines",
            help="Also evaluate atlas, pca and deform; default on data sets, and where no --model is given.",
        ),
    ] = None,
    anatomy: Annotated[
        bool, typer.Option("--anatomy/--no-anatomy", help="Run PTX-Seg on truth and reconstruction.")
    ] = True,
    structures: Annotated[
        Path | None,
        typer.Option(
            "--structures",
            metavar="FILE",
            help="For data sets: YAML that names label maps, by which heart and spine are measured.",
        ),
    ] = None,
    workers: WorkersOption = 1,
    scheduler: SchedulerOption = None,
    assets: AssetsOption = None,
    device: DeviceOption = "cpu",
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Reconstruct known CTs from simulated films with several models, and measure the error.

    The cases are those of a data set of `xrecon prepare`, with its size and its films, or the CT files of a
    folder: those of a subset of --split, or all of them if no --split is given. The table of the scanner is removed
    from truth and films of CT files.

    Writes per-case.csv, summary.json (mean, SD, bootstrap interval by patient, paired tests), table.md and report.html
    with all plots; for CT files also one picture per case. Results of single cases stay in results/ below the output
    folder, so that a run that was stopped goes on where it was.
    """
    from xrecon.evaluation.evaluation import STORE_NAME, run_evaluation
    from xrecon.evaluation.plan import plan_evaluation
    from xrecon.evaluation.results import TABLE_FILES
    from xrecon.io.output.staging import check_outputs, staged_outputs
    from xrecon.report.evaluation import evaluation_report
    from xrecon.report.parts.figures import preview_png

    check_outputs(output, (*TABLE_FILES, "report.html"), overwrite=overwrite)
    plan = plan_evaluation(
        dataset, models=model or (), subset=subset.value, split=split, size=size,
        geometry=None if geometry is None else geometry.value, baseline=baseline, baselines=baselines,
        anatomy=anatomy, structures=structures, assets=assets, device=device, seed=seed,
    )  # fmt: skip
    has_pictures = plan.cases.dataset is None
    check_outputs(output, [f"{name}.png" for name in plan.cases.names if has_pictures], overwrite=overwrite)
    with shell.steps("evaluating", total=len(plan.cases.sources)) as tell:
        report = run_evaluation(
            plan, output / STORE_NAME, workers=workers, scheduler=scheduler,
            preview=preview_png if has_pictures else None, progress=tell,
        )  # fmt: skip
    pictures = {f"{name}.png": path for name, path in report.results.previews.items()}
    names = [*TABLE_FILES, "report.html", *pictures]
    with staged_outputs(output, names, overwrite=overwrite) as stage:
        report.write(stage)
        (stage / "report.html").write_text(evaluation_report(report), encoding="utf-8")
        for name, picture in pictures.items():
            (stage / name).write_bytes(picture.read_bytes())
    shell.print(report.table)
    for failure in report.results.failures:
        shell.note(f"not measured: {failure}")
    shell.print(f"report: {output / 'report.html'}")
    return {**report.summary, "files": [output / name for name in names]}
