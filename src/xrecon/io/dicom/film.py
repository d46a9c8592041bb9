"""Radiographs from DICOM (CR, DX, RG and secondary captures of films), brought to "dense tissue is bright"."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.processing import apply_color_lut

from xrecon.errors import InputError
from xrecon.io.dicom.film_luts import shown_values
from xrecon.io.dicom.film_view import stated_view
from xrecon.io.dicom.pixels import (
    guarded,
    numbers,
    optional_number,
    padding_mask,
    read_dataset,
    stored_pixels,
    tag_name,
    text,
)
from xrecon.io.guards.arrays import check_not_constant
from xrecon.io.guards.files import check_file
from xrecon.io.raw import FilmTags, RawFilm

FILM_MODALITIES = ("CR", "DX", "RG", "RF", "OT", "")
GREY_TOLERANCE = 12
"""Largest difference between channels, of 256 steps, in a grey picture that was stored as colour."""
COLOURED_SHARE = 0.01


def read_dicom_film(path: Path) -> RawFilm:
    """Read a radiograph.

    Inversion follows PhotometricInterpretation, PresentationLUTShape and, for raw data, PixelIntensityRelationshipSign;
    raw data that are linear in the X-ray intensity (LIN, FOR PROCESSING) are log-transformed. Of other films the
    modality and VOI look-up tables are applied, and a negative rescale slope; windows are not (see `film_luts`).

    Raises:
        InputError: damaged, another modality, several frames, coloured, constant, or a tag that holds no number.
        MissingPartError: the decoder of its transfer syntax is not installed.
    """
    with guarded(str(path)):
        return _read(Path(path))


def _read(path: Path) -> RawFilm:
    with check_file(path).open("rb") as stream:
        bare = stream.read(132)[128:] != b"DICM"
        stream.seek(0)
        dataset = read_dataset(stream, str(path), header_only=False, force=bare)
    _check_kind(dataset, path)
    frame = _one_grey_frame(dataset, path)
    stored, padding = frame.values, frame.padding
    check_not_constant(stored, path, what="pixels")
    tags = film_tags(dataset, path)
    valid = stored if padding is None else stored[~padding]
    check_not_constant(valid, path, what="pixels outside the padding")
    dark, notes = _dense_is_dark(dataset, tags, path)
    if tags.log_relationship == "LIN" and tags.intent == "FOR PROCESSING":
        pixels, note = _log_transformed(stored, padding, path, dense_is_dark=dark, full_scale=frame.limits[1])
        notes += (note,)
    else:
        shown = shown_values(dataset, stored, frame.limits, path)
        notes += shown.notes
        pixels = _full_range(shown.values, shown.limits)
        pixels = 1.0 - pixels if dark else pixels
    if padding is not None:
        pixels[padding] = float(pixels[~padding].min())  # collimated: shown like unattenuated beam
        notes += (f"{int(padding.sum())} padding pixels set to the darkest value",)
    return RawFilm(pixels.astype(np.float32), tags, path, notes, inverted=dark)


def _check_kind(dataset: Any, path: Path) -> None:
    modality = text(dataset, "Modality")
    if modality == "CT":
        raise InputError(f"{path}: is a CT image, not a radiograph; give its folder to xrecon.load_ct")
    if modality not in FILM_MODALITIES:
        raise InputError(
            f"{path}: {tag_name('Modality')} is {''.join(c for c in modality if c.isalnum())[:16]}; expected a chest "
            f"radiograph (CR, DX)"
        )
    if not dataset.get("Rows") or not dataset.get("Columns"):
        raise InputError(f"{path}: holds no image ({tag_name('Rows')} is missing); give the film's own file")


@dataclass(frozen=True)
class _GreyFrame:
    """One film as stored.

    Attributes:
        values: [rows, cols], grey values as stored.
        limits: least and largest value that the stored bits can hold.
        padding: which pixels are padding, if any.
    """

    values: NDArray[np.int32]
    limits: tuple[int, int]
    padding: NDArray[np.bool_] | None


def _one_grey_frame(dataset: Any, path: Path) -> _GreyFrame:
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise InputError(f"{path}: holds {frames} frames, expected one film; export the frame that you want")
    pixels = stored_pixels(dataset, str(path))
    limits = _value_range(dataset)
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        values = _grey_samples(pixels.reshape(*pixels.shape[-3:]), limits, path)
        return _GreyFrame(values, limits, padding_mask(dataset, values))
    values = pixels.reshape(int(dataset.Rows), int(dataset.Columns))
    padding = padding_mask(dataset, values)
    if text(dataset, "PhotometricInterpretation") == "PALETTE COLOR":
        colours = np.asarray(apply_color_lut(values.astype(np.uint16), dataset))
        limits = (0, int(np.iinfo(colours.dtype).max))
        values = _grey_samples(colours[..., :3].astype(np.int32), limits, path)
    return _GreyFrame(values, limits, padding)


def _grey_samples(pixels: NDArray[np.int32], limits: tuple[int, int], path: Path) -> NDArray[np.int32]:
    """The grey channel of [rows, cols, 3].

    Decoders convert YBR to RGB or leave it, so that what came out is judged, not the tag: either all three channels
    agree (RGB), or the second and third lie at their middle, where YBR has no colour.
    """
    tolerance = GREY_TOLERANCE * (limits[1] - limits[0] + 1) / 256
    middle = (limits[0] + limits[1] + 1) // 2
    as_rgb = np.ptp(pixels, axis=-1)
    as_ybr = np.abs(pixels[..., 1:] - middle).max(axis=-1)
    if min(float(np.mean(colour > tolerance)) for colour in (as_rgb, as_ybr)) > COLOURED_SHARE:
        raise InputError(f"{path}: a colour picture, expected a grey film; export the film itself")
    return np.ascontiguousarray(pixels[..., 0])


def film_tags(dataset: Any, path: Path) -> FilmTags:
    """What the data set states of its acquisition (docs/geometry-and-conventions.md lists the tags).

    Raises InputError for a tag that holds no number.
    """
    name = str(path)

    def number(keyword: str) -> float | None:
        values = numbers(dataset, keyword, 1, name)
        return values[0] if values else None

    def pair(keyword: str) -> tuple[float, float] | None:
        values = numbers(dataset, keyword, 2, name)
        return (values[0], values[1]) if values else None

    view = stated_view(dataset)
    return FilmTags(
        view=None if view is None else view.beam,
        stated_view=view,
        source_to_detector_mm=number("DistanceSourceToDetector"),
        source_to_patient_mm=number("DistanceSourceToPatient"),
        imager_pixel_mm=pair("ImagerPixelSpacing"),
        pixel_spacing_mm=pair("PixelSpacing") or pair("NominalScannedPixelSpacing"),
        pixel_spacing_calibration=text(dataset, "PixelSpacingCalibrationType") or None,
        magnification=number("EstimatedRadiographicMagnificationFactor"),
        patient_orientation=_orientation(dataset),
        kvp=optional_number(dataset, "KVP"),
        log_relationship=text(dataset, "PixelIntensityRelationship") or None,
        intent=text(dataset, "PresentationIntentType") or None,
    )


def _orientation(dataset: Any) -> tuple[str, str] | None:
    value = dataset.get("PatientOrientation")
    if value is None or isinstance(value, str) or len(value) != 2:
        return None
    first, second = (str(v).strip().upper() for v in value)
    if not first or not second or set(first + second) - set("LRAPHF"):
        return None
    return first, second


def _dense_is_dark(dataset: Any, tags: FilmTags, path: Path) -> tuple[bool, tuple[str, ...]]:
    """Whether small stored values are dense tissue, and what was assumed for that."""
    photometric = text(dataset, "PhotometricInterpretation")
    shape = text(dataset, "PresentationLUTShape")
    sign = numbers(dataset, "PixelIntensityRelationshipSign", 1, str(path))
    displayed = photometric == "MONOCHROME1" or shape == "INVERSE"
    notes: tuple[str, ...] = ()
    if (photometric == "MONOCHROME1" and shape == "IDENTITY") or (photometric == "MONOCHROME2" and shape == "INVERSE"):
        notes += (f"{photometric} and PresentationLUTShape {shape} contradict each other; taken as inverted",)
    # Sign 1: small values mean little X-ray intensity, thus dense tissue. It describes the detector, not the display.
    physical = None if sign is None or sign[0] not in (1, -1) else sign[0] == 1
    if physical is None or physical == displayed:
        dark = displayed
    elif tags.intent == "FOR PROCESSING":
        dark = physical
        notes += ("raw data: inversion by PixelIntensityRelationshipSign, against PhotometricInterpretation",)
    else:
        dark = displayed
        notes += ("PixelIntensityRelationshipSign contradicts PhotometricInterpretation, which was believed",)
    if dark:
        notes += ("stored with dense tissue dark: inverted",)
    if text(dataset, "LossyImageCompression") == "01":
        notes += ("the film was compressed with loss",)
    return dark, notes


def _full_range(stored: NDArray[Any], limits: tuple[float, float]) -> NDArray[np.float32]:
    low, high = limits
    return np.clip((stored.astype(np.float64) - low) / (high - low), 0.0, 1.0).astype(np.float32)


def _value_range(dataset: Any) -> tuple[int, int]:
    """Least and largest value that the stored bits can hold."""
    bits = int(dataset.get("BitsStored") or dataset.get("BitsAllocated") or 16)
    low = -(1 << (bits - 1)) if int(dataset.get("PixelRepresentation") or 0) == 1 else 0
    return low, low + (1 << bits) - 1


def _log_transformed(
    stored: NDArray[np.int32], padding: NDArray[np.bool_] | None, path: Path, *, dense_is_dark: bool, full_scale: int
) -> tuple[NDArray[np.float32], str]:
    """-log of the intensity, scaled to 0..1 between its extremes outside the padding; the least intensity is 1 count.

    A detector that stores dense tissue bright and is linear stores full scale minus counts.
    """
    counts = stored.astype(np.float64) if dense_is_dark else full_scale - stored.astype(np.float64)
    logarithm = np.log(np.maximum(counts, 1.0))
    valid = logarithm if padding is None else logarithm[~padding]
    check_not_constant(valid, path, what="logarithms of the pixels")
    brightest, darkest = float(valid.max()), float(valid.min())
    pixels = np.clip((brightest - logarithm) / (brightest - darkest), 0.0, 1.0)
    note = "raw data, linear in X-ray intensity (LIN, FOR PROCESSING): log-transformed; gain and scatter stay unknown"
    return pixels.astype(np.float32), note
