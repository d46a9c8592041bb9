"""A picture as a Secondary Capture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from xrecon.dicom_output.study import SeriesPlace, StudyContext, new_instance, source_items

PLACE = SeriesPlace("SC", 9004, "OT", "Preview")


def picture_pixels(path: Path) -> NDArray[np.uint8]:
    """[rows, columns, 3] of a picture file of ours."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.uint8)


def secondary_capture(pixels: NDArray[np.uint8], study: StudyContext) -> Dataset:
    """A Secondary Capture of a picture [rows, columns, 3], 0..255."""
    instance = new_instance(study, PLACE, SecondaryCaptureImageStorage, number=1)
    instance.ImageType = ["DERIVED", "SECONDARY"]
    instance.ConversionType = "WSD"
    instance.ImageComments = PLACE.notice
    instance.BurnedInAnnotation = "NO"
    instance.BodyPartExamined, instance.PatientOrientation = "CHEST", ""
    if study.images:
        instance.SourceImageSequence = source_items(study)
    instance.SamplesPerPixel, instance.PhotometricInterpretation, instance.PlanarConfiguration = 3, "RGB", 0
    instance.Rows, instance.Columns = pixels.shape[:2]
    instance.BitsAllocated = instance.BitsStored = 8
    instance.HighBit, instance.PixelRepresentation = 7, 0
    content = np.ascontiguousarray(pixels).tobytes()
    instance.PixelData = content + b"\0" * (len(content) % 2)
    return instance
