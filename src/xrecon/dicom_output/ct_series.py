"""A CT as a series of CT Image Storage: one file per slice, from the head to the feet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from pydicom.valuerep import format_number_as_ds

from xrecon.dicom_output.burned_in import burn_in_text
from xrecon.dicom_output.study import SeriesPlace, StudyContext, date_of, new_instance, source_items, time_of
from xrecon.errors import InputError
from xrecon.volume import Volume

WINDOWS = (("LUNG", -600, 1500), ("MEDIASTINUM", 40, 400), ("BONE", 400, 1800))
"""Name, centre and width of the presets, HU; the first is what most viewers show."""
_LIMITS = np.iinfo(np.int16)
_ORTHOGONAL = 2e-3
"""Largest cosine between two axes that counts as a right angle."""


def ct_series(volume: Volume, study: StudyContext, *, description: str, burn_in: bool = False) -> list[Dataset]:
    """The slices of a CT.

    HU are rounded to whole numbers (slope 1, intercept 0), and cut to -32768..32767. Rows run along the volume's H,
    columns along its W, and slices along its D.

    Args:
        volume: of any orientation whose axes stand at right angles.
        study: where it belongs.
        description: of the series, at most 18 letters.
        burn_in: draw the notice into the pixels of every slice.

    Raises:
        InputError: the axes do not stand at right angles, or the slices are too small to burn text into.
    """
    _check_right_angles(volume)
    place = SeriesPlace("CT", 9001, "CT", description, synthetic=volume.synthetic)
    stored = np.clip(np.rint(volume.hu), _LIMITS.min, _LIMITS.max).astype(np.int16)
    if burn_in:
        stored = burn_in_text(stored, place.notice)
    return [_slice(volume, stored[d], study, place, d, burn_in=burn_in) for d in range(len(stored))]


def _check_right_angles(volume: Volume) -> None:
    directions = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    worst = float(np.abs(directions.T @ directions - np.eye(3)).max())
    if worst > _ORTHOGONAL:
        raise InputError(
            f"the axes of the CT do not stand at right angles (cosine {worst:.3g}), which a DICOM series cannot hold; "
            "resample it to a straight grid first"
        )


def _slice(
    volume: Volume, pixels: NDArray[np.int16], study: StudyContext, place: SeriesPlace, index: int, *, burn_in: bool
) -> Dataset:
    instance = new_instance(study, place, CTImageStorage, number=index + 1)
    instance.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    instance.ImageComments = f"{place.notice}; drawn into the pixels" if burn_in else place.notice
    instance.BurnedInAnnotation = "NO"  # it asks for what identifies a patient, which the notice does not
    instance.AcquisitionNumber = "1"
    instance.AcquisitionDate, instance.AcquisitionTime = date_of(study.written_at), time_of(study.written_at)
    instance.KVP = None
    instance.BodyPartExamined = "CHEST"
    instance.PatientPosition = ""
    instance.PositionReferenceIndicator = ""
    instance.FrameOfReferenceUID = study.frame_of_reference
    if volume.synthetic:
        instance.DerivationDescription = "computed by xrecon"
    if study.images:
        instance.SourceImageSequence = source_items(study)
    _put_plane(instance, volume, index)
    _put_pixels(instance, pixels)
    return instance


def _put_plane(instance: Dataset, volume: Volume, index: int) -> None:
    thick, rows, columns = volume.spacing_mm
    directions = volume.affine[:3, :3] / np.array([thick, rows, columns])
    position = volume.affine[:3, 3] + index * volume.affine[:3, 0]
    normal = np.cross(directions[:, 2], directions[:, 1])
    instance.ImagePositionPatient = _decimals(position)
    instance.ImageOrientationPatient = _decimals([*directions[:, 2], *directions[:, 1]])
    instance.PixelSpacing = _decimals([rows, columns])
    (instance.SliceThickness,) = (instance.SpacingBetweenSlices,) = _decimals([thick])
    (instance.SliceLocation,) = _decimals([float(position @ normal)])


def _decimals(values: NDArray[np.float64] | list[float]) -> list[str]:
    """Decimal strings of at most 16 letters, without a minus before zero."""
    return [format_number_as_ds(round(float(value), 9) + 0.0) for value in values]


def _put_pixels(instance: Dataset, pixels: NDArray[np.int16]) -> None:
    instance.SamplesPerPixel, instance.PhotometricInterpretation = 1, "MONOCHROME2"
    instance.Rows, instance.Columns = pixels.shape
    instance.BitsAllocated = instance.BitsStored = 16
    instance.HighBit, instance.PixelRepresentation = 15, 1
    instance.RescaleSlope, instance.RescaleIntercept, instance.RescaleType = "1", "0", "HU"
    instance.WindowCenter = [str(centre) for _, centre, _ in WINDOWS]
    instance.WindowWidth = [str(width) for _, _, width in WINDOWS]
    instance.WindowCenterWidthExplanation = [name for name, _, _ in WINDOWS]
    instance.PixelData = np.ascontiguousarray(pixels).astype("<i2").tobytes()
