"""`xrecon study`: whole experiments by one command. `pneumothorax`: does the lesion survive?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xrecon.cli.common import OverwriteOption, SeedOption, Shell, add_command, example
from xrecon.cli.evaluate import SubsetName
from xrecon.cli.help_text import command_group
from xrecon.cli.options import MODEL_HELP, AssetsOption, GeometryName, GeometryOption, OutputFolderOption, SizeOption
from xrecon.json_text import json_text

if TYPE_CHECKING:
    from xrecon.evaluation.cases import ChestSource
    from xrecon.evaluation.pneumothorax_summary import StudyFigures

app = command_group(
    "Run a whole experiment by one command and write its report.",
    examples=(
        "xrecon study pneumothorax --dataset chests-96 --model atlas --model deform -o study",
        "xrecon study robustness --dataset chests-96 --model deform -o robustness",
    ),
)

DatasetOption = Annotated[
    Path, typer.Option("--dataset", metavar="FOLDER", help="Made by `xrecon prepare`; or, with --split, CT files.")
]
SplitOption = Annotated[
    Path | None, typer.Option("--split", metavar="FILE", help="YAML with the lists train and test, for CT files.")
]
ModelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "--models",
        metavar="NAME|DIR",
        help=f"{MODEL_HELP}; may be repeated.",
    ),
]
WorkersOption = Annotated[int, typer.Option("--workers", min=1, help="Patients at a time (more than 1 needs Dask).")]
SchedulerOption = Annotated[
    str | None, typer.Option("--scheduler", metavar="ADDRESS", help="Run on this Dask cluster.")
]


@example(
    "xrecon study pneumothorax --dataset chests-96 --model atlas --model deform -o study",
    "xrecon study pneumothorax --dataset chests-96 --model runs/x/model --sizes 0.02,0.05,0.1,0.2,0.4,0.6 -o study",
    "xrecon study pneumothorax --dataset cases --split split.yaml --size 96 --model deform -o study",
)
def pneumothorax(
    shell: Shell,
    dataset: DatasetOption,
    output: OutputFolderOption,
    split: SplitOption = None,
    model: ModelOption = None,
    subset: Annotated[SubsetName, typer.Option("--subset", help="Which cases.")] = SubsetName.TEST,
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
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only so many patients.")] = None,
    size: SizeOption = 96,
    geometry: GeometryOption = GeometryName.CHEST,
    workers: WorkersOption = 1,
    scheduler: SchedulerOption = None,
    assets: AssetsOption = None,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Plant pneumothoraces in known CTs, film them, reconstruct with each model, and look for them with PTX-Seg.

    Writes rows.csv, summary.json and report.html: sensitivity, specificity, side, AUC, agreement of the occupancy, the
    lesion-preservation curve, the change of HU in the air and in its mirror image, and controls. Results of single
    chests stay in results/, so that a run that was stopped goes on where it was. On a data set --size and --geometry
    are its own.
    """
    from xrecon.environment import run_environment
    from xrecon.evaluation.models import bank_for, choose_models
    from xrecon.evaluation.pneumothorax_study import plan, run_pneumothorax_study
    from xrecon.evaluation.pneumothorax_summary import summarise_study
    from xrecon.io.output.staging import check_outputs, staged_outputs
    from xrecon.report.study_pneumothorax import study_report
    from xrecon.volume import RESEARCH_NOTICE

    names = ["rows.csv", "summary.json", "report.html"]
    check_outputs(output, names, overwrite=overwrite)
    bank = bank_for(model or (), dataset if split is None else None, subset.value)
    chosen = choose_models(model or ("atlas", "deform"), assets=assets, baselines=(), bank=bank)
    sources, notes = _healthy_sources(dataset, split, subset, known_healthy or (), size=size, geometry=geometry)
    sources = sources[:limit]
    plants = plan(len(sources), sizes=_numbers(sizes), repeats=repeats, seed=seed)
    record = {
        "notice": RESEARCH_NOTICE,
        "command": "xrecon study pneumothorax",
        "environment": run_environment(),
        "seed": seed,
        "inputs": {one.name: {"sha256": one.digest} for one in sources},
        "models": {one.label: one.digest for one in chosen},
        "settings": {
            "subset": subset.value, "sizes": sizes, "repeats": repeats, "detect_ml": detect_ml,
            "size": sources[0].size, "geometry": sources[0].geometry, "known_healthy": list(known_healthy or ()),
        },
    }  # fmt: skip
    with shell.progress("studying", total=len(sources)) as advance:

        def tell(text: str) -> None:
            advance(1)
            shell.note(text)

        results = run_pneumothorax_study(
            sources, plants, chosen, output / "results", assets=assets, seed=seed, workers=workers,
            scheduler=scheduler, progress=tell,
        )  # fmt: skip
    notes += [
        "The pneumothoraces are planted, not real; films are line integrals without scatter and noise.",
        "PTX-Seg sees the true CT on the reconstruction's grid: its own misses and false alarms there are the floor.",
    ]
    if subset is SubsetName.TRAIN:
        notes.append("Train cases: models and priors that have learned from them flatter themselves here.")
    results_by_model = summarise_study(results.rows, detect_ml=detect_ml, seed=seed)
    found = {
        **record,
        "notes": notes,
        "detect_ml": detect_ml,
        "failures": results.failures,
        "plants": {source.name: own for source, own in zip(sources, plants, strict=True)},
        "results": results_by_model,
    }
    with staged_outputs(output, names, overwrite=overwrite) as stage:
        _write_rows(stage / "rows.csv", results.rows)
        (stage / "summary.json").write_text(json_text(found) + "\n", encoding="utf-8")
        (stage / "report.html").write_text(study_report(results, summary=found, record=record), encoding="utf-8")
    _show(shell, results_by_model, output, results.failures)
    return {**found, "files": [output / name for name in names]}


add_command(app, pneumothorax, name="pneumothorax")


@example(
    "xrecon study robustness --dataset chests-64 --model atlas --model pca --kinds angle,noise -o robustness",
    "xrecon study robustness --dataset chests-96 --model runs/x/model --model deform -o robustness",
)
def robustness(
    shell: Shell,
    dataset: DatasetOption,
    output: OutputFolderOption,
    split: SplitOption = None,
    model: ModelOption = None,
    subset: Annotated[SubsetName, typer.Option("--subset", help="Which cases.")] = SubsetName.TEST,
    kinds: Annotated[
        str | None,
        typer.Option("--kinds", metavar="A,B,...", help="angle, distance, rotation, shift, noise, ...; default all."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only so many cases.")] = None,
    size: SizeOption = 64,
    geometry: GeometryOption = GeometryName.CHEST,
    workers: WorkersOption = 1,
    scheduler: SchedulerOption = None,
    assets: AssetsOption = None,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Disturb the films of known CTs one way at a time, and measure how much worse each model becomes.

    Angle between the views, distance, rotation, shift, noise, gain, gamma, crop, mirrored, swapped and missing film.
    The model is told the nominal geometry. Writes rows.csv, summary.json and report.html; goes on where it was.
    """
    from xrecon.environment import run_environment
    from xrecon.evaluation.models import bank_for, choose_models
    from xrecon.evaluation.robustness_study import LEVELS, run_robustness_study
    from xrecon.io.output.staging import check_outputs, staged_outputs
    from xrecon.report.study_robustness import robustness_report, summarise_robustness
    from xrecon.volume import RESEARCH_NOTICE

    names = ["rows.csv", "summary.json", "report.html"]
    check_outputs(output, names, overwrite=overwrite)
    bank = bank_for(model or (), dataset if split is None else None, subset.value)
    chosen = choose_models(model or ("atlas", "pca"), assets=assets, baselines=(), bank=bank)
    wanted = tuple(LEVELS) if kinds is None else tuple(part.strip() for part in kinds.split(",") if part.strip())
    sources = _sources(dataset, split, subset, size=size, geometry=geometry)[:limit]
    record = {
        "notice": RESEARCH_NOTICE,
        "command": "xrecon study robustness",
        "environment": run_environment(),
        "seed": seed,
        "inputs": {one.name: {"sha256": one.digest} for one in sources},
        "models": {one.label: one.digest for one in chosen},
        "settings": {"subset": subset.value, "kinds": wanted, "size": sources[0].size},
    }
    with shell.progress("studying", total=len(sources)) as advance:

        def tell(text: str) -> None:
            advance(1)
            shell.note(text)

        rows, failures = run_robustness_study(
            sources, chosen, output / "results", kinds=wanted, assets=assets, seed=seed, workers=workers,
            scheduler=scheduler, progress=tell,
        )  # fmt: skip
    notes = [f"{len(sources)} cases; films are line integrals without scatter and noise before the disturbance."]
    entries = summarise_robustness(rows, seed=seed)
    found = {**record, "notes": notes, "failures": failures, "results": entries}
    with staged_outputs(output, names, overwrite=overwrite) as stage:
        _write_rows(stage / "rows.csv", rows)
        (stage / "summary.json").write_text(json_text(found) + "\n", encoding="utf-8")
        page = robustness_report(entries, failures=failures, notes=notes, record=record)
        (stage / "report.html").write_text(page, encoding="utf-8")
    columns = ["Model", "Disturbance", "Level", "PSNR, dB", "MAE in the body, HU"]
    shell.table(
        columns,
        [
            [
                one["model"], one["kind"], f"{one['level']:g}",
                f"{one['psnr_2500_db']['value']:.2f}", f"{one['mae_body_hu']['value']:.1f}",
            ]
            for one in entries
        ],
    )  # fmt: skip
    for failure in failures:
        shell.note(f"not measured: {failure}")
    shell.print(f"report: {output / 'report.html'}")
    return {**found, "files": [output / name for name in names]}


add_command(app, robustness, name="robustness")


def _healthy_sources(
    dataset: Path,
    split: Path | None,
    subset: SubsetName,
    known: Sequence[str],
    *,
    size: int,
    geometry: GeometryName,
) -> tuple[tuple[ChestSource, ...], list[str]]:
    """The chests in which one can plant, and in words who was left out or taken in spite of what was found."""
    from xrecon.data.dataset import PreparedDataset
    from xrecon.errors import InputError
    from xrecon.evaluation.cases import healthy_sources

    if split is not None:
        if known:
            raise InputError("--known-healthy is for a data set of `xrecon prepare`; of CT files none is left out")
        return _sources(dataset, split, subset, size=size, geometry=geometry), []
    prepared = PreparedDataset(dataset, subset.value)
    sources = healthy_sources(prepared, known=known)
    kept = {one.name for one in sources}
    out = [case.name for case in prepared.cases if case.name not in kept]
    notes = [f"Left out, because `xrecon prepare` found free pleural air in them: {', '.join(out)}."] if out else []
    if known:
        notes.append(f"Taken as healthy on a reader's word, whatever `xrecon prepare` found: {', '.join(known)}.")
    return sources, notes


def _sources(
    dataset: Path, split: Path | None, subset: SubsetName, *, size: int, geometry: GeometryName
) -> tuple[ChestSource, ...]:
    """The chests of a data set, or of CT files with a split."""
    from xrecon.config import load_config
    from xrecon.data.dataset import PreparedDataset
    from xrecon.data.split import Split, cases_in
    from xrecon.evaluation.cases import file_sources, prepared_sources

    if split is None:
        return prepared_sources(PreparedDataset(dataset, subset.value))
    cases = cases_in(dataset, load_config(Split, split), subset.value)
    return file_sources(cases, size=size, geometry=geometry.value)


def _numbers(text: str) -> list[float]:
    from xrecon.errors import InputError

    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise InputError(f"--sizes {text}: expected numbers with commas between them, such as 0.05,0.2,0.5") from error


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line per chest and model; nested values get a dotted name, what was not measured is empty."""
    import csv

    flat = [_flat(row) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, names, restval="")
        writer.writeheader()
        writer.writerows(flat)


def _flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            values.update(_flat(value, f"{prefix}{key}."))
        else:
            values[prefix + key] = "; ".join(map(str, value)) if isinstance(value, list) else value
    return {key: "" if value is None else value for key, value in values.items()}


def _show(shell: Shell, figures: Mapping[str, StudyFigures], output: Path, failures: Sequence[str]) -> None:
    from xrecon.report.study_pneumothorax import words

    rows = [
        [
            name,
            words(values.sensitivity, share=True),
            words(values.specificity, share=True),
            words(values.side, share=True),
            words(values.auc),
            words(values.air_dice),
        ]
        for name, values in figures.items()
    ]
    shell.table(["Model", "Sensitivity", "Specificity", "Right side", "AUC", "Dice of the air"], rows)
    for failure in failures:
        shell.note(f"not measured: {failure}")
    shell.print(f"report: {output / 'report.html'}")
