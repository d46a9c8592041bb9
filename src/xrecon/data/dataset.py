"""A prepared data set as training reads it: the cases of one subset, mapped into memory, refused where it leaks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xrecon.data.case_file import CaseData, read_case
from xrecon.data.manifest import MANIFEST_NAME, CaseRecord, Manifest, check_no_leak, load_manifest
from xrecon.data.split import Subset
from xrecon.errors import CheckpointError, InputError
from xrecon.geometry import ConeBeam
from xrecon.io.guards.files import sha256_of


@dataclass(frozen=True)
class PreparedCase:
    """A case of a data set: its record in the manifest, and the file that holds its arrays."""

    record: CaseRecord
    path: Path

    @property
    def name(self) -> str:
        """Pseudonym of the scan."""
        return self.record.name

    @property
    def patient(self) -> str:
        """Pseudonym of the patient."""
        return self.record.patient

    def load(self) -> CaseData:
        """The arrays, mapped copy-on-write. Raises InputError, CheckpointError as `read_case`."""
        return read_case(self.path)

    def verify(self) -> None:
        """Compare the file with its digest. Raises CheckpointError, or InputError where it is missing."""
        digest = sha256_of(self.path)
        if digest != self.record.sha256:
            raise CheckpointError(
                f"{self.path}: damaged: sha256 {digest[:12]}..., the data set says {self.record.sha256[:12]}...; "
                "prepare it again"
            )


class PreparedDataset:
    """The cases of one subset of a data set made by `xrecon prepare`.

    Args:
        path: the data set's folder (or its `dataset.json`).
        subset: "train", "test" or "aux".

    Attributes:
        path: the folder.
        manifest: all of `dataset.json`.
        subset: as given.
        cases: the cases, in the order of the manifest.

    Raises:
        InputError: not a data set, another schema, an empty subset, files missing, or subsets that share a patient or a
            CT: no training starts on such a set.

    Example:
        >>> train = PreparedDataset("chests-96", "train")
        >>> arrays = train[0].load()
        >>> arrays.ct.shape, arrays.pa.shape
        ((96, 96, 96), (96, 96))
    """

    def __init__(self, path: str | os.PathLike[str], subset: Subset = "train") -> None:
        folder = Path(path)
        if folder.name == MANIFEST_NAME:
            folder = folder.parent
        if not (folder / MANIFEST_NAME).is_file():
            raise InputError(f"{folder}: holds no {MANIFEST_NAME}; give the folder that `xrecon prepare` wrote")
        manifest = load_manifest(folder)
        check_no_leak(manifest)
        self._set(folder, manifest, subset, manifest.of_subset(subset))

    def _set(self, folder: Path, manifest: Manifest, subset: Subset, records: Sequence[CaseRecord]) -> None:
        if not records:
            raise InputError(f"{folder}: the data set holds no {subset} cases")
        self.path = folder
        self.manifest = manifest
        self.subset = subset
        self.cases = tuple(PreparedCase(record, folder / record.file) for record in records)
        missing = [case.name for case in self.cases if not case.path.is_file()]
        if missing:
            raise InputError(
                f"{folder}: the files of {len(missing)} {subset} cases are missing: {', '.join(missing[:5])}; copy "
                "the whole folder, or run `xrecon prepare` again"
            )

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> PreparedCase:
        return self.cases[index]

    def __iter__(self) -> Iterator[PreparedCase]:
        return iter(self.cases)

    def __repr__(self) -> str:
        patients = len({case.patient for case in self.cases})
        return (
            f"PreparedDataset({self.path.name}, {self.subset}: {len(self)} cases of {patients} patients, "
            f"{self.size}^3 voxels of {self.frame_mm / self.size:.3g} mm, {self.manifest.geometry.name})"
        )

    @property
    def size(self) -> int:
        """Voxels and pixels per edge."""
        return self.manifest.size

    @property
    def frame_mm(self) -> float:
        """Edge of the cube, mm."""
        return self.manifest.frame_mm

    @property
    def beams(self) -> tuple[ConeBeam, ConeBeam]:
        """Geometry of the PA and lateral films, relative to the centre of the cube."""
        return self.manifest.geometry.beams()

    def fold(self, number: int) -> tuple[PreparedDataset, PreparedDataset]:
        """The cases of all other folds, to learn from, and the cases of fold `number`, to choose settings by.

        Raises:
            InputError: the data set has no folds, no such fold, or one of the two would be empty.
        """
        folds = self.manifest.folds
        if self.subset != "train":
            raise InputError(f"{self.path}: only train cases have folds, these are the {self.subset} cases")
        if not folds:
            raise InputError(f"{self.path}: the data set has no folds; make them with `xrecon prepare --folds K`")
        if not 0 <= number < folds:
            raise InputError(f"{self.path}: there is no fold {number}; choose 0..{folds - 1}")
        held = [case.record for case in self.cases if case.record.fold == number]
        rest = [case.record for case in self.cases if case.record.fold != number]
        return self._with(rest), self._with(held)

    def _with(self, records: Sequence[CaseRecord]) -> PreparedDataset:
        part = object.__new__(PreparedDataset)
        part._set(self.path, self.manifest, self.subset, records)
        return part

    def verify(self) -> None:
        """Compare every file with its digest and read its header. Raises CheckpointError naming the damaged cases."""
        bad = []
        for case in self.cases:
            try:
                case.verify()
                size = case.load().size
                if size != self.size:
                    raise CheckpointError(f"{case.path}: is of size {size}, the data set of {self.size}")
            except InputError as error:
                bad.append(str(error))
        if bad:
            raise CheckpointError(f"{len(bad)} of {len(self)} cases are damaged:\n" + "\n".join(bad))

    def provenance(self) -> dict[str, Any]:
        """What a run or a model card says of its data: digest of the manifest, cases, patients, licences. No paths."""
        return {
            "dataset_sha256": sha256_of(self.path / MANIFEST_NAME),
            "subset": self.subset,
            "size": self.size,
            "frame_mm": self.frame_mm,
            "geometry": self.manifest.geometry.name,
            "cases": [case.name for case in self.cases],
            "patients": sorted({case.patient for case in self.cases}),
            "licences": self.manifest.licences(case.record for case in self.cases),
        }
