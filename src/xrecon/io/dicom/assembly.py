"""From the slices of one stack to a volume: which belong together, in which order, and what is missing between them.

Slices are ordered by their position along the slice normal, never by file name or instance number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.io.dicom.acquisitions import Acquisition, complete_one, separate_by_content, separate_by_header
from xrecon.io.dicom.grouping import LEAST_STACK
from xrecon.io.dicom.pixels import guarded, padding_mask, stored_pixels, tag_name
from xrecon.io.dicom.slices import Slice
from xrecon.io.guards.arrays import check_count
from xrecon.io.guards.grids import check_affine
from xrecon.io.guards.hounsfield import OUTSIDE_HU, check_hu
from xrecon.io.guards.wrapped import StoredScale
from xrecon.io.raw import RawVolume
from xrecon.io.slice_grid import orientation_notes, remove_shear, uniform_slices
from xrecon.io.source_grid import SHEAR_REMOVED, SLICES_INTERPOLATED, SourceGrid, as_triple

SAME_POSITION = 0.05
"""Share of the slice spacing below which two positions count as the same."""
_SAME_DIRECTION = 0.01
"""Largest difference of two unit vectors that count as one direction (0.6 degrees)."""
_AXIAL, _STRAIGHT = 0.7, 0.985
"""Cosine of the angle to the body's axis up to which a stack is axial (45 degrees), and straight (10 degrees)."""
_SAME_SPACING = 2e-3
"""Relative difference of two pixel spacings that count as one."""


def assemble(slices: list[Slice], *, name: str, number: str, acquisition: str, path: Path) -> RawVolume:
    """The volume of the slices of one series.

    Args:
        slices: in any order.
        name: of the series, for messages.
        number: of the series, as `--series` takes it.
        acquisition: which acquisition, where the series holds several that lie in one another; "" for no choice.
        path: for messages.

    Raises:
        InputError: a single slice, several acquisitions of equal rank and no choice, several images at one position,
            a gap, slices beside the line of the others, values that are no HU.
    """
    slices, notes = _alike(slices)
    if len(slices) < 2:
        hint = f"give its folder, {path.parent}" if path.is_file() else "copy the whole series into the folder"
        raise InputError(f"{path}: {name} is a single slice, a volume needs at least two; {hint}")
    normal = slices[0].normal
    slices = sorted(slices, key=lambda plane: float(plane.position @ normal))
    request = _Request(name, number, acquisition, path)
    parts = separate_by_header(slices, _positions(slices))
    taken, chosen = _one_acquisition(parts, request)
    slices = slices if taken is None else [slices[k] for k in taken]
    numbered = any(plane.acquisition == acquisition for plane in slices)
    if acquisition and taken is None and numbered:
        slices = _of_acquisition(slices, request)
    hu, slices, more = _decode(slices, request)
    if not parts:
        parts = separate_by_content(hu, slices, _positions(slices))
        taken, chosen = _one_acquisition(parts, request)
        if taken is not None:
            hu, slices = hu[taken], [slices[k] for k in taken]
        elif acquisition and not numbered:
            raise _no_acquisition(request)
    notes += chosen
    along = _positions(slices)
    slope, intercept = _line(slices, along)
    hu, values = check_hu(hu, path, scale=_stored_scale(slices))
    hu, pitch, repaired = uniform_slices(hu, along, path)
    affine = np.eye(4)
    affine[:3, 0] = (normal + slope) * pitch
    affine[:3, 1] = slices[0].along_column * slices[0].spacing_mm[0]
    affine[:3, 2] = slices[0].along_row * slices[0].spacing_mm[1]
    affine[:3, 3] = intercept + along[0] * (normal + slope)
    affine = check_affine(affine, hu.shape, path, tag="ImagePositionPatient, ImageOrientationPatient and PixelSpacing")
    hu, affine, sheared = remove_shear(hu, affine, path)
    resampled = " and ".join(
        reason for reason, said in ((SLICES_INTERPOLATED, repaired), (SHEAR_REMOVED, sheared)) if said
    )
    tilt = slices[0].tilt_deg
    if tilt is not None and abs(tilt) > 0.5 and not sheared:
        sheared = (f"{tag_name('GantryDetectorTilt')} says {tilt:g} degrees, the positions show none and are believed",)
    notes += more + repaired + values + sheared + orientation_notes(hu.shape, affine)
    grid = SourceGrid(as_triple(hu.shape[::-1]), affine[:, [2, 1, 0, 3]], resampled=resampled)
    return RawVolume(hu, affine, path, notes, grid=grid)


@dataclass(frozen=True)
class _Request:
    """What was asked for, for messages: name and number of the series, acquisition ("" for any), place."""

    series: str
    number: str
    acquisition: str
    path: Path


def _positions(slices: Sequence[Slice]) -> NDArray[np.float64]:
    return np.array([plane.position @ slices[0].normal for plane in slices])


def _one_acquisition(
    parts: Sequence[Acquisition], request: _Request
) -> tuple[NDArray[np.intp] | None, tuple[str, ...]]:
    """Indices of the slices to read (None: all), and a note. Raises InputError where the user has to choose."""
    if not parts:
        return None, ()
    listing = "; ".join(part.words for part in parts)
    choices = " or ".join(f"--series {request.number}@{part.selector}" for part in parts)
    problem = f"{request.series} holds {len(parts)} acquisitions that lie in one another: {listing}"
    if request.acquisition:
        for part in parts:
            if part.selector == request.acquisition:
                return part.indices, (f"{problem}; read {part.words}, as asked",)
        raise InputError(
            f"{request.path}: {request.series} has no acquisition number {request.acquisition!r}; choose {choices}"
        )
    best = complete_one(parts)
    if best is None:
        raise InputError(f"{request.path}: {problem}; slices of different breaths are not mixed: choose {choices}")
    return best.indices, (f"{problem}; read the complete one, {best.words}; the others: {choices}",)


def _of_acquisition(slices: list[Slice], request: _Request) -> list[Slice]:
    return [plane for plane in slices if plane.acquisition == request.acquisition]


def _no_acquisition(request: _Request) -> InputError:
    return InputError(
        f"{request.path}: {request.series} has no acquisition number {request.acquisition!r}; leave out "
        f"@{request.acquisition}"
    )


def _alike(slices: list[Slice]) -> tuple[list[Slice], tuple[str, ...]]:
    """The slices of one matrix, pixel spacing and orientation, and a note on those that were left out.

    Numbers are compared by their distance: headers round, and a millionth must not divide a stack. An axial stack goes
    before a larger one of other planes: those were computed from it.
    """
    groups: list[list[Slice]] = []
    for plane in slices:
        home = next((group for group in groups if not _differences(group[0], plane)), None)
        if home is None:
            groups.append([plane])
        else:
            home.append(plane)
    best = max(groups, key=_fitness)
    others = [plane for group in groups if group is not best for plane in group]
    if not others:
        return best, ()
    reasons = [name for name in _DIFFERENCES if any(name in _differences(best[0], plane) for plane in others)]
    return best, (f"{len(others)} images of the series have another {_listed(reasons)} and were left out",)


_DIFFERENCES = ("matrix", "pixel spacing", "orientation")


def _differences(first: Slice, second: Slice) -> tuple[str, ...]:
    """In what two slices differ, of `_DIFFERENCES`."""
    spacing = np.abs(np.divide(second.spacing_mm, first.spacing_mm) - 1.0).max()
    turn = max(
        float(np.abs(first.along_row - second.along_row).max()),
        float(np.abs(first.along_column - second.along_column).max()),
    )
    differs = (first.shape != second.shape, spacing > _SAME_SPACING, turn > _SAME_DIRECTION)
    return tuple(name for name, yes in zip(_DIFFERENCES, differs, strict=True) if yes)


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _fitness(group: Sequence[Slice]) -> tuple[bool, bool, int]:
    """Straight axial stacks go before angled ones, those before other planes, and then larger ones."""
    along = abs(float(group[0].normal[2])) if len(group) >= LEAST_STACK else 0.0
    return along >= _STRAIGHT, along >= _AXIAL, len(group)


def _decode(slices: list[Slice], request: _Request) -> tuple[NDArray[np.float32], list[Slice], tuple[str, ...]]:
    """HU [k, rows, cols] of position-sorted slices without duplicates, those slices, and notes."""
    check_count((len(slices), *slices[0].shape), request.path)
    normal = slices[0].normal
    along = _positions(slices)
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
                raise InputError(_several_images(unique[-1], plane, request))
            continue
        hu[len(unique)] = values
        unique.append(plane)
    if len(unique) < 2:
        raise InputError(
            f"{request.path}: all {len(slices)} slices of {request.series} have the same "
            f"{tag_name('ImagePositionPatient')}; a volume needs at least two positions: export the series again"
        )
    duplicates = len(slices) - len(unique)
    notes = (f"{duplicates} duplicate slices (same position, same pixels) dropped",) if duplicates else ()
    return hu[: len(unique)], unique, notes


def _several_images(first: Slice, second: Slice, request: _Request) -> str:
    problem = (
        f"{request.path}: {request.series} holds two different images at one position ({first.name} and "
        f"{second.name}): several phases or reconstructions in one series"
    )
    if first.acquisition and second.acquisition and first.acquisition != second.acquisition:
        choices = " or ".join(f"--series {request.number}@{a}" for a in sorted({first.acquisition, second.acquisition}))
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


def _stored_scale(slices: Sequence[Slice]) -> StoredScale:
    """The rescale tags, as one pair of numbers where all slices share them."""
    if len({(plane.slope, plane.intercept) for plane in slices}) == 1:
        return StoredScale(slices[0].slope, slices[0].intercept)
    pairs = np.array([(plane.slope, plane.intercept) for plane in slices])
    return StoredScale(pairs[:, :1, None], pairs[:, 1:, None])


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
