"""Which cases an evaluation or a study uses: one subset of a data set, or CT files with or without a split."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from xrecon.config import load_config
from xrecon.data.ct_folder import find_cases
from xrecon.data.dataset import PreparedDataset
from xrecon.data.manifest import MANIFEST_NAME
from xrecon.data.split import Split, Subset, cases_in
from xrecon.errors import InputError
from xrecon.evaluation.cases import CaseSource, file_sources, prepared_sources
from xrecon.geometry import FRAME_MM
from xrecon.io.guards.files import sha256_of

DEFAULT_GEOMETRY = "chest"
"""Preset of the films of CT files; a data set has films of its own."""


@dataclass(frozen=True)
class CaseSet:
    """The cases, and where they come from.

    Attributes:
        sources: the cases, in the order of the data set or the split.
        subset: "train", "test" or "aux".
        size: voxels per edge of the frame.
        geometry: preset of the films.
        folder: the data set, or the folder of CT files.
        dataset: the data set of `xrecon prepare`; None for CT files.
        split: the split of CT files; None for none.
        split_file: where it was read from.
        notes: what a reader should know of the choice.
    """

    sources: tuple[CaseSource, ...]
    subset: Subset
    size: int
    geometry: str
    folder: Path
    dataset: PreparedDataset | None = None
    split: Split | None = None
    split_file: Path | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the cases."""
        return tuple(source.name for source in self.sources)

    @property
    def patients(self) -> tuple[str, ...]:
        """Pseudonyms of the patients, sorted, each once."""
        return tuple(sorted({source.patient for source in self.sources}))

    @property
    def spacing_mm(self) -> float:
        """Voxel pitch of the frame."""
        frame_mm = FRAME_MM if self.dataset is None else self.dataset.frame_mm
        return frame_mm / self.size

    def digests(self) -> dict[str, str]:
        """SHA-256 by name of the cases, and of the split."""
        split = {} if self.split_file is None else {"split": sha256_of(self.split_file)}
        return {**{source.name: source.digest for source in self.sources}, **split}

    def limited(self, number: int | None) -> CaseSet:
        """Only the first `number` cases; all for None."""
        return replace(self, sources=self.sources[:number])

    def bank(self) -> tuple[CaseSource, ...]:
        """The train cases, as a bank of CTs of other patients.

        Raises:
            InputError: there are none, or the train cases of a data set are themselves evaluated.
        """
        if self.dataset is not None and self.subset != "train":
            return prepared_sources(PreparedDataset(self.dataset.path, "train"))
        if self.split is not None:
            cases = cases_in(self.folder, self.split, "train")
            return file_sources(cases, size=self.size, geometry=self.geometry)
        raise InputError(
            "a bank are the train cases of a data set of `xrecon prepare` or of a split, and only other cases can be "
            "reconstructed with them; give such a data set or --split FILE, or leave the model with a bank out"
        )


def find_case_set(
    folder: str | os.PathLike[str],
    *,
    default_size: int,
    subset: str = "test",
    split: str | os.PathLike[str] | None = None,
    size: int | None = None,
    geometry: str | None = None,
) -> CaseSet:
    """The cases of a data set of `xrecon prepare`, or of a folder of CT files.

    Args:
        folder: the data set, or the CT files.
        default_size: voxels per edge for CT files where `size` is None.
        subset: "train", "test" or "aux"; without a split all CT files are test cases.
        split: YAML with the lists train and test, for CT files.
        size: voxels per edge of the frame; None: that of the data set.
        geometry: preset of the films; None: that of the data set, "chest" for CT files.

    Raises:
        InputError: no cases, or an option that the folder leaves no room for: a split, another size or another
            geometry for a data set, another subset than test for CT files without a split.
        ConfigError: the split cannot be read.
    """
    folder = Path(folder)
    if subset not in get_args(Subset):
        raise InputError(f"--subset {subset}: expected one of {', '.join(get_args(Subset))}")
    name: Subset = subset  # type: ignore[assignment]
    if folder.name == MANIFEST_NAME or (folder / MANIFEST_NAME).is_file():
        return _of_dataset(folder, name, split=split, size=size, geometry=geometry)
    size, geometry = size or default_size, geometry or DEFAULT_GEOMETRY
    if split is not None:
        lists = load_config(Split, split)
        sources = file_sources(cases_in(folder, lists, name), size=size, geometry=geometry)
        return CaseSet(sources, name, size, geometry, folder, split=lists, split_file=Path(split))
    if name != "test":
        raise InputError(
            f"--subset {name}: {folder} is no data set of `xrecon prepare` and has no split, so all its CTs are "
            "evaluated as test cases; give --split FILE to name others, or leave --subset out"
        )
    try:
        cases = find_cases(folder)
    except InputError as error:
        raise InputError(
            f"{error}. Expected a data set of `xrecon prepare` ({MANIFEST_NAME}) or a folder of CT files; give --split "
            "FILE to evaluate only some of them"
        ) from error
    note = "No split was given: all CTs of the folder count as test cases; whether a model has seen them is not known."
    return CaseSet(file_sources(cases, size=size, geometry=geometry), name, size, geometry, folder, notes=(note,))


def _of_dataset(
    folder: Path, subset: Subset, *, split: str | os.PathLike[str] | None, size: int | None, geometry: str | None
) -> CaseSet:
    if split is not None:
        raise InputError(
            f"--split {split}: {folder} is a data set of `xrecon prepare`, which has a split of its own; leave it out"
        )
    dataset = PreparedDataset(folder, subset)
    if size not in (None, dataset.size):
        raise InputError(
            f"--size {size}: the cases of the data set {folder} have {dataset.size} voxels per edge; leave it out, or "
            f"prepare the CTs again with --size {size}"
        )
    name = dataset.manifest.geometry.name
    if geometry not in (None, name):
        raise InputError(
            f"--geometry {geometry}: the films of the data set {folder} have the geometry {name}; leave it out, or "
            f"prepare the CTs again with --geometry {geometry}"
        )
    return CaseSet(prepared_sources(dataset), subset, dataset.size, name, dataset.path, dataset=dataset)
