"""The segmentation, read back by highdicom: voxels, sides, codes; and the slices that it refers to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

import xrecon
from support.dicom_factory import write_series
from support.dicom_results import AIR_LEFT, small_chest, small_result, small_study
from xrecon.dicom_output.origin import ct_origin
from xrecon.dicom_output.result import Measured, dicom_result
from xrecon.dicom_output.segments import segmentation_object
from xrecon.dicom_output.study import study_context
from xrecon.errors import InputError
from xrecon.quantify.findings import build_findings
from xrecon.segmentation import Segmentation

hd = pytest.importorskip("highdicom")


def read_back(instance: Any, path: Path) -> Any:
    instance.save_as(path, enforce_file_format=True)
    return hd.seg.segread(path)


def labels_by_place(segmentation: Any, like: Segmentation) -> np.ndarray:
    """Segment numbers of a read Segmentation on the grid of `like`, by physical position alone."""
    volume = segmentation.get_volume(combine_segments=True)
    placed = np.zeros(like.shape, dtype=np.uint8)
    index = np.argwhere(volume.array > 0)
    at = volume.affine @ np.c_[index, np.ones(len(index))].T
    into = np.linalg.solve(like.affine, at)[:3]
    np.testing.assert_allclose(into, np.rint(into), atol=1e-3)
    placed[tuple(np.rint(into).astype(int))] = volume.array[tuple(index.T)]
    return placed


@pytest.mark.parametrize("tilt_deg", [0.0, 17.0])
def test_highdicom_reads_the_labels_back_voxel_for_voxel(tmp_path: Path, tilt_deg: float) -> None:
    _, segmentation = small_chest(tilt_deg=tilt_deg)
    read = read_back(small_result(tilt_deg=tilt_deg).segmentation, tmp_path / "seg.dcm")
    placed = labels_by_place(read, segmentation)
    np.testing.assert_array_equal(placed, segmentation.labels)  # both lungs and left air: numbers 1, 2, 3
    assert placed[AIR_LEFT] == 3


def test_segments_have_names_codes_sides_and_colours(tmp_path: Path) -> None:
    read = read_back(small_result().segmentation, tmp_path / "seg.dcm")
    rows = []
    for number in range(1, read.number_of_segments + 1):
        item = read.get_segment_description(number)
        side = item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning
        rows.append((item.segment_label, item.segmented_property_type.value, side))
        assert item.segmented_property_type.scheme_designator == "SCT"
        assert item.RecommendedDisplayCIELabValue
    assert rows == [
        ("Right lung", "39607008", "Right"),
        ("Left lung", "39607008", "Left"),
        ("Free pleural air, left", "36118008", "Left"),
    ]
    air = read.get_segment_description(3)
    assert air.AnatomicRegionSequence[0].CodeValue == "3120008"
    assert air.AnatomicRegionSequence[0].AnatomicRegionModifierSequence[0].CodeMeaning == "Left"


def test_every_frame_refers_to_the_slice_that_it_lies_on() -> None:
    result = small_result()
    assert result.segmentation is not None
    height = {instance.SOPInstanceUID: list(instance.ImagePositionPatient) for instance in result.ct}
    for frame in result.segmentation.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        np.testing.assert_allclose(
            frame.PlanePositionSequence[0].ImagePositionPatient, height[source], atol=1e-6
        )  # fmt: skip


def test_a_chest_without_labels_has_no_segment() -> None:
    volume, segmentation = small_chest()
    empty = Segmentation(np.zeros_like(segmentation.labels), np.zeros_like(segmentation.labels), segmentation.affine)
    result = dicom_result(
        volume, small_study(), description="CT", measured=Measured(empty, build_findings(empty))
    )  # fmt: skip
    assert result.segmentation is None and result.report is not None
    assert "no segment" in result.notes[0]


def test_labels_of_another_grid_are_refused() -> None:
    _, segmentation = small_chest()
    with pytest.raises(InputError, match="do not lie on 15 slices"):
        segmentation_object(segmentation, small_result().ct[1:], small_study())


def labels_of(ct: xrecon.Volume) -> Segmentation:
    """A bright voxel's surroundings at the patient's right as right lung; everything else empty."""
    labels = np.zeros(ct.shape, dtype=np.uint8)
    marker = ct.hu > 500
    labels[marker] = 1
    return Segmentation(labels, np.zeros_like(labels), ct.affine, source_grid=ct.source_grid)


def test_with_the_identity_kept_it_lies_on_the_slices_of_the_source(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "in", edit=_complete)
    origin = ct_origin(folder)
    assert origin is not None
    ct = xrecon.load_ct(folder)
    segmentation = labels_of(ct)
    study = small_study(origin, keep_identity=True)
    result = dicom_result(
        ct, study, description="CT", source_slices=origin.ct_headers,
        measured=Measured(segmentation, build_findings(segmentation)),
    )  # fmt: skip
    assert result.ct == () and result.notes == ()
    read = read_back(result.segmentation, tmp_path / "seg.dcm")
    np.testing.assert_array_equal(labels_by_place(read, segmentation), segmentation.labels)
    source = pydicom.dcmread(next(folder.iterdir()))
    assert read.StudyInstanceUID == source.StudyInstanceUID and read.PatientID == source.PatientID
    assert read.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    referred = {
        frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        for frame in read.PerFrameFunctionalGroupsSequence
    }
    bright = {
        slice_.SOPInstanceUID
        for slice_ in map(pydicom.dcmread, folder.iterdir())
        if (slice_.pixel_array * slice_.RescaleSlope + slice_.RescaleIntercept > 500).any()
    }
    assert referred == bright


def test_interpolated_slices_are_written_as_a_series_of_their_own(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "in", edit=lambda ds, k: _complete(ds, k) if k != 9 else False)
    origin = ct_origin(folder)
    assert origin is not None
    ct = xrecon.load_ct(folder)
    segmentation = labels_of(ct)
    result = dicom_result(
        ct, small_study(origin, keep_identity=True), description="CT", source_slices=origin.ct_headers,
        measured=Measured(segmentation, build_findings(segmentation)),
    )  # fmt: skip
    assert len(result.ct) == 20 and "series of its own" in result.notes[0]
    assert result.segmentation is not None
    assert result.segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == result.ct[0].SeriesInstanceUID


def test_without_the_identity_the_ct_is_written_beside_it(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "in", edit=_complete)
    origin = ct_origin(folder)
    assert origin is not None
    ct = xrecon.load_ct(folder)
    segmentation = replace(labels_of(ct), notes=())
    result = dicom_result(
        ct, study_context(origin, digest="ab" * 32), description="CT", source_slices=origin.ct_headers,
        measured=Measured(segmentation, build_findings(segmentation)),
    )  # fmt: skip
    assert len(result.ct) == 20
    assert "SECRET" not in str(result.ct[0]) + str(result.segmentation) + str(result.report)


def _complete(dataset: Any, _k: int) -> None:
    dataset.FrameOfReferenceUID = "1.2.3.4"
    dataset.PatientBirthDate, dataset.PatientSex, dataset.StudyID, dataset.AccessionNumber = "19500101", "F", "7", "A"
    dataset.StudyDate, dataset.StudyTime, dataset.ReferringPhysicianName = "20260101", "101112", "SECRET^DOCTOR"
