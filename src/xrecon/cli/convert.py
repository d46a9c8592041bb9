"""`xrecon convert`: a prepared data set in the layouts of other tools."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from xrecon.cli.common import OverwriteOption, Shell, example
from xrecon.cli.options import OutputFolderOption


class Layout(str, Enum):
    """Layouts that can be written."""

    X2CT = "x2ct"
    NNUNET = "nnunet"
    TRIPLES = "triples"


@example(
    "xrecon convert chests-96 -o x2ct --to x2ct",
    "xrecon convert chests-96 -o nnUNet_raw/Dataset001_Thorax --to nnunet",
    "xrecon convert chests-96 -o plain --to triples",
)
def convert(
    shell: Shell,
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder made by `xrecon prepare`.")],
    output: OutputFolderOption,
    to: Annotated[Layout, typer.Option("--to", help="Layout to write.")],
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Write a prepared data set as X2CT h5 files, for nnU-Net, or as plain CT and film files.

    The opposite direction is `xrecon prepare`: it reads X2CT h5 files as CTs. With `--films given` it also reads their
    films, or the PA and lateral film that lie beside a CT.
    """
    from xrecon.data.interchange_nnunet import export_nnunet
    from xrecon.data.interchange_triples import export_triples
    from xrecon.data.interchange_x2ct import export_x2ct
    from xrecon.data.manifest import load_manifest

    writers = {Layout.X2CT: export_x2ct, Layout.NNUNET: export_nnunet, Layout.TRIPLES: export_triples}
    with shell.progress("converting", total=len(load_manifest(dataset).cases)) as advance:
        written = writers[to](dataset, output, overwrite=overwrite, advance=advance)
    counts = ", ".join(f"{len(names)} {subset}" for subset, names in written.cases.items())
    shell.print(f"{output}: {counts} cases in the layout {to.value}")
    if written.left_out:
        shell.note(f"{written.left_out} aux cases were left out: the layout has no place for them")
    return {"output": output, "layout": to.value, "cases": written.cases, "left_out": written.left_out}
