"""From what a film file states to a cone-beam geometry, and to the one way in which films are hung here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.geometry import VIEW_POSITIONS, ConeBeam
from xrecon.io.guards.grids import FILM_SPACING_RANGE_MM, check_spacing
from xrecon.io.raw import FilmTags, StatedView

DISTANCE_RANGE_MM = (300.0, 6000.0)
MAGNIFICATION_RANGE = (1.001, 3.0)
LEAST_GAP_MM = 60.0
"""The middle of a chest lies no nearer to the detector: an adult's chest is 160 mm deep and more."""
_CONTRADICTION = 0.03
"""Share by which two statements of the magnification may differ."""
_SQUARE, _NEVER_SQUARE = 1.02, 1.6
"""Ratio of the edges of a pixel from which it is said, and from which the film is refused."""
CHEST_FILM_MM = (250.0, 500.0)
"""The longer edge of a chest film of an adult at the detector."""
POSSIBLE_FILM_MM = (150.0, 700.0)
"""Beyond these, no film of a chest: infants' films and stitched ones lie between."""
BEAMS = {"pa": ("pa", "ap", "frontal"), "lateral": ("lateral", "right_lateral")}
_BEAM_NAMES = {
    "pa": "PA",
    "ap": "AP",
    "frontal": "frontal",
    "lateral": "left lateral",
    "right_lateral": "right lateral",
}
_VIEW_TAGS = "ViewPosition (0018,5101) or ViewCodeSequence (0054,0220)"
_UNUSUAL_NOTE = "the models know films of standing patients, so the result is less certain"
_PIXEL_REMEDY = "give pixel_mm (the pitch at the detector) to override it"
_IMAGER_SPACING, _PIXEL_SPACING = "ImagerPixelSpacing (0018,1164)", "PixelSpacing (0028,0030)"
Notes = tuple[str, ...]


def beam_of(tags: FilmTags, view: str, source: Path) -> tuple[str, Notes]:
    """The view position of the film (a key of `VIEW_POSITIONS`), and what was assumed.

    Raises InputError where the file contradicts `view`.
    """
    stated = tags.stated_view
    if tags.view is None:
        return view, (_without_beam(stated, view),)
    if tags.view not in BEAMS[view]:
        family = "lateral" if tags.view in BEAMS["lateral"] else "frontal"
        words = _BEAM_NAMES[tags.view] if stated is None else stated.words
        raise InputError(
            f"{source}: the file says that it shows a {family} view, {words} ({_VIEW_TAGS}, or its side-car), but it "
            f"was given as view {view!r}; swap the two films or correct the tag"
        )
    notes: Notes = ()
    if stated is not None and stated.is_unusual:
        notes += (f"the file states an unusual view, {stated.words}: {_UNUSUAL_NOTE}",)
    if tags.view == "frontal":
        return view, (*notes, f"the file states a frontal view, but not whether PA or AP: taken as {_BEAM_NAMES[view]}")
    if tags.view != view:
        notes += (f"the film is {_BEAM_NAMES[tags.view]}, not {_BEAM_NAMES[view]}: its own beam is used",)
    return tags.view, notes


def _without_beam(stated: StatedView | None, view: str) -> str:
    """The note of a file that states no direction of the beam that is known here."""
    taken = f"taken as {_BEAM_NAMES[view]}, as given"
    if stated is None:
        return f"the file states no view: taken as {_BEAM_NAMES[view]}"
    if stated.is_unknown:
        return f"the file states the view 'unknown': {_VIEW_TAGS} holds no word that is known here; {taken}: check it"
    if stated.is_contradictory:
        return f"the file contradicts itself in its view, {stated.words} ({_VIEW_TAGS}): {taken}: check it"
    return f"the file states an unusual view, {stated.words} ({_VIEW_TAGS}): {taken}; {_UNUSUAL_NOTE}"


def hang(
    pixels: NDArray[np.float32], tags: FilmTags, view: str, source: Path
) -> tuple[NDArray[np.float32], FilmTags, Notes]:
    """Pixels with the patient's right (PA) or front (lateral) on the left and the head on top, by PatientOrientation.

    Returns: pixels, tags with their pixel spacings in the new axes, notes. Raises InputError where the orientation
    fits the other view only and ViewPosition is silent.
    """
    side, opposite = ("L", "R") if view == "pa" else ("P", "A")
    if tags.patient_orientation is None:
        hung = "the patient's right" if view == "pa" else "the patient's front"
        return pixels, tags, (f"the file states no orientation: assumed head up and {hung} on the image's left",)
    columns, rows = (direction[0] for direction in tags.patient_orientation)
    notes: Notes = ()
    if columns in "HF" and rows in (side, opposite):
        pixels, columns, rows = pixels.T, rows, columns
        tags = replace(tags, imager_pixel_mm=_swapped(tags.imager_pixel_mm))
        tags = replace(tags, pixel_spacing_mm=_swapped(tags.pixel_spacing_mm))
        notes += ("turned by PatientOrientation (stored lying on its side)",)
    if columns not in (side, opposite) or rows not in "HF":
        stated = f"{columns}\\{rows}"
        message = f"PatientOrientation (0020,0020) is {stated}, which does not fit a {_BEAM_NAMES[view]} film"
        if tags.view is None:
            raise InputError(f"{source}: {message}; swap the two films or correct the tag")
        return pixels, tags, (*notes, f"{message}; it was ignored, since ViewPosition fits")
    if columns == opposite:
        pixels = pixels[:, ::-1]
        notes += ("flipped left to right by PatientOrientation",)
    if rows == "H":
        pixels = pixels[::-1]
        notes += ("flipped upside down by PatientOrientation",)
    return np.ascontiguousarray(pixels), tags, notes


def _swapped(pair: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if pair is None else (pair[1], pair[0])


def geometry_from_tags(
    tags: FilmTags,
    shape: tuple[int, int],
    *,
    view: str,
    default: str | ConeBeam,
    pixel_mm: float | None,
    source: Path,
) -> tuple[ConeBeam, Notes]:
    """Geometry of a film of `shape` pixels: the file's tags, else `default` (a preset's name or a geometry).

    The order of trust is: for the pixel pitch `pixel_mm`, ImagerPixelSpacing, PixelSpacing (scaled up by the
    magnification if it is calibrated to the patient), the default; for the patient's distance the magnification,
    SourceToPatient, the two pixel spacings' ratio, the default's gap between patient and detector.

    Raises:
        InputError: the file contradicts `view`, or states an absurd spacing or a size that no chest film has.
    """
    beam, notes = beam_of(tags, view, source)
    base = _base(beam, shape, view=view, default=default, source=source)
    detector, isocentre, more = _distances(tags, base)
    pitch, used = _pitch(tags, shape, base, pixel_mm=pixel_mm, magnification=detector / isocentre, source=source)
    used += _size_notes(tags, shape, pitch, pixel_mm=pixel_mm, source=source)
    geometry = replace(
        base,
        source_to_isocentre_mm=isocentre,
        source_to_detector_mm=detector,
        detector_shape=shape,
        pixel_mm=pitch,
    )
    return geometry, notes + more + used


def _base(beam: str, shape: tuple[int, int], *, view: str, default: str | ConeBeam, source: Path) -> ConeBeam:
    if isinstance(default, str):
        return ConeBeam.preset(default, beam, size=max(shape))
    nominal = {VIEW_POSITIONS[name][0] for name in BEAMS[view] if name in VIEW_POSITIONS}
    if not any(abs((default.angle_deg - angle + 180) % 360 - 180) <= 45 for angle in nominal):
        raise InputError(
            f"{source}: the geometry given has angle_deg {default.angle_deg:g}, which is no {view} view (0 is PA, 90 "
            f"left lateral); give the geometry of this view"
        )
    turn = VIEW_POSITIONS[beam][0] - VIEW_POSITIONS[view][0]
    return (
        default if default.mirrored or not turn else replace(default, angle_deg=default.angle_deg + turn, mirrored=True)
    )


def _distances(tags: FilmTags, base: ConeBeam) -> tuple[float, float, Notes]:
    """Source-detector and source-isocentre distance (mm), and how they were found."""
    gap = base.source_to_detector_mm - base.source_to_isocentre_mm
    detector, notes = base.source_to_detector_mm, list[str]()
    stated = tags.source_to_detector_mm
    if stated is not None and DISTANCE_RANGE_MM[0] <= stated <= DISTANCE_RANGE_MM[1]:
        detector = stated
    elif stated:
        notes.append(
            f"DistanceSourceToDetector is {stated:g} mm, which is absurd: assumed {detector:g} mm ({base.name})"
        )
    else:
        notes.append(f"source-detector distance not stated: assumed {detector:g} mm ({base.name})")
    ratio = _spacing_ratio(tags)
    magnification, more = _stated_magnification(tags, detector, ratio)
    notes += more
    if magnification is not None:
        return detector, detector / magnification, tuple(notes)
    low, high = MAGNIFICATION_RANGE
    patient = tags.source_to_patient_mm
    has_room = patient is not None and detector - patient >= LEAST_GAP_MM
    if patient is not None and has_room and detector == stated and detector / max(patient, 1e-6) <= high:
        notes.append(f"isocentre at the stated DistanceSourceToPatient, {patient:g} mm from the source")
        return detector, patient, tuple(notes)
    if patient:
        notes.append(f"DistanceSourceToPatient {patient:g} mm does not fit {detector:g} mm to the detector")
    if ratio is not None and low <= ratio <= high:
        notes.append(f"magnification {ratio:.4g} from ImagerPixelSpacing over PixelSpacing")
        return detector, detector / ratio, tuple(notes)
    isocentre = detector - gap if detector > 2 * gap else detector / base.magnification
    notes.append(f"patient's distance assumed: isocentre {detector - isocentre:g} mm before the detector")
    return detector, isocentre, tuple(notes)


def _stated_magnification(tags: FilmTags, detector: float, ratio: float | None) -> tuple[float | None, list[str]]:
    """The magnification that the file states, where a chest can have it, and what is to be said of it.

    Args:
        tags: of the file.
        detector: distance from the source, mm.
        ratio: pixel pitch at the detector over that in the patient, or None.
    """
    value = tags.magnification
    if value is None:
        return None, []
    name = f"EstimatedRadiographicMagnificationFactor (0018,1114) is {value:g}"
    low, high = MAGNIFICATION_RANGE
    if not low <= value <= high:
        return None, [f"{name}, which is absurd: ignored"]
    before = detector - detector / value
    if before < LEAST_GAP_MM:
        return None, [f"{name}: the middle of a chest cannot lie {before:.0f} mm before the detector: ignored"]
    notes = [f"patient's distance from the stated magnification {value:g}"]
    if ratio is not None and low <= ratio <= high and abs(ratio / value - 1) > _CONTRADICTION:
        notes.append(f"{name}, but ImagerPixelSpacing over PixelSpacing is {ratio:.4g}: check the distances")
    return value, notes


def _spacing_ratio(tags: FilmTags) -> float | None:
    if tags.imager_pixel_mm is None or tags.pixel_spacing_mm is None or min(tags.pixel_spacing_mm) <= 0:
        return None
    return tags.imager_pixel_mm[0] / tags.pixel_spacing_mm[0]


def _pitch(
    tags: FilmTags,
    shape: tuple[int, int],
    base: ConeBeam,
    *,
    pixel_mm: float | None,
    magnification: float,
    source: Path,
) -> tuple[tuple[float, float], Notes]:
    """Pixel pitch at the detector (rows, cols), mm, and how it was found."""

    def checked(values: float | tuple[float, float], tag: str, remedy: str = _PIXEL_REMEDY) -> tuple[float, float]:
        spacing = check_spacing(values, source, tag=tag, limits=FILM_SPACING_RANGE_MM, remedy=remedy)
        return spacing[0], spacing[-1]

    if pixel_mm is not None:
        return checked(pixel_mm, "pixel_mm", "give the pitch of the detector's pixels in mm"), ()
    if tags.imager_pixel_mm is not None:
        return checked(tags.imager_pixel_mm, _IMAGER_SPACING), ()
    if tags.pixel_spacing_mm is not None:
        rows, cols = checked(tags.pixel_spacing_mm, _PIXEL_SPACING)
        if tags.pixel_spacing_calibration in ("GEOMETRY", "FIDUCIAL"):
            note = f"PixelSpacing is calibrated to the patient ({tags.pixel_spacing_calibration})"
            scaled = (rows * magnification, cols * magnification)
            return scaled, (f"{note}: scaled by the magnification {magnification:.4g} to the detector",)
        return (rows, cols), ("PixelSpacing without ImagerPixelSpacing: taken as the pitch at the detector",)
    return _assumed_pitch(shape, base, magnification, source)


def _size_notes(
    tags: FilmTags, shape: tuple[int, int], pitch: tuple[float, float], *, pixel_mm: float | None, source: Path
) -> Notes:
    """Notes on a film of doubtful size. Raises InputError where the file's own spacing gives an impossible size."""
    if pixel_mm is not None:
        tag = "pixel_mm (--pixel-mm)"
    elif tags.imager_pixel_mm is not None:
        tag = _IMAGER_SPACING
    elif tags.pixel_spacing_mm is not None:
        tag = _PIXEL_SPACING
    else:  # the default's size was assumed, and that was said
        return ()
    height, width = (n * p for n, p in zip(shape, pitch, strict=True))
    size = f"{tag} gives a film {width:.4g} mm wide and {height:.4g} mm high at the detector"
    oblong = max(pitch) / min(pitch)
    pixels = f"{tag} says that the pixels are {pitch[0]:g} mm high and {pitch[1]:g} mm wide"
    if oblong > _NEVER_SQUARE:
        raise InputError(f"{source}: {pixels}; those of a film are square: {_PIXEL_REMEDY}, --pixel-mm on the command")
    notes = (f"{pixels}, which is not square; check the spacing, or {_PIXEL_REMEDY}",) if oblong > _SQUARE else ()
    usual = f"the longer edge of a chest film is {CHEST_FILM_MM[0]:g} to {CHEST_FILM_MM[1]:g} mm long"
    edge = max(height, width)
    if pixel_mm is None and not POSSIBLE_FILM_MM[0] <= edge <= POSSIBLE_FILM_MM[1]:
        raise InputError(f"{source}: {size}, which is impossible: {usual}; {_PIXEL_REMEDY}, --pixel-mm on the command")
    if not CHEST_FILM_MM[0] <= edge <= CHEST_FILM_MM[1]:
        return (*notes, f"{size}, which is doubtful: {usual}")
    return notes


def _assumed_pitch(
    shape: tuple[int, int], base: ConeBeam, magnification: float, source: Path
) -> tuple[tuple[float, float], Notes]:
    if base.detector_shape == (max(shape), max(shape)):  # a preset: its square detector holds the longer edge
        at_isocentre = base.pixel_at_isocentre_mm[0]
        pitch = at_isocentre * magnification
        edge = f"{at_isocentre * max(shape):.4g} mm at the isocentre"
        return (pitch, pitch), (f"no pixel spacing stated: the longer edge is assumed to span {edge}",)
    rows, cols = (p * n / m for p, n, m in zip(base.pixel_mm, base.detector_shape, shape, strict=True))
    if abs(rows / cols - base.pixel_mm[0] / base.pixel_mm[1]) > 0.02:
        raise InputError(
            f"{source}: the film has {shape[0]} x {shape[1]} pixels, the geometry's detector {base.detector_shape}, of "
            f"another shape; give pixel_mm"
        )
    return (rows, cols), (f"no pixel spacing stated: the film is assumed to fill the detector of {base.name}",)
