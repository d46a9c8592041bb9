"""CT series from DICOM: a folder, a zip or one multi-frame file.

Slices are ordered by their position along the slice normal, never by file name or instance number.
"""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xrecon.errors import InputError
from xrecon.io.dicom.assembly import assemble
from xrecon.io.dicom.choice import choose, describe
from xrecon.io.dicom.grouping import ImageHeader, Stack, image_header, stacks_of
from xrecon.io.dicom.pixels import guarded, optional_number, text
from xrecon.io.dicom.slices import (
    COMPUTED,
    DicomFile,
    dicom_file,
    files_in_folder,
    files_in_zip,
    rejection,
    slices_of,
)
from xrecon.io.dicom.unused import UnusedFile, first_numbers_note, unused_notes
from xrecon.io.guards.archives import open_zip
from xrecon.io.raw import RawVolume


def read_dicom_ct(path: Path, *, series: str | None = None) -> RawVolume:
    """Read a CT series in HU.

    Args:
        path: a folder (searched with its subfolders), a zip, or one multi-frame file.
        series: which series, where there are several: number, UID or its end, description, or `#K` for the place K
            in the list that a message shows; with `@N` added, the acquisition N of it. Default: of the original series
            the axial one with most slices; the notes say which.

    Returns: hu [slices, rows, cols]; the affine in LPS mm.

    Raises:
        InputError: no CT, several patients, several acquisitions, a missing tag, more than 2 missing neighbours,
            several images at one position, not HU, ...
        MissingPartError: a compressed series whose decoder is not installed.
    """
    with contextlib.ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of every odd value, also of those that nobody uses
        return _read(Path(path), stack, series)


def series_headers(path: Path, *, series: str | None = None) -> list[Any]:
    """Data sets without pixels of the files that `read_dicom_ct` reads, in no order. Raises InputError as it does."""
    with contextlib.ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [header for _, header in _choose(Path(path), stack, series, []).entries]


def _read(path: Path, stack: contextlib.ExitStack, series: str | None) -> RawVolume:
    unused: list[UnusedFile] = []
    choice = _choose(path, stack, series, unused)
    chosen, entries = choice.stack, choice.entries
    number = choice.name or chosen.first.number or chosen.first.series[-8:]
    planes = [plane for file, header in entries for plane in slices_of(file, header)]
    volume = assemble(
        planes,
        name=describe(chosen), number=number, acquisition=choice.acquisition, path=path,
    )  # fmt: skip
    used = [(image.folder, image.place.rpartition("/")[2], image.height_mm) for image in chosen.images]
    notes = choice.notes + unused_notes(unused, used) + _header_notes(entries[0][1], chosen)
    notes += first_numbers_note(
        [plane.scan.instance for plane in planes],
        [float(plane.position[2]) for plane in planes],
        choice.other_numbers,
    )
    return RawVolume(volume.hu, volume.affine, path, notes + volume.notes, _is_synthetic(entries[0][1]), volume.grid)


@dataclass(frozen=True)
class _Choice:
    """The series that is read: its images, their files and headers, and why it was this one.

    `other_numbers` are the InstanceNumbers of the series' other images.
    """

    stack: Stack
    entries: list[tuple[DicomFile, Any]]
    name: str
    acquisition: str
    notes: tuple[str, ...]
    other_numbers: set[int]


def _choose(path: Path, stack: contextlib.ExitStack, series: str | None, unused: list[UnusedFile]) -> _Choice:
    candidates = _collect(_candidates(path, stack, unused))
    notes: tuple[str, ...] = ()
    if candidates.rejected:
        notes += ("skipped " + ", ".join(f"{n} x {reason}" for reason, n in sorted(candidates.rejected.items())),)
    if not candidates.stacks:
        what = notes[0] if notes else "found no DICOM files"
        raise InputError(f"{path}: no CT slices: {what}; give the folder, zip or multi-frame file of a CT series")
    name, _, acquisition = (series or "").partition("@")
    chosen, why = choose(
        candidates.stacks, name, acquisition, path,
        acquisitions_of=candidates.acquisitions, same_images=candidates.same_images,
    )  # fmt: skip
    entries = [candidates.files[image.place] for image in chosen.images]
    return _Choice(chosen, entries, name, acquisition, notes + why, candidates.other_numbers(chosen))


@dataclass(frozen=True)
class _Candidates:
    """CT images below a place, sorted into stacks; their files and headers by place; why other files are none.

    `overviews` holds series and InstanceNumber of those that are none.
    """

    stacks: list[Stack]
    files: dict[str, tuple[DicomFile, Any]]
    rejected: Counter[str]
    overviews: list[tuple[str, int]]

    def other_numbers(self, stack: Stack) -> set[int]:
        """InstanceNumbers of the images of a stack's series that are not in the stack."""
        inside = {image.place for image in stack.images}
        series = stack.first.series
        numbers = {number for uid, number in self.overviews if uid == series}
        for place, (_, header) in self.files.items():
            if place not in inside and text(header, "SeriesInstanceUID") == series:
                numbers.add(_number(header))
        return numbers

    def acquisitions(self, stack: Stack) -> set[str]:
        """Acquisition numbers of a stack, as `--series NUMBER@ACQUISITION` takes them."""
        numbers = (text(self.files[image.place][1], "AcquisitionNumber") for image in stack.images)
        return {number for number in numbers if number}

    def same_images(self, first: Stack, second: Stack) -> bool:
        """Whether two stacks hold the same pixels, scaled alike, at the same places."""
        if first.count != second.count or any(image.frames > 1 for image in (*first.images, *second.images)):
            return False
        pairs = zip(_by_position(first), _by_position(second), strict=True)
        return all(self._content(image) == self._content(other) for image, other in pairs)

    def _content(self, image: ImageHeader) -> tuple[object, ...]:
        file, _ = self.files[image.place]
        with guarded(file.name):
            dataset = file.dataset()
            tags = (text(dataset, keyword) for keyword in _PLACE_AND_SCALE)
            return hashlib.sha256(bytes(dataset.get("PixelData") or b"")).digest(), *tags


_PLACE_AND_SCALE = (
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept",
    "Rows", "PixelRepresentation", "BitsStored",
)  # fmt: skip


def _by_position(stack: Stack) -> list[ImageHeader]:
    return sorted(stack.images, key=lambda image: image.position_mm or 0.0)


def _candidates(path: Path, stack: contextlib.ExitStack, unused: list[UnusedFile]) -> Iterable[DicomFile]:
    if path.is_dir():
        return files_in_folder(path, unused)
    with path.open("rb") as stream:
        head = stream.read(132)
    if head[:2] == b"PK":
        return files_in_zip(stack.enter_context(open_zip(path)), path, unused)
    return [dicom_file(path, head)]


def _collect(files: Iterable[DicomFile]) -> _Candidates:
    rejected: Counter[str] = Counter()
    overviews: list[tuple[str, int]] = []
    images: list[ImageHeader] = []
    entries: dict[str, tuple[DicomFile, Any]] = {}
    for file in files:
        with guarded(file.name):
            header = file.header()
            reason = rejection(header, file.name)
            if reason is None:
                images.append(image_header(file.name, header))
        if reason is None:
            entries[file.name] = file, header
        else:
            rejected[reason] += 1
            overviews.append((text(header, "SeriesInstanceUID"), _number(header)))
    return _Candidates(stacks_of(images), entries, rejected, overviews)


def _number(header: Any) -> int:
    """InstanceNumber; 0 where there is none."""
    return int(optional_number(header, "InstanceNumber") or 0)


def _header_notes(header: Any, chosen: Stack) -> tuple[str, ...]:
    notes = []
    if chosen.rank == COMPUTED:
        notes.append(
            "the images are derived, not original (ImageType): computed from other images, perhaps as projections, "
            "averages or thick slabs; choose the original series where there is one"
        )
    if text(header, "PhotometricInterpretation") == "MONOCHROME1":
        notes.append("MONOCHROME1: concerns the display only, HU are used as stored")
    if text(header, "LossyImageCompression") == "01":
        notes.append("the series was compressed with loss; HU are approximate")
    return tuple(notes)


def _is_synthetic(header: Any) -> bool:
    return "SYNTHETIC" in text(header, "ImageComments") or "SYNTHETIC" in text(header, "ImageType")
