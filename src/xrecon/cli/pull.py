"""`xrecon pull`: chest CTs from the public archive, with their licences."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from xrecon.cli.common import Shell, example


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
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Number of series; default all.")] = None,
    per_patient: Annotated[int, typer.Option("--per-patient", min=1, help="Series of one patient, at most.")] = 1,
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="TEXT", help='Only licences that start like this: "CC BY 4.0".')
    ] = None,
    least_images: Annotated[int, typer.Option("--least-images", min=1, help="Leave out shorter series.")] = 40,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show number, size and licences; download nothing.")
    ] = False,
    list_collections: Annotated[
        bool, typer.Option("--list", help="Show collections with chest CTs; download nothing.")
    ] = False,
) -> Mapping[str, Any]:
    """Download chest CTs from the NCI Imaging Data Commons; the query needs no network.

    Writes xrecon-pull.json with the licence of every series: xrecon prepare carries it into the data set, and training
    into the model card. Read the terms of the collection (its DOI) before publishing anything.
    """
    from xrecon.errors import InputError
    from xrecon.preparation.pull import collections_with_chest_ct, download, plan_pull

    if list_collections:
        rows = collections_with_chest_ct()
        table = [(name, str(patients), str(series), f"{size:.0f}") for name, patients, series, size in rows]
        shell.table(("collection", "patients", "CT series", "GB"), table)
        return {"collections": [dict(zip(("name", "patients", "series", "gb"), row, strict=True)) for row in rows]}
    if collection is None:
        raise InputError("give --collection NAME, or --list to see collections with chest CTs")
    if output is None and not dry_run:
        raise InputError("give --output DIR to download to, or --dry-run to look first")
    plan = plan_pull(collection, limit=limit, per_patient=per_patient, licence=licence, least_images=least_images)
    shell.table(
        ("series", "patients", "images", "size", "licences"),
        [
            (
                f"{len(plan.series)} of {plan.series_in_all}",
                f"{plan.patients} of {plan.patients_in_all}",
                str(sum(one.images for one in plan.series)),
                f"{plan.size_mb / 1000:.2f} of {plan.size_mb_in_all / 1000:.1f} GB",
                ", ".join(f"{name or 'not stated'} ({count})" for name, count in plan.licences().items()),
            )
        ],
        title=f"{collection}, archive index {plan.index_version}",
    )
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
        "dois": sorted({one.doi for one in plan.series if one.doi}),
        "series_in_all": plan.series_in_all,
        "size_mb_in_all": round(plan.size_mb_in_all, 1),
        "index_version": plan.index_version,
        "record": record,
    }
