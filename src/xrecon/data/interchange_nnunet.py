"""Export of a prepared data set to the raw folder layout of nnU-Net: CTs, labels, `dataset.json` and the folds.

Layout: `DatasetNNN_Name/imagesTr/CASE_0000.nii.gz`, `labelsTr/CASE.nii.gz`, `imagesTs`, `labelsTs`. Channel 0 is the
CT in HU; labels are 0 background, 1 right lung, 2 left lung, 3 free pleural air. `splits_final.json` holds the folds;
nnU-Net reads it from its own preprocessed folder, copy it there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xrecon.data.case_file import CaseData
from xrecon.data.dataset import PreparedDataset
from xrecon.data.exported import Exported
from xrecon.data.manifest import Manifest, load_manifest
from xrecon.data.split import Subset
from xrecon.errors import InputError
from xrecon.io.nifti import write_nifti
from xrecon.io.output.atomic import write_json_atomic
from xrecon.segmentation import Label
from xrecon.volume import RESEARCH_NOTICE

LABELS = {"background": 0, "right_lung": 1, "left_lung": 2, "free_air": 3}
_FOLDER = re.compile(r"^Dataset\d{3}_[A-Za-z0-9_-]+$")
_PLACES: Mapping[Subset, tuple[str, str]] = {"train": ("imagesTr", "labelsTr"), "test": ("imagesTs", "labelsTs")}


def lung_labels(case: CaseData) -> NDArray[np.uint8]:
    """[D, H, W]: 1 right lung, 2 left lung, 3 free pleural air."""
    return np.where(case.air > 0, np.uint8(Label.AIR), case.sides).astype(np.uint8)


def export_nnunet(
    dataset: Path, folder: Path, *, overwrite: bool = False, advance: Callable[[int], None] = lambda _n: None
) -> Exported:
    """Write the train and test cases; aux cases have no place in the layout and are left out (the result counts them).

    Args:
        dataset: folder of `xrecon prepare`.
        folder: to write; its name must follow nnU-Net's rule, `Dataset001_Thorax`.
        overwrite: replace files.
        advance: called with 1 after each case.

    Raises:
        InputError: the name of the folder, or the data set as `PreparedDataset`.
        OutputExistsError: files exist.
    """
    folder = Path(folder)
    if not _FOLDER.match(folder.name):
        raise InputError(f"{folder}: nnU-Net expects a folder named like Dataset001_Thorax; choose such a name")
    manifest = load_manifest(dataset)
    written: dict[str, list[str]] = {"train": [], "test": []}
    for subset, (images, labels) in _PLACES.items():
        if not manifest.of_subset(subset):
            continue
        for case in PreparedDataset(dataset, subset):
            arrays = case.load()
            arrays.volume().save(folder / images / f"{case.name}_0000.nii.gz", overwrite=overwrite)
            write_nifti(
                folder / labels / f"{case.name}.nii.gz",
                lung_labels(arrays),
                arrays.affine,
                description=RESEARCH_NOTICE,
                overwrite=overwrite,
                dtype=np.uint8,
            )
            written[subset].append(case.name)
            advance(1)
    write_json_atomic(folder / "dataset.json", _description(manifest, len(written["train"])), overwrite=overwrite)
    if manifest.folds:
        write_json_atomic(folder / "splits_final.json", _folds(manifest), overwrite=overwrite)
    return Exported(written, left_out=len(manifest.of_subset("aux")))


def _description(manifest: Manifest, train_count: int) -> dict[str, object]:
    """The content of nnU-Net's `dataset.json`."""
    licences = manifest.licences()
    return {
        "channel_names": {"0": "CT"},
        "labels": LABELS,
        "numTraining": train_count,
        "file_ending": ".nii.gz",
        "description": RESEARCH_NOTICE,
        "licence": "; ".join(sorted({part["licence"] for part in licences if part["licence"]})),
        "reference": "; ".join(sorted({part["source"] for part in licences if part["source"]})),
    }


def _folds(manifest: Manifest) -> list[dict[str, list[str]]]:
    """The content of nnU-Net's `splits_final.json`: train and validation cases of each fold."""
    train = manifest.of_subset("train")
    return [
        {
            "train": [case.name for case in train if case.fold != number],
            "val": [case.name for case in train if case.fold == number],
        }
        for number in range(manifest.folds)
    ]
