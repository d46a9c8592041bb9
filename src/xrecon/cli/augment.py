"""`xrecon augment`: a contact sheet of what the online augmentation makes of a prepared data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from xrecon.cli.common import OverwriteOption, SeedOption, SetOption, Shell, example
from xrecon.cli.options import SubsetName


@example(
    "xrecon augment DATASET -o sheet.png --count 6",
    "xrecon augment DATASET -o sheet.png --set pneumothorax.probability=1 --set beam.between_views_deg=0",
)
def augment(
    shell: Shell,
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Data set made by `xrecon prepare`.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Contact sheet to write, .png.")],
    count: Annotated[int, typer.Option("--count", min=1, max=64, help="Number of samples.")] = 6,
    size: Annotated[
        int | None, typer.Option("--size", min=16, help="Voxels and pixels per edge; default: as the data set.")
    ] = None,
    subset: Annotated[
        SubsetName, typer.Option("--subset", help="Subset whose cases are augmented.")
    ] = SubsetName.TRAIN,
    case: Annotated[str | None, typer.Option("--case", metavar="NAME", help="Augment this case only.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="YAML with the settings of the augmentation.")
    ] = None,
    overrides: SetOption = None,
    off: Annotated[
        bool, typer.Option("--off", help="Only project the films, whatever --config and --set say.")
    ] = False,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Draw a contact sheet of augmented samples: films, planes with labels, and the random values of each.

    The cases are taken in turn; sample i has the seed `--seed` + i. Beside the sheet a .json of the same name holds the
    settings and the random values of every sample. Research only.
    """
    from xrecon.augmentation.augmenter import Augmenter
    from xrecon.augmentation.settings import AugmentConfig
    from xrecon.config import load_config
    from xrecon.data.dataset import PreparedDataset
    from xrecon.errors import InputError
    from xrecon.io.output.atomic import check_absent, write_json_atomic
    from xrecon.report.augmentation import augmentation_sheet
    from xrecon.report.parts.figures import save_figure
    from xrecon.volume import RESEARCH_NOTICE

    side_car = output.with_suffix(".json")
    for path in (output, side_car):
        check_absent(path, overwrite=overwrite)
    settings = AugmentConfig.off() if off else load_config(AugmentConfig, config, overrides or ())
    data = PreparedDataset(dataset, subset.value)
    cases = [item for item in data if case is None or item.name == case]
    if not cases:
        names = ", ".join(item.name for item in data)
        raise InputError(f"{dataset}: no case {case!r} in the subset {subset.value!r}; it holds {names or 'none'}")
    augmenter = Augmenter(settings, size=size or data.size, frame_mm=data.frame_mm, beams=data.beams)
    samples = []
    with shell.progress("augmenting", total=count) as advance:
        for index in range(count):
            source = cases[index % len(cases)]
            samples.append((source.name, augmenter(source.load(), seed + index)))
            advance(1)
    figure = augmentation_sheet(samples, frame_mm=data.frame_mm, heading="Augmented samples")
    records = [{"case": name, **sample.record} for name, sample in samples]
    save_figure(figure, output, overwrite=overwrite)
    values = {"notice": RESEARCH_NOTICE, "settings": settings.model_dump(mode="json"), "samples": records}
    write_json_atomic(side_car, values, overwrite=overwrite)
    shell.print(f"{output}: {count} samples of {min(count, len(cases))} cases; {side_car} holds what was drawn")
    return {"sheet": output, "records": side_car, "samples": records}
