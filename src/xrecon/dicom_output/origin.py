"""Where a result comes from: patient, study and images of the DICOM files that it was computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from xrecon.errors import InputError
from xrecon.io.dicom.pixels import read_dataset, text
from xrecon.io.dicom.series import series_headers
from xrecon.io.guards.files import check_file
from xrecon.io.guards.kinds import sniff

PATIENT_KEYWORDS = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize",
    "PatientWeight", "PatientIdentityRemoved", "DeidentificationMethod",
)  # fmt: skip
"""What `--keep-identity` copies of the patient."""
STUDY_KEYWORDS = (
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName",
    "StudyDescription",
)  # fmt: skip
"""What `--keep-identity` copies of the study."""


@dataclass(frozen=True)
class ImageReference:
    """One source image."""

    sop_class: str
    instance: str
    series: str
    study: str


@dataclass(frozen=True, eq=False)
class Origin:
    """The DICOM images that a result was computed from.

    Attributes:
        identity: elements of `PATIENT_KEYWORDS` and `STUDY_KEYWORDS`, as far as they are there.
        images: every source image.
        frame_of_reference: UID of the source CT's; "" for films.
        ct_headers: data sets of the slices without pixels, by position along the slice normal; () for films and for
            series whose slices do not stand one per file.
    """

    identity: Dataset
    images: tuple[ImageReference, ...]
    frame_of_reference: str = ""
    ct_headers: tuple[Dataset, ...] = field(default=(), repr=False)


def films_origin(paths: Sequence[Path], *, same_patient: bool) -> Origin | None:
    """Patient, study and images of film files; None where not every file is DICOM.

    Args:
        paths: PA and lateral film.
        same_patient: refuse films of two patients.

    Raises:
        InputError: the films name two patients.
    """
    headers = []
    for path in paths:
        if sniff(check_file(path)) != "dicom":
            return None
        with path.open("rb") as stream:
            headers.append(read_dataset(stream, str(path), header_only=True))
    patients = {(text(header, "PatientID"), text(header, "IssuerOfPatientID")) for header in headers}
    if same_patient and len(patients) > 1:
        raise InputError(
            f"{paths[0]} and {paths[1]}: PatientID (0010,0020) differs between the two films; give two films of one "
            "patient, or leave --keep-identity out if they were given pseudonyms one by one"
        )
    return Origin(_identity(headers[0]), tuple(_reference(header) for header in headers))


def ct_origin(path: Path, *, series: str | None = None) -> Origin | None:
    """Patient, study and slices of a DICOM CT; None where `path` is no DICOM.

    Raises:
        InputError: as `xrecon.load_ct`.
    """
    if path.is_file() and sniff(path) not in ("dicom", "zip"):
        return None
    headers = series_headers(path, series=series)
    first = headers[0]
    ordered = _by_position(headers)
    return Origin(
        _identity(first),
        tuple(_reference(header) for header in (ordered or headers)),
        str(first.get("FrameOfReferenceUID") or ""),
        tuple(ordered),
    )


def _by_position(headers: Sequence[Dataset]) -> list[Dataset]:
    """Slices along the cross product of row and column direction; [] for multi-frame files or without a place."""
    if any(int(header.get("NumberOfFrames") or 1) > 1 or not header.get("FrameOfReferenceUID") for header in headers):
        return []
    return sorted(headers, key=lambda header: float(slice_place(header)))


def slice_place(header: Dataset) -> float:
    """Position of a slice along the cross product of its row and column direction, mm."""
    directions = _vector(header, "ImageOrientationPatient")
    normal = np.cross(directions[:3], directions[3:])
    return float(_vector(header, "ImagePositionPatient") @ normal)


def _vector(header: Dataset, keyword: str) -> NDArray[np.float64]:
    return np.array([float(value) for value in header[keyword].value])


def _identity(header: Dataset) -> Dataset:
    """A copy of the identity as plain text, whatever character set the file has."""
    identity = Dataset()
    for keyword in (*PATIENT_KEYWORDS, *STUDY_KEYWORDS):
        value: Any = header.get(keyword)
        if value is not None:
            setattr(identity, keyword, [str(v) for v in value] if isinstance(value, MultiValue) else str(value))
    return identity


def _reference(header: Dataset) -> ImageReference:
    values = (header.get(name) for name in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"))
    return ImageReference(*(str(value or "") for value in values))
