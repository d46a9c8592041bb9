"""`xrecon study`: whole experiments by one command. `pneumothorax`: does the lesion survive?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xrecon.cli.common import OverwriteOption, SeedOption, Shell, add_command, example
from xrecon.cli.help_text import command_group
from xrecon.cli.options import (
    MODEL_HELP,
    AssetsOption,
    CasesOption,
    CasesSplitOption,
    DeviceOption,
    GivenGeometryOption,
    OutputFolderOption,
    PhysicsName,
    SchedulerOption,
    SubsetName,
    WorkersOption,
)
from xrecon.json_text import json_text

if TYPE_CHECKING:
    from xrecon.evaluation.cases import FilmTaking
    from xrecon.evaluation.studies.pneumothorax_study import PneumothoraxReport
    from xrecon.evaluation.studies.robustness_study import RobustnessReport

app = command_group(
    "Run a whole experiment by one command and write its report.",
    examples=(
        "xrecon study pneumothorax --dataset chests-96 --model atlas --model deform -o study",
        "xrecon study robustness --dataset chests-96 --model deform -o robustness",
    ),
)
NAMES = ("rows.csv", "summary.json", "report.html")
"""Files of a study."""

ModelOption = Annotated[
    list[str] | None,
    typer.Option("--model", "--models", metavar="NAME|DIR", help=f"{MODEL_HELP}; may be repeated."),
]


SUBSET = typer.Option("--subset", help="Subset whose cases are studied.")
LIMIT = typer.Option("--limit", min=1, help="Largest number of patients to study; default: all.")


@example(
    "xrecon study pneumothorax --dataset chests-96 --model atlas --model deform -o study",
    "xrecon study pneumothorax --dataset chests-96 --model runs/x/model --sizes 0.02,0.05,0.1,0.2,0.4,0.6 -o study",
    "xrecon study pneumothorax --dataset cases --split split.yaml --size 96 --model deform -o study",
)
def pneumothorax(
    shell: Shell,
    dataset: CasesOption,
    output: OutputFolderOption,
    split: CasesSplitOption = None,
    model: ModelOption = None,
    subset: Annotated[SubsetName, SUBSET] = SubsetName.TEST,
    sizes: Annotated[
        str, typer.Option("--sizes", metavar="A,B,...", help="Planted occupancies of the side, 0.01..0.9.")
    ] = "0.05,0.2,0.5",
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Plants of each size per patient.")] = 1,
    detect_ml: Annotated[float, typer.Option("--detect-ml", min=0.1, help="Air that counts as found, mL.")] = 10.0,
    known_healthy: Annotated[
        list[str] | None,
        typer.Option(
            "--known-healthy",
            metavar="CASE",
            help="Study this case although `xrecon prepare` found free air in it: a reader saw none. Repeatable.",
        ),
    ] = None,
    limit: Annotated[int | None, LIMIT] = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size", min=64, max=256, help="Voxels per edge for CT files; default 96. A data set has its own."
        ),
    ] = None,
    geometry: GivenGeometryOption = None,
    mechanisms: Annotated[
        str, typer.Option("--mechanisms", metavar="A,B", help="Ways of planting, which take turns: flow, offset.")
    ] = "flow,offset",
    film_pixels: Annotated[
        int | None,
        typer.Option("--film-pixels", min=64, max=1024, help="Pixels per edge of the films of CT files; default 256."),
    ] = None,
    physics: Annotated[
        PhysicsName | None,
        typer.Option("--physics", help="Films of CT files: line integrals (linear), or a stand; default clinical."),
    ] = None,
    film_networks: Annotated[
        str,
        typer.Option(
            "--film-networks", metavar="DIR", help="What models with +films ask; default: the shipped film networks."
        ),
    ] = "default",
    workers: WorkersOption = 1,
    scheduler: SchedulerOption = None,
    assets: AssetsOption = None,
    device: DeviceOption = "cpu",
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Plant pneumothoraces in known CTs, film them, reconstruct with each model, and look for them with PTX-Seg.

    Writes rows.csv, summary.json and report.html: sensitivity, specificity, side, AUC, agreement of the occupancy, the
    lesion-preservation curve, the change of HU in the air and in its mirror image, and controls. Results of single
    chests stay in results/, so that a run that was stopped goes on where it was.
    """
    from xrecon.evaluation.studies.pneumothorax_study import (
        DEFAULT_MODELS,
        plan_pneumothorax_study,
        run_pneumothorax_study,
    )
    from xrecon.io.output.staging import check_outputs, staged_outputs
    from xrecon.report.study_pneumothorax import study_report

    check_outputs(output, NAMES, overwrite=overwrite)
    plan = plan_pneumothorax_study(
        dataset, models=model or DEFAULT_MODELS, subset=subset.value, split=split, sizes=_numbers(sizes),
        repeats=repeats, detect_ml=detect_ml, known_healthy=known_healthy or (), limit=limit, size=size,
        geometry=None if geometry is None else geometry.value, assets=assets, device=device, seed=seed,
        mechanisms=tuple(name.strip() for name in mechanisms.split(",")), film_networks=film_networks,
        film=_film_taking(film_pixels, physics),
    )  # fmt: skip
    with shell.steps("studying", total=len(plan.cases.sources)) as tell:
        report = run_pneumothorax_study(plan, output / "results", workers=workers, scheduler=scheduler, progress=tell)
    page = study_report(report)
    with staged_outputs(output, NAMES, overwrite=overwrite) as stage:
        _write(stage, report, page)
    _show_pneumothorax(shell, report, output)
    return {**report.summary, "files": [output / name for name in NAMES]}


def _film_taking(pixels: int | None, physics: PhysicsName | None) -> FilmTaking | None:
    """Settings of the films; None where neither option is given."""
    from xrecon.evaluation.cases import FilmTaking
    from xrecon.evaluation.studies.pneumothorax_study import STUDY_FILM

    if pixels is None and physics is None:
        return None
    return FilmTaking(pixels or STUDY_FILM.pixels, STUDY_FILM.physics if physics is None else physics.value)


add_command(app, pneumothorax, name="pneumothorax")


@example(
    "xrecon study robustness --dataset chests-64 --model atlas --model pca --kinds angle,noise -o robustness",
    "xrecon study robustness --dataset chests-96 --model runs/x/model --model deform -o robustness",
)
def robustness(
    shell: Shell,
    dataset: CasesOption,
    output: OutputFolderOption,
    split: CasesSplitOption = None,
    model: ModelOption = None,
    subset: Annotated[SubsetName, SUBSET] = SubsetName.TEST,
    kinds: Annotated[
        str | None,
        typer.Option(
            "--kinds",
            metavar="A,B,...",
            help="Disturbances to run: angle, distance, rotation, shift, noise, gain, gamma, crop, mirror, swap, "
            "missing; default: all.",
        ),
    ] = None,
    limit: Annotated[int | None, LIMIT] = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size", min=64, max=256, help="Voxels per edge for CT files; default 64. A data set has its own."
        ),
    ] = None,
    geometry: GivenGeometryOption = None,
    workers: WorkersOption = 1,
    scheduler: SchedulerOption = None,
    assets: AssetsOption = None,
    device: DeviceOption = "cpu",
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Disturb the films of known CTs one way at a time, and measure how much worse each model becomes.

    Angle between the views, distance, rotation, shift, noise, gain, gamma, crop, mirrored, swapped and missing film.
    The model is told the nominal geometry. Writes rows.csv, summary.json and report.html. Results of single films stay
    in results/, so that a run that was stopped goes on where it was.
    """
    from xrecon.evaluation.studies.disturbances import LEVELS
    from xrecon.evaluation.studies.robustness_study import DEFAULT_MODELS, plan_robustness_study, run_robustness_study
    from xrecon.io.output.staging import check_outputs, staged_outputs
    from xrecon.report.study_robustness import robustness_report

    check_outputs(output, NAMES, overwrite=overwrite)
    plan = plan_robustness_study(
        dataset, models=model or DEFAULT_MODELS, subset=subset.value, split=split,
        kinds=tuple(LEVELS) if kinds is None else [part.strip() for part in kinds.split(",") if part.strip()],
        limit=limit, size=size, geometry=None if geometry is None else geometry.value, assets=assets, device=device,
        seed=seed,
    )  # fmt: skip
    with shell.steps("studying", total=len(plan.cases.sources)) as tell:
        report = run_robustness_study(plan, output / "results", workers=workers, scheduler=scheduler, progress=tell)
    page = robustness_report(report)
    with staged_outputs(output, NAMES, overwrite=overwrite) as stage:
        _write(stage, report, page)
    _show_robustness(shell, report, output)
    return {**report.summary, "files": [output / name for name in NAMES]}


add_command(app, robustness, name="robustness")


def _numbers(text: str) -> list[float]:
    from xrecon.errors import InputError

    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise InputError(f"--sizes {text}: expected numbers with commas between them, such as 0.05,0.2,0.5") from error


def _write(stage: Path, report: PneumothoraxReport | RobustnessReport, page: str) -> None:
    """Write the files `NAMES`."""
    from xrecon.evaluation.studies.rows_csv import write_rows

    write_rows(stage / "rows.csv", report.rows)
    (stage / "summary.json").write_text(json_text(report.summary) + "\n", encoding="utf-8")
    (stage / "report.html").write_text(page, encoding="utf-8")


def _show_pneumothorax(shell: Shell, report: PneumothoraxReport, output: Path) -> None:
    from xrecon.report.study_pneumothorax import words

    rows = [
        [
            name,
            words(figures.sensitivity, share=True),
            words(figures.specificity, share=True),
            words(figures.side, share=True),
            words(figures.auc),
            words(figures.air_dice),
        ]
        for name, figures in report.statistics.items()
    ]
    shell.table(["Model", "Sensitivity", "Specificity", "Right side", "AUC", "Dice of the air"], rows)
    _show_end(shell, report, output)


def _show_robustness(shell: Shell, report: RobustnessReport, output: Path) -> None:
    from xrecon.evaluation.tables import format_value

    names = ("psnr_2500_db", "mae_body_hu")
    rows = [
        [
            figures.model,
            figures.kind,
            f"{figures.level:g}",
            *(format_value(name, figures.means[name].value) for name in names),
        ]
        for figures in report.statistics
    ]
    shell.table(["Model", "Disturbance", "Level", "PSNR, dB", "MAE in the body, HU"], rows)
    _show_end(shell, report, output)


def _show_end(shell: Shell, report: PneumothoraxReport | RobustnessReport, output: Path) -> None:
    for failure in report.failures:
        shell.note(f"not measured: {failure}")
    shell.print(f"report: {output / 'report.html'}")
