"""Which images make up one picture of one patient: by patient, study, series, frame of reference and folder.

A UID alone is no identity: anonymisation empties it, or gives one UID to two patients. What is kept here of a header
may identify a patient; it lives in memory only and is never shown or written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xrecon.io.dicom.pixels import numbers, optional_number, text
from xrecon.io.dicom.slices import COMPUTED, image_rank

LEAST_STACK = 8
"""Images of one kind that are enough for a stack of their own."""
_LEAST_FRAMES = 4
_SHARED_POSITIONS = 0.5
_SLAB = 2.5
"""A slice this many times as thick as the distance to the next is a slab computed over thin ones."""
_AXIAL = 0.7


@dataclass(frozen=True)
class ImageHeader:
    """What is needed of one CT file to know where it belongs.

    Attributes:
        place: the file, for messages and for opening it.
        folder: that it lies in.
        patient: identity of the patient: ID, name and date of birth as far as stated.
        patient_id: the ID alone.
        study, series, frame_of_reference, instance: UIDs; "" where absent.
        number: of the series, letters and digits only.
        description: of the series, upper case, for matching only.
        frames: number of slices in the file.
        position_mm: along the normal of the slice; None where not stated (multi-frame files).
        height_mm: towards the head; None where not stated.
        thickness_mm: of the slice, None where not stated.
        axial: the normal lies within 45 degrees of the body's axis, or is not known.
        rank: `image_rank`.
    """

    place: str
    folder: str
    patient: tuple[str, str, str]
    patient_id: str
    study: str
    series: str
    frame_of_reference: str
    instance: str
    number: str
    description: str
    frames: int
    position_mm: float | None
    height_mm: float | None
    thickness_mm: float | None
    axial: bool
    rank: int


def image_header(place: str, header: Any) -> ImageHeader:
    """The identity of one CT file. Values that cannot be read count as absent: the reader of the pixels will say."""
    normal = _normal(header)
    position = _vector(header, "ImagePositionPatient", 3)
    name = "".join(c for c in text(header, "PatientName") if c.isalnum())
    return ImageHeader(
        place=place,
        folder=place.rpartition("/")[0],
        patient=(text(header, "PatientID"), name, text(header, "PatientBirthDate")),
        patient_id=text(header, "PatientID"),
        study=str(header.get("StudyInstanceUID") or ""),
        series=str(header.get("SeriesInstanceUID") or ""),
        frame_of_reference=str(header.get("FrameOfReferenceUID") or ""),
        instance=str(header.get("SOPInstanceUID") or ""),
        number="".join(c for c in text(header, "SeriesNumber") if c.isalnum()),
        description=text(header, "SeriesDescription"),
        frames=int(header.get("NumberOfFrames") or 1),
        position_mm=None if normal is None or position is None else float(position @ normal),
        height_mm=None if position is None else float(position[2]),
        thickness_mm=optional_number(header, "SliceThickness"),
        axial=normal is None or abs(float(normal[2])) >= _AXIAL,
        rank=image_rank(header),
    )


def _vector(header: Any, keyword: str, count: int) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    try:
        values = numbers(header, keyword, count, "")
    except Exception:  # whatever a damaged value raises: the reader names it if the image is used
        return None
    return None if values is None else np.asarray(values)


def _normal(header: Any) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    directions = _vector(header, "ImageOrientationPatient", 6)
    if directions is None:
        return None
    normal = np.cross(directions[:3], directions[3:])
    length = float(np.linalg.norm(normal))
    return normal / length if length > 0.5 else None


@dataclass(frozen=True)
class Stack:
    """Images of one patient, study, series, frame of reference and kind, in the order in which they came."""

    images: tuple[ImageHeader, ...]

    @property
    def first(self) -> ImageHeader:
        """An image that stands for all in what they share."""
        return self.images[0]

    @property
    def count(self) -> int:
        """Number of slices."""
        return sum(image.frames for image in self.images)

    @property
    def axial(self) -> bool:
        """Most of its slices are axial."""
        return 2 * sum(image.axial for image in self.images) >= len(self.images)

    @property
    def rank(self) -> int:
        """Of most of its images, see `image_rank`."""
        return int(np.median([image.rank for image in self.images]))

    @property
    def slabs(self) -> bool:
        """Its slices are much thicker than their distance: computed over thin ones."""
        places = np.unique([image.position_mm for image in self.images if image.position_mm is not None])
        thickness = [image.thickness_mm for image in self.images if image.thickness_mm is not None]
        if len(places) < 3 or not thickness:
            return False
        return bool(np.median(thickness) > _SLAB * np.median(np.diff(places)))

    @property
    def preference(self) -> tuple[bool, bool, bool, int]:
        """Larger is better: originals before computed images, axial before others, slices before slabs, then more."""
        return self.rank < COMPUTED, self.axial, not self.slabs, self.count

    @property
    def extent_mm(self) -> float:
        """Along the normal, between the outermost slices; 0 where no position is stated."""
        places = [image.position_mm for image in self.images if image.position_mm is not None]
        return max(places) - min(places) if places else 0.0

    def remarks(self) -> str:
        """What its line in a list says beside the number of slices."""
        kinds = ["" if self.axial else "not axial", "derived images" if self.rank == COMPUTED else ""]
        kinds.append("thick slabs" if self.slabs else "")
        return ", ".join(kind for kind in kinds if kind)


def stacks_of(images: Sequence[ImageHeader]) -> list[Stack]:
    """The images sorted into stacks; two patients, studies or kinds of image never share one."""
    stacks: list[Stack] = []
    for group in _split(images, lambda image: (image.patient, image.study, image.series, _home(image))):
        for part in _frames_of_reference(group):
            for folder in _copies(part):
                stacks += [Stack(tuple(kind)) for kind in _kinds(folder)]
    return sorted(stacks, key=_order)


def _order(stack: Stack) -> tuple[object, ...]:
    first = stack.first
    return len(first.number), first.number, first.series, first.patient, first.study, stack.rank, first.place


def _home(image: ImageHeader) -> str:
    """Without a series UID only folder and number of the series tell what belongs together."""
    return "" if image.series else f"{image.folder}/{image.number}"


def _split(images: Sequence[ImageHeader], key: Callable[[ImageHeader], Hashable]) -> list[list[ImageHeader]]:
    groups: dict[Hashable, list[ImageHeader]] = defaultdict(list)
    for image in images:
        groups[key(image)].append(image)
    return list(groups.values())


def _frames_of_reference(images: list[ImageHeader]) -> list[list[ImageHeader]]:
    """By frame of reference, unless a careless tool gave each image one of its own."""
    groups = _split(images, lambda image: image.frame_of_reference)
    return groups if min(map(len, groups)) >= _LEAST_FRAMES else [images]


def _copies(images: list[ImageHeader]) -> list[list[ImageHeader]]:
    """By folder where folders hold other images of the same places; one stack where folders only share it out."""
    folders = _split(images, lambda image: image.folder)
    if len(folders) == 1:
        return [images]
    places = [{round(image.position_mm or 0.0, 2) for image in folder} for folder in folders]
    names = [{image.instance for image in folder} for folder in folders]
    for k, place in enumerate(places):
        for other in range(k):
            shared = len(place & places[other]) / max(1, min(len(place), len(places[other])))
            if shared >= _SHARED_POSITIONS and not names[k] & names[other]:
                return folders
    return [images]


def _kinds(images: list[ImageHeader]) -> list[list[ImageHeader]]:
    """Original and computed images apart, where each kind is a stack of its own."""
    kinds = _split(images, lambda image: image.rank == COMPUTED)
    if len(kinds) == 1 or max(sum(i.frames for i in kind) for kind in kinds if kind[0].rank != COMPUTED) < LEAST_STACK:
        return [images]
    return kinds


def patients_of(stacks: Sequence[Stack]) -> list[tuple[str, str, str]]:
    """The different patients, in the order of the stacks. A patient without any identity counts as one per
    study, and without a study as one per folder.
    """
    names = [
        stack.first.patient if any(stack.first.patient) else ("", "", stack.first.study or stack.first.folder)
        for stack in stacks
    ]
    return list(dict.fromkeys(names))
