"""DICOM headers to slices: which files are CT images, and where each slice lies. One file may hold many frames."""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.io.dicom.pixels import guarded, optional_number, read_dataset, required_numbers, tag_name, text
from xrecon.io.dicom.scan_values import ScanValues, acquisition_number, frame_parts, scan_values
from xrecon.io.dicom.unused import UnusedFile, reason_of
from xrecon.io.guards.archives import MAX_FILES, read_member, zip_members
from xrecon.io.guards.files import check_file
from xrecon.io.guards.grids import check_spacing
from xrecon.io.guards.kinds import sniff_bytes

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
CT_CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.2{tail}" for tail in ("", ".1", ".2"))
MULTI_FRAME_CLASSES = CT_CLASSES[1:]
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
_EXPORT = "export the series again with its full headers"


@dataclass(frozen=True)
class DicomFile:
    """A DICOM file of a folder or a zip; it can be opened as often as needed.

    Attributes:
        name: for messages.
        open: gives a new stream from the beginning of the file.
        bare: without the preamble and the letters DICM.
    """

    name: str
    open: Callable[[], BinaryIO]
    bare: bool = False

    def header(self) -> Any:
        """The data set without its pixels."""
        with self.open() as stream:
            return read_dataset(stream, self.name, header_only=True, force=self.bare)

    def dataset(self) -> Any:
        """The whole data set."""
        with self.open() as stream:
            return read_dataset(stream, self.name, header_only=False, force=self.bare)


@dataclass(frozen=True)
class Slice:
    """One CT image plane. Distances mm; directions are unit vectors in LPS."""

    file: DicomFile
    name: str
    frame: int | None  # index in a multi-frame file
    shape: tuple[int, int]  # rows, cols
    position: NDArray[np.float64]  # [3], centre of pixel (0, 0)
    along_row: NDArray[np.float64]  # [3], direction of increasing column
    along_column: NDArray[np.float64]  # [3], direction of increasing row
    spacing_mm: tuple[float, float]  # between rows, between columns
    slope: float
    intercept: float
    acquisition: str
    tilt_deg: float | None
    scan: ScanValues
    rank: int  # 0 original and axial, 1 not stated or unusual, 2 computed from other images

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit normal of the plane, [3]."""
        return np.asarray(np.cross(self.along_row, self.along_column), dtype=np.float64)


def files_in_folder(folder: Path, unused: list[UnusedFile] | None = None) -> list[DicomFile]:
    """The DICOM files below a folder, by content, in name order; others join `unused`.

    Links to folders are not followed.
    """
    dicom_files: list[DicomFile] = []
    seen = 0
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for file in sorted(f for f in files if not f.startswith(".")):
            seen += 1
            if seen > MAX_FILES:
                raise InputError(f"{folder}: holds more than {MAX_FILES} files; give the folder of one study")
            path = Path(root) / file
            if not path.is_file():
                continue
            try:
                with path.open("rb") as stream:
                    head = stream.read(1024)
            except OSError as error:
                raise InputError(f"{path}: cannot be read ({error}); check the permissions") from error
            if head and sniff_bytes(head) == "dicom":
                dicom_files.append(dicom_file(path, head))
            elif unused is not None:
                unused.append(UnusedFile(root, file, reason_of(head)))
    return dicom_files


def dicom_file(path: Path, head: bytes) -> DicomFile:
    """The DICOM file at `path`; `head` holds its first bytes."""

    def opened() -> BinaryIO:
        return check_file(path).open("rb")

    return DicomFile(str(path), opened, bare=head[128:132] != b"DICM")


def files_in_zip(archive: zipfile.ZipFile, path: Path, unused: list[UnusedFile] | None = None) -> Iterator[DicomFile]:
    """The DICOM files in an open zip, by content, others join `unused`; they can be read as long as it is open.

    Nothing goes to disk.
    """
    for member in zip_members(archive, path):
        if member.is_dir() or any(part.startswith((".", "__MACOSX")) for part in member.filename.split("/")):
            continue
        head = read_member(archive, member, path, limit=1024) if member.file_size else b""
        if head and sniff_bytes(head) == "dicom":
            yield DicomFile(f"{path}/{member.filename}", _opener(archive, member, path), bare=head[128:132] != b"DICM")
        elif unused is not None:
            folder, _, name = f"{path}/{member.filename}".rpartition("/")
            unused.append(UnusedFile(folder, name, reason_of(head)))


def _opener(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Callable[[], BinaryIO]:
    return lambda: io.BytesIO(read_member(archive, member, path))


def rejection(header: Any, name: str) -> str | None:
    """Why a file is no CT slice ("localizer", "modality SR", ...); None if it is one.

    Raises InputError for a header that ends early: left out silently, it would be a hole in the volume.
    """
    modality = "".join(c for c in text(header, "Modality") if c.isalnum())[:16]
    sop = text(header, "SOPClassUID")
    image_type = text(header, "ImageType")
    if str(getattr(header.file_meta, "MediaStorageSOPClassUID", "")) == MEDIA_DIRECTORY:
        return "media directory"
    has_image = bool(header.get("Rows") and header.get("Columns"))
    if (not sop and not modality) or (sop in CT_CLASSES and not has_image):
        missing = tag_name("Rows" if sop else "SOPClassUID")
        raise InputError(
            f"{name}: the DICOM header is truncated (no {missing}); copy the file again, or remove it from the folder "
            f"if it does not belong there"
        )
    if modality and modality != "CT":
        return f"modality {modality}"
    if sop.startswith(SECONDARY_CAPTURE):
        return "secondary capture"
    if not modality and sop not in CT_CLASSES:
        return "no CT image"
    if "LOCALIZER" in image_type or "SCOUT" in image_type:
        return "localizer"
    if not has_image:
        return "no image"
    if int(header.get("SamplesPerPixel") or 1) != 1:
        return "colour image"
    return None


def slices_of(file: DicomFile, header: Any) -> list[Slice]:
    """All slices of one file. Raises InputError, naming file and tag, for a missing or impossible tag."""
    with guarded(file.name):
        return _slices_of(file, header)


def _slices_of(file: DicomFile, header: Any) -> list[Slice]:
    frames = int(header.get("NumberOfFrames") or 1)
    if text(header, "SOPClassUID") in MULTI_FRAME_CLASSES or frames > 1:
        groups = header.get("PerFrameFunctionalGroupsSequence")
        if groups is None or len(groups) != frames:
            raise InputError(
                f"{file.name}: a multi-frame file of {frames} frames without a matching "
                f"{tag_name('PerFrameFunctionalGroupsSequence')}; export it as single CT slices"
            )
        shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]
        return [_frame(file, header, k, (group, shared)) for k, group in enumerate(groups)]
    return [_slice(file, header, dict.fromkeys(_MACROS, header), None, file.name)]


_MACROS = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
)


def _frame(file: DicomFile, header: Any, index: int, groups: tuple[Any, Any]) -> Slice:
    name = f"{file.name}, frame {index + 1}"
    parts: dict[str, Any] = {}
    for macro in _MACROS:
        items = [g.get(macro) for g in groups if g is not None and g.get(macro)]
        if not items:
            raise InputError(f"{name}: the functional group {tag_name(macro)} is missing; export as single CT slices")
        parts[macro] = items[0][0]
    return _slice(file, header, parts, index, name, frame_parts(groups))


def _slice(
    file: DicomFile,
    header: Any,
    parts: dict[str, Any],
    frame: int | None,
    name: str,
    described: tuple[Any, ...] = (),
) -> Slice:
    position = required_numbers(parts["PlanePositionSequence"], "ImagePositionPatient", 3, name, remedy=_EXPORT)
    orientation = required_numbers(
        parts["PlaneOrientationSequence"], "ImageOrientationPatient", 6, name, remedy=_EXPORT
    )
    spacing = required_numbers(parts["PixelMeasuresSequence"], "PixelSpacing", 2, name, remedy=_EXPORT)
    check_spacing(spacing, Path(name), tag=tag_name("PixelSpacing"))
    slope, intercept = _rescale(parts["PixelValueTransformationSequence"], name)
    along_row, along_column = _directions(np.asarray(orientation), name)
    return Slice(
        file=file,
        name=name,
        frame=frame,
        shape=(int(header.Rows), int(header.Columns)),
        position=np.asarray(position),
        along_row=along_row,
        along_column=along_column,
        spacing_mm=(spacing[0], spacing[1]),
        slope=slope,
        intercept=intercept,
        acquisition=acquisition_number(header, described),
        tilt_deg=optional_number(header, "GantryDetectorTilt"),
        scan=scan_values(header, described),
        rank=max([image_rank(header), *(image_rank(part, "FrameType") for part in described if part.get("FrameType"))]),
    )


ORIGINAL, UNSTATED, COMPUTED = range(3)
_COMPUTED_KINDS = (
    "MIP", "MINIP", "MPR", "REFORMATTED", "AVERAGE", "PROJECTION", "PROJECTION IMAGE", "CURVED", "VOLREND", "VRT", "3D",
    "SCREEN SAVE", "SUBTRACTION", "COMPUTED", "MEAN", "MAX_IP", "MIN_IP", "REFORMAT", "AVG", "MAXIP", "RENDERED",
    "MAXIMUM", "MINIMUM", "MAX", "MIN", "MEDIAN", "SUMMED", "ADDITION", "RESAMPLED", "CPR", "STD_DEVIATION",
)  # fmt: skip


def image_rank(header: Any, keyword: str = "ImageType") -> int:
    """How near an image is to what the scanner measured, by ImageType (0008,0008) or the FrameType of a frame.

    0: ORIGINAL, PRIMARY, and AXIAL or VOLUME; 1: nothing stated, or another original; 2: DERIVED, or a projection,
    average or reformatted image whatever the first value says.
    """
    kinds = [str(part).strip().upper() for part in _values(header.get(keyword))]
    if not any(kinds):
        return UNSTATED
    words = {word for kind in kinds for word in re.split(r"[^A-Z0-9]+", kind)}
    if kinds[0] == "DERIVED" or any(kind in _COMPUTED_KINDS for kind in (*kinds, *words)):
        return COMPUTED
    plain = kinds[0] == "ORIGINAL" and "SECONDARY" not in kinds and bool({"AXIAL", "VOLUME"} & set(kinds))
    return ORIGINAL if plain else UNSTATED


def _values(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def _directions(orientation: NDArray[np.float64], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    row, column = orientation[:3], orientation[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not np.allclose(lengths, 1.0, atol=0.02) or abs(row @ column) > 0.02:
        raise InputError(
            f"{name}: {tag_name('ImageOrientationPatient')} is {orientation.tolist()}; expected two unit vectors at "
            f"right angles; {_EXPORT}"
        )
    row = row / lengths[0]
    column = column - (column @ row) * row  # rounding in the header must not look like a shear
    return row, column / np.linalg.norm(column)


def _rescale(part: Any, name: str) -> tuple[float, float]:
    if part.get("ModalityLUTSequence"):
        raise InputError(
            f"{name}: holds a {tag_name('ModalityLUTSequence')} instead of rescale tags; export the CT in HU with "
            f"RescaleSlope and RescaleIntercept"
        )
    remedy = "HU cannot be known without it; export the series again, or add it (usually slope 1, intercept -1024)"
    slope = required_numbers(part, "RescaleSlope", 1, name, remedy=remedy)[0]
    intercept = required_numbers(part, "RescaleIntercept", 1, name, remedy=remedy)[0]
    if slope == 0:
        raise InputError(f"{name}: {tag_name('RescaleSlope')} is 0, which erases the image; export the series again")
    unit = text(part, "RescaleType")
    if unit not in ("", "HU", "US", "HU_MOD"):
        raise InputError(
            f"{name}: {tag_name('RescaleType')} says that the values are not HU; choose a series in HU "
            f"(not a dual-energy or density map)"
        )
    return slope, intercept
