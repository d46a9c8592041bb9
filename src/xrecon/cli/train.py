"""`xrecon train`: what is learned from CTs. `xrecon train priors`: the statistical chest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from xrecon.cli.common import OverwriteOption, SeedOption, Shell, add_command, example
from xrecon.cli.options import SplitOption, chosen_cases

app = typer.Typer(
    help="Learn from a folder of CTs.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@example(
    "xrecon train priors cases -o priors.safetensors",
    "xrecon train priors cases -o priors.safetensors --split configs/splits/shared-data.yaml",
)
def priors(
    shell: Shell,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="One CT file, or DICOM folder, per patient.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Priors to write: .safetensors, and .json beside it.")
    ],
    split: SplitOption = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Coarse statistics in a fraction of the time, only to try things out.")
    ] = False,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Learn the anatomical prior of `reconstruct` from chest CTs: mean chest, and how chests differ.

    With --split only its train cases are read. Without it all CTs of the folder are used: keep test cases elsewhere.
    """
    from xrecon.errors import InputError
    from xrecon.io.staging import check_outputs
    from xrecon.priors.build import BuildSettings, build_priors
    from xrecon.volume import load_ct

    if output.suffix != ".safetensors":
        raise InputError(f"{output}: priors are written as safetensors; choose a name that ends in .safetensors")
    side_car = output.with_suffix(".json")
    check_outputs(output.parent, [output.name, side_car.name], overwrite=overwrite)
    cases = chosen_cases(folder, split)
    which = "all CTs of the folder (no --split)" if split is None else "the train cases of the split"
    shell.note(f"learning from {len(cases)} cases, {which}: {', '.join(name for name, _ in cases)}")
    with shell.progress("learning the priors"):
        volumes = [(name, load_ct(path)) for name, path in cases]
        settings = BuildSettings(seed=seed)
        if quick:
            settings = replace(settings, rounds=((20, 3e-4),), inverse_steps=20, draws_per_case=4, modes=16)
        asset = build_priors(volumes, settings=settings, progress=shell.note)
        asset.save(output, overwrite=overwrite)
    shell.print(f"{output}: priors of {len(cases)} cases, {output.stat().st_size / 1e6:.1f} MB ({which})")
    return {"priors": output, "side_car": side_car, "cases": [name for name, _ in cases], "used": which}


add_command(app, priors, name="priors")
