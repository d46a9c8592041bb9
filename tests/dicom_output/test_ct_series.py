"""The CT series: values, geometry and what it says of itself, read by three readers that are not its writer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

import xrecon
from support.dicom_results import RIGHT_MARKER, program, said_by, small_chest, small_study
from xrecon.dicom_output.ct_series import ct_series
from xrecon.errors import InputError
from xrecon.volume import RESEARCH_NOTICE, Volume

TILTS = (0.0, 17.0)


def written(folder: Path, volume: Volume, *, burn_in: bool = False) -> Path:
    for number, instance in enumerate(ct_series(volume, small_study(), description="CT", burn_in=burn_in)):
        instance.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)
    return folder


@pytest.mark.parametrize("tilt_deg", TILTS)
def test_our_own_reader_gets_the_same_voxels_at_the_same_places(tmp_path: Path, tilt_deg: float) -> None:
    volume, _ = small_chest(tilt_deg=tilt_deg)
    read = xrecon.load_ct(written(tmp_path, volume))
    assert read.synthetic
    np.testing.assert_array_equal(read.hu, np.rint(volume.hu))
    np.testing.assert_allclose(read.affine, volume.affine, atol=1e-6)


@pytest.mark.parametrize("tilt_deg", TILTS)
def test_simpleitk_reads_the_same_geometry(tmp_path: Path, tilt_deg: float) -> None:
    sitk = pytest.importorskip("SimpleITK")
    volume, _ = small_chest(tilt_deg=tilt_deg)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(written(tmp_path, volume))))
    image = reader.Execute()
    assert image.GetSize() == (40, 24, 16)
    for place in ((0, 0, 0), RIGHT_MARKER, (15, 23, 39)):
        at = volume.affine @ (*place, 1)
        index = image.TransformPhysicalPointToIndex(tuple(at[:3]))
        assert image.GetPixel(index) == round(float(volume.hu[place]))
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(index), at[:3], atol=1e-5)
    right, front, top = image.TransformPhysicalPointToIndex(tuple((volume.affine @ (*RIGHT_MARKER, 1))[:3]))
    assert right < 20 and front < 12 and top > 8  # LPS: the patient's right, front and head


@pytest.mark.parametrize("tilt_deg", TILTS)
def test_dcm2niix_converts_it_to_the_same_nifti(tmp_path: Path, tilt_deg: float) -> None:
    dcm2niix = program("dcm2niix", "dcm2niix")
    volume, _ = small_chest(tilt_deg=tilt_deg)
    (tmp_path / "in").mkdir()
    said_by(dcm2niix, "-o", tmp_path, "-f", "ct", "-z", "n", "-b", "n", written(tmp_path / "in", volume))
    ours = nib.as_closest_canonical(nib.load(volume.save(tmp_path / "ours.nii")))
    theirs = nib.as_closest_canonical(nib.load(tmp_path / "ct.nii"))
    np.testing.assert_allclose(theirs.affine, ours.affine, atol=1e-3)
    np.testing.assert_array_equal(theirs.get_fdata(), ours.get_fdata())


def test_every_slice_says_what_it_is(tmp_path: Path) -> None:
    volume, _ = small_chest()
    slices = [pydicom.dcmread(path) for path in sorted(written(tmp_path, volume).iterdir())]
    first = slices[0]
    assert list(first.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
    assert RESEARCH_NOTICE in first.SeriesDescription and RESEARCH_NOTICE in first.ImageComments
    assert len(first.SeriesDescription) <= 64
    assert (first.RescaleSlope, first.RescaleIntercept, first.RescaleType) == (1, 0, "HU")
    assert list(first.WindowCenterWidthExplanation) == ["LUNG", "MEDIASTINUM", "BONE"]
    assert len({instance.SOPInstanceUID for instance in slices}) == 16
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({instance[keyword].value for instance in slices}) == 1
        assert first[keyword].value.startswith("2.25.")
    heights = [float(instance.ImagePositionPatient[2]) for instance in slices]
    assert heights == sorted(heights, reverse=True)  # the first is the head's
    assert [int(instance.InstanceNumber) for instance in slices] == list(range(1, 17))


def test_a_measured_ct_is_not_called_synthetic(tmp_path: Path) -> None:
    volume, _ = small_chest()
    path = written(tmp_path, replace(volume, synthetic=False))
    assert not xrecon.load_ct(path).synthetic
    assert pydicom.dcmread(path / "000.dcm").ImageComments == "RESEARCH ONLY / NOT FOR DIAGNOSIS"


def test_values_beyond_16_bits_are_cut_not_wrapped(tmp_path: Path) -> None:
    volume, _ = small_chest()
    hu = np.array(volume.hu)
    hu[0, 0, :2] = 40000, -40000
    pixels = pydicom.dcmread(written(tmp_path, volume.with_hu(hu)) / "000.dcm").pixel_array
    assert list(pixels[0, :3]) == [32767, -32768, -1000]


def test_slanted_axes_are_refused() -> None:
    volume, _ = small_chest()
    affine = np.array(volume.affine)
    affine[1, 0] = 1.0  # a gantry tilt
    with pytest.raises(InputError, match="right angles"):
        ct_series(Volume(volume.hu, affine), small_study(), description="CT")


def test_the_notice_can_be_drawn_into_the_pixels() -> None:
    volume = Volume.centred(np.full((2, 64, 128), -1000.0, dtype=np.float32), (1, 1, 1), synthetic=True)
    plain, marked = (
        ct_series(volume, small_study(), description="CT", burn_in=burn_in)[0].pixel_array for burn_in in (False, True)
    )
    letters = marked == 1000
    assert (plain == -1000).all() and 300 < letters.sum() < 2000
    assert not letters[45:].any() and letters[:, :110].any()  # three lines at the upper left
    assert (marked[~letters] == -1000).all()


def test_slices_too_small_for_the_text_are_refused() -> None:
    volume, _ = small_chest()
    with pytest.raises(InputError, match=r"at least \d+ x \d+ pixels, these have 24 x 40"):
        ct_series(volume, small_study(), description="CT", burn_in=True)
