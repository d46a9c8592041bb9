"""CT series from DICOM: a folder, a zip or one multi-frame file.

Slices are ordered by their position along the slice normal, never by file name or instance number.
"""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.io.dicom.pixels import guarded, padding_mask, stored_pixels, tag_name, text
from xrecon.io.dicom.slices import (
    DicomFile,
    Slice,
    dicom_file,
    files_in_folder,
    files_in_zip,
    rejection,
    slices_of,
)
from xrecon.io.guards.archives import open_zip
from xrecon.io.guards.arrays import check_count
from xrecon.io.guards.grids import check_affine
from xrecon.io.guards.hounsfield import OUTSIDE_HU, check_hu
from xrecon.io.raw import RawVolume
from xrecon.io.slice_grid import orientation_notes, remove_shear, uniform_slices

SAME_POSITION = 0.05
"""Share of the slice spacing below which two positions count as the same."""


@dataclass(frozen=True)
class Series:
    """The CT files of one SeriesInstanceUID, headers only. Messages name it by its number and the end of its UID."""

    uid: str
    number: str
    description: str  # for matching --series only: never printed, it may hold names
    images: tuple[tuple[DicomFile, Any], ...]
    axial: bool

    @property
    def count(self) -> int:
        """Number of slices (frames)."""
        return sum(int(header.get("NumberOfFrames") or 1) for _, header in self.images)

    def __str__(self) -> str:
        kind = "" if self.axial else ", not axial"
        return f"series {self.number or '(no number)'} (CT, {self.count} slices{kind}, UID ...{self.uid[-8:]})"


def read_dicom_ct(path: Path, *, series: str | None = None) -> RawVolume:
    """Read a CT series in HU.

    Args:
        path: a folder (searched with its subfolders), a zip, or one multi-frame file.
        series: which series, where there are several: number, UID or its end, or description; with `@N` added, the
            acquisition number N of it. Default: the axial series with most slices; the notes say which.

    Returns: hu [slices, rows, cols]; the affine in LPS mm.

    Raises:
        InputError: no CT, a missing tag, more than 2 missing neighbours, several images at one position, not HU, ...
        MissingPartError: a compressed series whose decoder is not installed.
    """
    with contextlib.ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of every odd value, also of those that nobody uses
        return _read(Path(path), _candidates(Path(path), stack), series)


def _read(path: Path, files: Iterable[DicomFile], series: str | None) -> RawVolume:
    candidates, rejected = _collect(files)
    notes: tuple[str, ...] = ()
    if rejected:
        notes += ("skipped " + ", ".join(f"{n} x {reason}" for reason, n in sorted(rejected.items())),)
    if not candidates:
        what = notes[0] if notes else "found no DICOM files"
        raise InputError(f"{path}: no CT slices: {what}; give the folder, zip or multi-frame file of a CT series")
    name, _, acquisition = (series or "").partition("@")
    chosen, why = _choose(candidates, name, path)
    slices = [plane for file, header in chosen.images for plane in slices_of(file, header)]
    if acquisition:
        slices = [s for s in slices if s.acquisition == acquisition]
        if not slices:
            raise InputError(f"{path}: {chosen} has no acquisition number {acquisition!r}; leave out @{acquisition}")
    volume = _assemble(slices, chosen, path)
    extra = _header_notes(chosen)
    return RawVolume(volume.hu, volume.affine, path, notes + why + extra + volume.notes, _is_synthetic(chosen))


def _candidates(path: Path, stack: contextlib.ExitStack) -> Iterable[DicomFile]:
    if path.is_dir():
        return files_in_folder(path)
    with path.open("rb") as stream:
        head = stream.read(132)
    if head[:2] == b"PK":
        return files_in_zip(stack.enter_context(open_zip(path)), path)
    return [dicom_file(path, head)]


def _collect(files: Iterable[DicomFile]) -> tuple[list[Series], Counter[str]]:
    rejected: Counter[str] = Counter()
    groups: dict[str, list[tuple[DicomFile, Any]]] = {}
    for file in files:
        with guarded(file.name):
            header = file.header()
            reason = rejection(header, file.name)
            uid = str(header.get("SeriesInstanceUID") or "")
            int(header.get("NumberOfFrames") or 1)
        if reason is None:
            groups.setdefault(uid, []).append((file, header))
        else:
            rejected[reason] += 1
    series = [_series(uid, images) for uid, images in groups.items()]
    return sorted(series, key=lambda candidate: (len(candidate.number), candidate.number, candidate.uid)), rejected


def _series(uid: str, images: list[tuple[DicomFile, Any]]) -> Series:
    first = images[0][1]
    number = "".join(c for c in text(first, "SeriesNumber") if c.isalnum())
    directions = []
    for file, header in images[:1]:
        try:
            directions = [plane.normal for plane in slices_of(file, header)[:1]]
        except InputError:
            directions = []  # if this is the series that is read, its error is raised then
    axial = not directions or abs(float(directions[0][2])) >= 0.7
    return Series(uid, number, text(first, "SeriesDescription"), tuple(images), axial)


def _choose(candidates: list[Series], name: str, path: Path) -> tuple[Series, tuple[str, ...]]:
    """The series that `name` (number, UID or its end, description) means, or the largest where it is empty; notes."""
    listing = "; ".join(map(str, candidates))
    if name:
        exact = [series for series in candidates if _is_named(series, name)]
        matching = exact or [series for series in candidates if len(name) >= 4 and series.uid.endswith(name)]
        if len(matching) != 1:
            problem = "matches no series" if not matching else f"matches {len(matching)} series"
            raise InputError(f"{path}: --series {name!r} {problem}; there are: {listing}; give a number or UID")
        return matching[0], (f"read {matching[0]}, as asked",)
    best = max(candidates, key=lambda series: (series.axial, series.count))
    others = [str(series) for series in candidates if series is not best]
    if not others:
        return best, ()
    return best, (f"picked the largest of {len(candidates)} series: {best}; others (--series): {'; '.join(others)}",)


def _is_named(series: Series, name: str) -> bool:
    return name in (series.uid, series.number) or name.upper() == series.description


def _header_notes(chosen: Series) -> tuple[str, ...]:
    header = chosen.images[0][1]
    notes = []
    if text(header, "PhotometricInterpretation") == "MONOCHROME1":
        notes.append("MONOCHROME1: concerns the display only, HU are used as stored")
    if text(header, "LossyImageCompression") == "01":
        notes.append("the series was compressed with loss; HU are approximate")
    return tuple(notes)


def _is_synthetic(chosen: Series) -> bool:
    header = chosen.images[0][1]
    return "SYNTHETIC" in text(header, "ImageComments") or "SYNTHETIC" in text(header, "ImageType")


def _assemble(slices: list[Slice], chosen: Series, path: Path) -> RawVolume:
    slices, notes = _majority(slices)
    if len(slices) < 2:
        hint = f"give its folder, {path.parent}" if path.is_file() else "copy the whole series into the folder"
        raise InputError(f"{path}: {chosen} is a single slice, a volume needs at least two; {hint}")
    normal = slices[0].normal
    slices = sorted(slices, key=lambda plane: float(plane.position @ normal))
    hu, slices, more = _decode(slices, chosen, path)
    along = np.array([plane.position @ normal for plane in slices])
    slope, intercept = _line(slices, along)
    hu, pitch, repaired = uniform_slices(hu, along, path)
    affine = np.eye(4)
    affine[:3, 0] = (normal + slope) * pitch
    affine[:3, 1] = slices[0].along_column * slices[0].spacing_mm[0]
    affine[:3, 2] = slices[0].along_row * slices[0].spacing_mm[1]
    affine[:3, 3] = intercept + along[0] * (normal + slope)
    affine = check_affine(affine, hu.shape, path, tag="ImagePositionPatient, ImageOrientationPatient and PixelSpacing")
    hu, values = check_hu(hu, path)
    hu, affine, sheared = remove_shear(hu, affine, path)
    tilt = slices[0].tilt_deg
    if tilt is not None and abs(tilt) > 0.5 and not sheared:
        sheared = (f"{tag_name('GantryDetectorTilt')} says {tilt:g} degrees, the positions show none and are believed",)
    notes += more + repaired + values + sheared + orientation_notes(hu.shape, affine)
    return RawVolume(hu, affine, path, notes)


def _majority(slices: list[Slice]) -> tuple[list[Slice], tuple[str, ...]]:
    """The slices of the commonest matrix, spacing and orientation; others in the series are overviews. Notes."""

    def key(plane: Slice) -> tuple[Any, ...]:
        directions = np.round(np.concatenate([plane.along_row, plane.along_column]), 2) + 0.0
        return plane.shape, tuple(np.round(plane.spacing_mm, 3)), tuple(directions)

    commonest = Counter(map(key, slices)).most_common(1)[0][0]
    stack = [plane for plane in slices if key(plane) == commonest]
    dropped = len(slices) - len(stack)
    note = f"{dropped} images of the series have another matrix, spacing or orientation and were left out"
    return stack, ((note,) if dropped else ())


def _decode(
    slices: list[Slice], chosen: Series, path: Path
) -> tuple[NDArray[np.float32], list[Slice], tuple[str, ...]]:
    """HU [k, rows, cols] of position-sorted slices without duplicates, those slices, and notes."""
    check_count((len(slices), *slices[0].shape), path)
    normal = slices[0].normal
    along = np.array([plane.position @ normal for plane in slices])
    steps = np.diff(along)
    moves = steps[steps > 0.01]
    tolerance = max(0.01, SAME_POSITION * float(np.median(moves))) if len(moves) else np.inf
    hu = np.empty((len(slices), *slices[0].shape), dtype=np.float32)
    unique: list[Slice] = []
    reader = _PlaneReader()
    for plane, position in zip(slices, along, strict=True):
        values = reader.read(plane)
        if unique and position - unique[-1].position @ normal < tolerance:
            if not np.array_equal(values, hu[len(unique) - 1]):
                raise InputError(_several_images(unique[-1], plane, chosen, path))
            continue
        hu[len(unique)] = values
        unique.append(plane)
    if len(unique) < 2:
        raise InputError(
            f"{path}: all {len(slices)} slices of {chosen} have the same {tag_name('ImagePositionPatient')}; a volume "
            f"needs at least two positions: export the series again"
        )
    duplicates = len(slices) - len(unique)
    notes = (f"{duplicates} duplicate slices (same position, same pixels) dropped",) if duplicates else ()
    return hu[: len(unique)], unique, notes


def _several_images(first: Slice, second: Slice, chosen: Series, path: Path) -> str:
    problem = (
        f"{path}: {chosen} holds two different images at one position ({first.name} and {second.name}): several phases "
        f"or reconstructions in one series"
    )
    if first.acquisition and second.acquisition and first.acquisition != second.acquisition:
        number = chosen.number or chosen.uid[-8:]
        choices = " or ".join(f"--series {number}@{a}" for a in sorted({first.acquisition, second.acquisition}))
        return f"{problem}; choose an acquisition: {choices}"
    return f"{problem}; choose one and keep only its files in the folder"


class _PlaneReader:
    """HU planes; keeps the last multi-frame file decoded, since its frames come in a row."""

    def __init__(self) -> None:
        self._name: str | None = None
        self._pixels: NDArray[np.int32] | None = None
        self._padding: NDArray[np.bool_] | None = None

    def read(self, plane: Slice) -> NDArray[np.float32]:
        """HU [rows, cols] of one slice; padding is -1024. Raises InputError, MissingPartError."""
        if self._name != plane.file.name or self._pixels is None:
            with guarded(plane.file.name):
                dataset = plane.file.dataset()
                self._pixels = stored_pixels(dataset, plane.file.name)
                self._padding = padding_mask(dataset, self._pixels)
            self._name = plane.file.name
        frames = self._pixels if self._pixels.ndim == 3 else self._pixels[None]
        values = frames[plane.frame or 0].astype(np.float32)
        if values.shape != plane.shape:
            raise InputError(
                f"{plane.name}: the pixels have shape {values.shape}, expected {plane.shape}; export again"
            )
        values = values * np.float32(plane.slope) + np.float32(plane.intercept)
        if self._padding is not None:
            padding = self._padding if self._padding.ndim == 3 else self._padding[None]
            values[padding[plane.frame or 0]] = OUTSIDE_HU
        return np.asarray(values, dtype=np.float32)


def _line(slices: list[Slice], along: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Straight line through the slices' first pixels: in-plane drift per mm [3] and its offset [3].

    A drift is a tilted gantry. Raises InputError where the origins do not lie on a line.
    """
    normal = slices[0].normal
    inplane = np.array([plane.position for plane in slices]) - along[:, None] * normal
    design = np.stack([along, np.ones_like(along)], axis=1)
    solution = np.linalg.lstsq(design, inplane, rcond=None)[0]
    residual = np.linalg.norm(design @ solution - inplane, axis=1)
    worst = int(np.argmax(residual))
    limit = max(0.5, 0.75 * max(slices[0].spacing_mm))
    if residual[worst] > limit:
        raise InputError(
            f"{slices[worst].name}: {tag_name('ImagePositionPatient')} is {residual[worst]:.1f} mm beside the line of "
            f"the others (limit {limit:.2g} mm); the series mixes fields of view: export it again as one stack"
        )
    slope = solution[0]
    # A drift below a tenth of a degree is rounding of the header.
    drifts = float(np.linalg.norm(slope)) > 2e-3
    return (slope if drifts else np.zeros(3)), np.asarray(solution[1])
