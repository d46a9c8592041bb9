"""Small, complete DICOM series and films that a test can damage in one place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

DX_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.1"
Edit = Callable[[Dataset, int], Any]


def anatomy(shape: tuple[int, int, int] = (20, 24, 28)) -> np.ndarray:
    """HU [k, row, col] of an axial stack (k up, row to the back, col to the left): body in air, and one marker.

    The marker, 900 HU, sits at the patient's right (low col), front (low row), top (high k).
    """
    hu = np.full(shape, -1000.0, dtype=np.float32)
    hu[2:-2, 4:-4, 4:-4] = 40
    hu[6:-6, 8:-8, 8:-8] = -850
    hu[-5:-2, 5:8, 5:8] = 900
    return hu


def dataset(sop_class: str, pixels: np.ndarray, *, series: str, study: str) -> FileDataset:
    """One image with the tags that CT and films share; its free text holds a name that no output may repeat."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.SeriesInstanceUID, ds.StudyInstanceUID = series, study
    ds.PatientName = "SECRET^NAME"
    ds.PatientID = "SECRET-ID"
    ds.SeriesDescription = "SECRET^NAME chest"
    ds.Rows, ds.Columns = pixels.shape[-2:]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 8 * pixels.itemsize
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.PixelData = np.ascontiguousarray(pixels).tobytes()
    return ds


def write_series(
    folder: Path,
    hu: np.ndarray | None = None,
    *,
    spacing: tuple[float, float, float] = (5.0, 2.0, 1.5),
    edit: Edit | None = None,
    number: int = 3,
    origin: tuple[float, float, float] = (-21.0, -24.0, 100.0),
    seed: int = 0,
    step: tuple[float, float] = (0.0, 0.0),
) -> Path:
    """A CT series of axial slices in files with shuffled names and instance numbers.

    `spacing` is (slices, rows, cols); `edit(ds, k)` changes a slice before it is written, and drops it by returning
    False; `step` is the drift (x, y) of the origin per slice, as with a tilted gantry.
    """
    hu = anatomy() if hu is None else hu
    folder.mkdir(parents=True, exist_ok=True)
    series, study = generate_uid(), generate_uid()
    names = np.random.default_rng(seed).permutation(len(hu))
    for k, plane in enumerate(hu):
        slope, intercept = (1.0, -1024.0) if k % 2 else (2.0, -1024.0)  # per-slice rescale
        stored = np.rint((plane - intercept) / slope).astype(np.uint16)
        ds = dataset(CTImageStorage, stored, series=series, study=study)
        ds.Modality = "CT"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.SeriesNumber, ds.InstanceNumber = number, int(names[k]) + 1
        ds.ImagePositionPatient = [
            round(v, 6) for v in (origin[0] + k * step[0], origin[1] + k * step[1], origin[2] + k * spacing[0])
        ]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing = [spacing[1], spacing[2]]
        ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
        if edit is None or edit(ds, k) is not False:
            ds.save_as(folder / f"IM{names[k]:04d}", enforce_file_format=True)
    return folder


def write_film_dicom(path: Path, pixels: np.ndarray, **tags: Any) -> Path:
    """A DX film; `tags` are DICOM keywords, None removes one."""
    ds = dataset(DX_PRESENTATION, pixels, series=generate_uid(), study=generate_uid())
    ds.Modality = "DX"
    for key, value in tags.items():
        if value is None:
            delattr(ds, key)
        else:
            setattr(ds, key, value)
    ds.save_as(path, enforce_file_format=True)
    return path
