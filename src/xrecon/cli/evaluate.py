"""`xrecon evaluate`: every model on cases whose CT is known."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xrecon.cli.common import OverwriteOption, SeedOption, Shell, example, to_json
from xrecon.cli.options import (
    AssetsOption,
    DeviceOption,
    GeometryName,
    GeometryOption,
    OutputFolderOption,
    SizeOption,
    run_record,
    usable_device,
)

if TYPE_CHECKING:
    from xrecon.evaluation.tables import PerCase


class SubsetName(str, Enum):
    """Lists of a split."""

    TEST = "test"
    TRAIN = "train"


class StudyModel(str, Enum):
    """What can be compared: the models of `reconstruct`, and deform with the train cases as its bank."""

    ATLAS = "atlas"
    PCA = "pca"
    DEFORM = "deform"
    DEFORM_BANK = "deform+bank"


@example(
    "xrecon evaluate --dataset cases --split split.yaml --model atlas --model pca --model deform -o evaluation",
    "xrecon evaluate --dataset cases --split split.yaml --model deform --model deform+bank --size 128 -o evaluation",
)
def evaluate(
    shell: Shell,
    dataset: Annotated[Path, typer.Option("--dataset", metavar="FOLDER", help="One CT file per case.")],
    split: Annotated[Path, typer.Option("--split", metavar="FILE", help="YAML with the lists train and test.")],
    output: OutputFolderOption,
    model: Annotated[
        list[StudyModel] | None, typer.Option("--model", help="May be repeated; default atlas, pca and deform.")
    ] = None,
    subset: Annotated[SubsetName, typer.Option("--subset", help="Which cases.")] = SubsetName.TEST,
    size: SizeOption = 64,
    geometry: GeometryOption = GeometryName.CHEST,
    assets: AssetsOption = None,
    device: DeviceOption = "cpu",
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Reconstruct known CTs from simulated films with several models, and measure the error.

    Prints a table (mean and standard deviation over the cases), and writes per-case.csv, summary.json, table.md and
    one picture per case. The table of the scanner is removed from truth and films.
    """
    from xrecon.config import load_config
    from xrecon.data.split import Split, cases_in
    from xrecon.evaluation.image import CONVENTIONS
    from xrecon.evaluation.study import WITH_BANK, evaluate_cases
    from xrecon.evaluation.tables import metric_names, summary, summary_table, write_csv
    from xrecon.io.staging import check_outputs, staged_outputs
    from xrecon.report.figures import reconstruction_preview, save_figure

    models = list(dict.fromkeys(one.value for one in model or (StudyModel.ATLAS, StudyModel.PCA, StudyModel.DEFORM)))
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
    record = run_record("evaluate", seed=seed, inputs={**dict(cases), "split": split}, settings=settings)
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
            "conventions": {name: CONVENTIONS[name] for name in metric_names(rows)},
        }
        write_csv(stage / "per-case.csv", rows)
        (stage / "summary.json").write_text(to_json(found) + "\n", encoding="utf-8")
        (stage / "table.md").write_text(table, encoding="utf-8")
    shell.print(table)
    shell.print(f"per case: {output / 'per-case.csv'}")
    return {**found, "files": [output / name for name in names]}
