"""Plain folders of CT, PA and lateral film: what any tool can read, and `xrecon prepare --films given` too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

from xrecon.data.dataset import PreparedDataset
from xrecon.data.exported import Exported
from xrecon.data.manifest import load_manifest
from xrecon.data.split import Subset
from xrecon.io.output.atomic import write_text_atomic


def export_triples(
    dataset: Path, folder: Path, *, overwrite: bool = False, advance: Callable[[int], None] = lambda _n: None
) -> Exported:
    """Write `<case>/ct.nii.gz` with its `pa` and `lateral` film (float TIFF, 16-bit PNG, JSON geometry), and a split.

    The folder's `split.yaml` is the split file of `xrecon prepare`.

    Raises InputError, OutputExistsError.
    """
    manifest = load_manifest(dataset)
    lists: dict[str, list[str]] = {}
    for subset in get_args(Subset):
        if not manifest.of_subset(subset):
            continue
        for case in PreparedDataset(dataset, subset):
            arrays = case.load()
            arrays.volume().save(folder / case.name / "ct.nii.gz", overwrite=overwrite)
            for film in arrays.films():
                film.save(folder / case.name / film.view, overwrite=overwrite)
            lists.setdefault(subset, []).append(case.name)
            advance(1)
    text = "".join(f"{subset}: [{', '.join(names)}]\n" for subset, names in lists.items())
    write_text_atomic(folder / "split.yaml", text, overwrite=overwrite)
    return Exported(lists)
