"""`dataset.json`: what a prepared data set holds, which cases train and which test, and the digest of every file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from xrecon.config import Config
from xrecon.data.split import Subset
from xrecon.errors import InputError
from xrecon.geometry import ConeBeam
from xrecon.io.guards.files import check_file
from xrecon.io.output.atomic import write_text_atomic
from xrecon.radiograph import Quantity
from xrecon.volume import RESEARCH_NOTICE

MANIFEST_NAME = "dataset.json"
CASES_FOLDER = "cases"
SCHEMA_VERSION: Literal[1] = 1
MAX_MANIFEST_BYTES = 512 * 2**20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256 = r"^[0-9a-f]{64}$"


class CaseRecord(Config):
    """A prepared CT. Names are pseudonyms, or the names of the user's files where `--keep-names` was given."""

    name: str = Field(description="Pseudonym of the scan; its file is cases/<name>.safetensors.")
    patient: str = Field(min_length=1, description="Pseudonym of the patient, the unit of every split.")
    subset: Subset = Field(description="train, test or aux.")
    fold: int | None = Field(default=None, ge=0, description="Fold of a training patient, 0-based; None: no folds.")
    sha256: str = Field(pattern=_SHA256, description="Digest of the case's file.")
    source_sha256: str = Field(
        pattern=_SHA256, description="Digest of the CT's voxels (whole HU, canonical axes) and spacing, of any format."
    )
    source: str = Field(default="", description="Collection that the CT comes from, as far as stated.")
    licence: str = Field(default="", description="Licence of the CT, as far as stated.")
    source_shape: tuple[int, int, int] = Field(description="Voxels [D, H, W] of the CT before resampling.")
    source_spacing_mm: tuple[float, float, float] = Field(description="Their pitch (D, H, W), mm.")
    right_lung_ml: float = Field(ge=0, description="Right hemithorax, mL, measured on the CT.")
    left_lung_ml: float = Field(ge=0, description="Left hemithorax, mL, measured on the CT.")
    air_ml: float = Field(default=0.0, ge=0, description="Free pleural air that PTX-Seg found, mL; inside the above.")
    films: Quantity = Field(default="line_integral", description="line_integral: simulated; display: a user's own.")
    lung_model: str = Field(default="", description="Lung model that found the lungs.")
    warnings: tuple[str, ...] = Field(default=(), description="What a user should know before training on the case.")
    notes: tuple[str, ...] = Field(default=(), description="What was assumed or repaired on the way.")

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of a case: letters, digits, dot, dash and underscore only")
        return name

    @property
    def file(self) -> str:
        """Path of the case's file inside the data set."""
        return f"{CASES_FOLDER}/{self.name}.safetensors"


class Rejection(Config):
    """An input that was not prepared."""

    source: str = Field(description="Which input: its pseudonym or, where names are kept, its path below the input.")
    reason: str = Field(description="Why, in words.")


class FilmGeometry(Config):
    """Source and detector of the two films, relative to the centre of the frame."""

    name: str = Field(description="Preset.")
    pa: dict[str, Any] = Field(description="Values of `ConeBeam.to_dict` of the PA film.")
    lateral: dict[str, Any] = Field(description="The same of the lateral film.")

    @classmethod
    def of(cls, pa: ConeBeam, lateral: ConeBeam) -> FilmGeometry:
        """From the two geometries."""
        return cls(name=pa.name, pa=pa.to_dict(), lateral=lateral.to_dict())

    def beams(self) -> tuple[ConeBeam, ConeBeam]:
        """(PA, lateral)."""
        return ConeBeam.from_dict(self.pa), ConeBeam.from_dict(self.lateral)


class Manifest(Config):
    """The whole of `dataset.json`."""

    format: Literal["xrecon-dataset"] = "xrecon-dataset"
    schema_version: Literal[1] = SCHEMA_VERSION
    notice: str = RESEARCH_NOTICE
    size: int = Field(ge=16, le=512, description="Voxels and pixels per edge.")
    frame_mm: float = Field(gt=0, description="Edge of the cube, and of the films at the isocentre, mm.")
    geometry: FilmGeometry
    settings: dict[str, Any] = Field(default_factory=dict, description="Everything else that decides the values.")
    complete: bool = Field(default=True, description="False while a run is going on, and after it was killed.")
    seed: int = Field(default=0, ge=0, description="Of the split and the folds.")
    folds: int = Field(default=0, ge=0, description="Number of folds of the training patients; 0: none.")
    cases: tuple[CaseRecord, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    environment: dict[str, Any] = Field(default_factory=dict, description="Versions that it was made with.")

    @model_validator(mode="after")
    def _names_once(self) -> Manifest:
        twice = [name for name, count in Counter(case.name.lower() for case in self.cases).items() if count > 1]
        if twice:
            raise ValueError(f"cases listed more than once: {', '.join(twice)}")
        self.geometry.beams()
        return self

    def of_subset(self, subset: Subset) -> tuple[CaseRecord, ...]:
        """The cases of one subset, in the order of the file."""
        return tuple(case for case in self.cases if case.subset == subset)

    def licences(self, cases: Iterable[CaseRecord] | None = None) -> list[dict[str, Any]]:
        """Distinct (source, licence) with the number of cases, for model cards; of all cases by default."""
        counted = Counter((case.source, case.licence) for case in (self.cases if cases is None else cases))
        return [{"source": s, "licence": licence, "cases": n} for (s, licence), n in sorted(counted.items())]

    def save(self, path: Path, *, overwrite: bool = True) -> Path:
        """Write it as JSON, atomically. Raises OutputExistsError, InputError."""
        return write_text_atomic(Path(path), self.to_json(), overwrite=overwrite)

    def to_json(self) -> str:
        """The text of the file."""
        return self.model_dump_json(indent=1) + "\n"


def load_manifest(path: Path) -> Manifest:
    """Read `dataset.json`, or that of a data set's folder.

    Raises:
        InputError: missing, damaged, or of another schema.
    """
    path = Path(path)
    if path.is_dir():
        path = path / MANIFEST_NAME
    if check_file(path).stat().st_size > MAX_MANIFEST_BYTES:
        raise InputError(f"{path}: has {path.stat().st_size} bytes, a {MANIFEST_NAME} has fewer; check the path")
    return parse_manifest(path.read_bytes(), str(path))


def parse_manifest(content: bytes, where: str) -> Manifest:
    """A manifest from its JSON text. Raises InputError naming `where`."""
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(
            f"{where}: not a data set of this version (schema {SCHEMA_VERSION}): {key}: {first['msg']}; prepare it "
            "again with `xrecon prepare`"
        ) from None


def check_no_leak(manifest: Manifest) -> None:
    """Refuse a data set in which two subsets share a patient or the content of a CT.

    Raises:
        InputError: naming the cases that are shared.
    """
    overlaps = []
    for first, second in combinations(("train", "test", "aux"), 2):
        first_cases, second_cases = ([c for c in manifest.cases if c.subset == subset] for subset in (first, second))
        for key, what in (("patient", "patient"), ("source_sha256", "CT (same content)")):
            theirs = {getattr(case, key): case.name for case in second_cases}
            overlaps += [
                f"{first} case {case.name} and {second} case {theirs[getattr(case, key)]}: one {what}"
                for case in first_cases
                if getattr(case, key) in theirs
            ]
    if overlaps:
        more = f" and {len(overlaps) - 5} more" if len(overlaps) > 5 else ""
        raise InputError(
            f"the subsets of the data set overlap: {'; '.join(overlaps[:5])}{more}; correct the split and prepare again"
        )
    by_patient: dict[str, set[int | None]] = {}
    for case in manifest.of_subset("train"):
        by_patient.setdefault(case.patient, set()).add(case.fold)
    torn = sorted(patient for patient, folds in by_patient.items() if len(folds) > 1)
    if torn:
        raise InputError(f"patients in more than one fold: {', '.join(torn[:5])}; deal the folds by patient")
