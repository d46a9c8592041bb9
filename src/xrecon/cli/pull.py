"""`xrecon pull`: chest CTs from the public archive, with their licences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xrecon.cli.common import Shell, example

if TYPE_CHECKING:
    from xrecon.preparation.pull import PullPlan


@example(
    "xrecon pull --list",
    "xrecon pull --collection lidc_idri --limit 50 -o cts --dry-run",
    "xrecon pull --collection lidc_idri --limit 50 -o cts",
)
def pull(
    shell: Shell,
    collection: Annotated[
        str | None, typer.Option("--collection", metavar="NAME", help="Collection of the archive, e.g. lidc_idri.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder to download to; made if absent.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Largest number of series to take; default: all.")
    ] = None,
    per_patient: Annotated[
        int, typer.Option("--per-patient", min=1, help="Largest number of series of one patient.")
    ] = 1,
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence", metavar="TEXT", help='Take only series whose licence starts with this text, e.g. "CC BY 4.0".'
        ),
    ] = None,
    least_images: Annotated[
        int, typer.Option("--least-images", min=1, help="Leave out series with fewer images.")
    ] = 40,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show number, size and licences, and download nothing.")
    ] = False,
    list_collections: Annotated[
        bool, typer.Option("--list", help="Show the collections with chest CTs, and download nothing.")
    ] = False,
) -> Mapping[str, Any]:
    """Download chest CTs from the NCI Imaging Data Commons; --list and --dry-run need no network.

    Writes xrecon-pull.json with the licence of every series, which `xrecon prepare` carries into the data set, and
    training into the model card. Read the terms of the collection (its DOI) before publishing anything.
    """
    from xrecon.errors import InputError
    from xrecon.preparation.pull import collections_with_chest_ct, download, plan_pull

    if list_collections:
        collections = collections_with_chest_ct()
        rows = [(item.name, str(item.patients), str(item.series), f"{item.gb:.0f}") for item in collections]
        shell.table(("collection", "patients", "CT series", "GB"), rows)
        return {"collections": [asdict(item) for item in collections]}
    if collection is None:
        raise InputError("give --collection NAME, or --list to see collections with chest CTs")
    if output is None and not dry_run:
        raise InputError("give --output DIR to download to, or --dry-run to look first")
    plan = plan_pull(collection, limit=limit, per_patient=per_patient, licence=licence, least_images=least_images)
    _print_plan(shell, collection, plan)
    record = None
    if not dry_run and output is not None:
        record = download(plan, output)
        shell.print(f"{output}: downloaded; next: xrecon prepare {output} -o DATASET")
    return {
        "collection": collection,
        "series": len(plan.series),
        "patients": plan.patients,
        "size_mb": round(plan.size_mb, 1),
        "licences": plan.licences(),
        "dois": plan.dois,
        "series_in_all": plan.series_in_all,
        "size_mb_in_all": round(plan.size_mb_in_all, 1),
        "index_version": plan.index_version,
        "record": record,
    }


def _print_plan(shell: Shell, collection: str, plan: PullPlan) -> None:
    row = (
        f"{len(plan.series)} of {plan.series_in_all}",
        f"{plan.patients} of {plan.patients_in_all}",
        str(plan.images),
        f"{plan.size_mb / 1000:.2f} of {plan.size_mb_in_all / 1000:.1f} GB",
        ", ".join(f"{name or 'not stated'} ({count})" for name, count in plan.licences().items()),
    )
    title = f"{collection}, archive index {plan.index_version}"
    shell.table(("series", "patients", "images", "size", "licences"), [row], title=title)
