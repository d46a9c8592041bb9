"""CT series from folders and zips: order, gaps, tilt, rescale, choice of series, compression, privacy."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage, JPEGLosslessSV1, RLELossless, generate_uid

from support.dicom_factory import anatomy, dataset, write_series
from xrecon.errors import InputError, MissingPartError
from xrecon.io.dicom.series import read_dicom_ct
from xrecon.volume import load_ct

PATIENT_WORDS = ("SECRET", "NAME")


def expected() -> np.ndarray:
    """What the factory's series becomes: k up; stored values are whole, so rescale rounds to 2 HU at worst."""
    return anatomy()


def test_shuffled_names_and_per_slice_rescale(tmp_path: Path) -> None:
    raw = read_dicom_ct(write_series(tmp_path / "s"))
    assert np.array_equal(raw.hu, expected())
    assert np.allclose(raw.affine, [[0, 0, 1.5, -21], [0, 2, 0, -24], [5, 0, 0, 100], [0, 0, 0, 1]])


def test_orientation_right_anterior_superior_marker(tmp_path: Path) -> None:
    volume = load_ct(write_series(tmp_path / "s"))
    d, h, w = np.argwhere(volume.hu == 900).mean(axis=0)
    assert d < volume.shape[0] / 2  # head end
    assert h < volume.shape[1] / 2  # front
    assert w < volume.shape[2] / 2  # patient's right
    x, y, z = (volume.affine @ [d, h, w, 1])[:3]
    assert np.allclose((x, y, z), (-21 + 6 * 1.5, -24 + 6 * 2, 100 + 16 * 5))


def test_feet_first_prone_series_lands_in_the_same_place(tmp_path: Path) -> None:
    def turned(ds: Dataset, k: int) -> None:
        """The same slices stored with rows and columns reversed (prone hanging)."""
        rows, cols = ds.Rows, ds.Columns
        pixels = np.frombuffer(ds.PixelData, np.uint16).reshape(rows, cols)[::-1, ::-1]
        ds.PixelData = np.ascontiguousarray(pixels).tobytes()
        x, y, z = map(float, ds.ImagePositionPatient)
        ds.ImagePositionPatient = [x + 1.5 * (cols - 1), y + 2 * (rows - 1), z]
        ds.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]

    plain, other = load_ct(write_series(tmp_path / "a")), load_ct(write_series(tmp_path / "b", edit=turned))
    assert np.array_equal(plain.hu, other.hu)
    assert np.allclose(plain.affine, other.affine)


def test_zip_equals_folder_and_junk_is_ignored(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s")
    (folder / "README.txt").write_text("notes")
    (folder / ".hidden").write_bytes(b"\0" * 128 + b"DICM")
    (folder / "sub").mkdir()
    next(folder.glob("IM*")).rename(folder / "sub" / "elsewhere.dcm")
    with zipfile.ZipFile(tmp_path / "s.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.rglob("*"):
            archive.write(file, file.relative_to(tmp_path))
    for path in (folder, tmp_path / "s.zip"):
        assert np.array_equal(read_dicom_ct(path).hu, expected())


def test_largest_series_is_picked_and_said_or_chosen(tmp_path: Path) -> None:
    write_series(tmp_path / "s", number=3)
    write_series(tmp_path / "s" / "small", anatomy()[::2], number=8, spacing=(10, 2, 1.5))
    raw = read_dicom_ct(tmp_path / "s")
    assert raw.hu.shape[0] == 20
    assert any("largest of 2" in note and "series 8" in note for note in raw.notes)
    assert read_dicom_ct(tmp_path / "s", series="8").hu.shape[0] == 10
    uid = str(pydicom.dcmread(next((tmp_path / "s" / "small").iterdir())).SeriesInstanceUID)
    assert read_dicom_ct(tmp_path / "s", series=uid).hu.shape[0] == 10
    assert read_dicom_ct(tmp_path / "s", series=uid[-8:]).hu.shape[0] == 10
    with pytest.raises(InputError, match=r"'99' matches no series.*series 3 .*20 slices.*series 8"):
        read_dicom_ct(tmp_path / "s", series="99")
    with pytest.raises(InputError, match="matches 2 series"):
        read_dicom_ct(tmp_path / "s", series="SECRET^NAME chest")


def test_localizer_and_reports_are_skipped_and_counted(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s")

    def scout(ds: Dataset, k: int) -> bool:
        ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        return k == 0

    def report(ds: Dataset, k: int) -> bool:
        ds.Modality = "SR"
        return k < 2

    write_series(folder / "scout", edit=scout)
    write_series(folder / "report", edit=report)
    raw = read_dicom_ct(folder)
    assert raw.hu.shape[0] == 20
    assert "skipped 1 x localizer, 2 x modality SR" in raw.notes


def test_overview_inside_the_series_is_left_out(tmp_path: Path) -> None:
    def coronal(ds: Dataset, k: int) -> None:
        if k == 0:
            ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    raw = read_dicom_ct(write_series(tmp_path / "s", edit=coronal))
    assert raw.hu.shape[0] == 19
    assert any("1 images" in note and "left out" in note for note in raw.notes)


def test_axial_series_goes_before_a_larger_reformat(tmp_path: Path) -> None:
    def sagittal(ds: Dataset, k: int) -> None:
        ds.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        ds.ImagePositionPatient = [k * 2.0, 0, 0]

    write_series(tmp_path / "s" / "reformat", number=5, edit=sagittal)
    write_series(tmp_path / "s" / "axial", anatomy()[3:], number=4)
    raw = read_dicom_ct(tmp_path / "s")
    assert raw.hu.shape[0] == 17
    assert any("not axial" in note for note in raw.notes)
    assert read_dicom_ct(tmp_path / "s", series="5").hu.shape[0] == 20


def test_identical_duplicates_are_dropped(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s")
    (folder / "copy").write_bytes((folder / "IM0004").read_bytes())
    raw = read_dicom_ct(folder)
    assert np.array_equal(raw.hu, expected())
    assert any("1 duplicate" in note for note in raw.notes)


def two_phases(folder: Path, *, acquisitions: bool) -> Path:
    uid = generate_uid()

    def phase(number: int) -> Any:
        def edit(ds: Dataset, k: int) -> None:
            ds.SeriesInstanceUID = uid
            if acquisitions:
                ds.AcquisitionNumber = number

        return edit

    write_series(folder / "1", edit=phase(1))
    write_series(folder / "2", anatomy() * np.float32(0.5) - 500, edit=phase(2))
    return folder


def test_two_phases_must_be_chosen(tmp_path: Path) -> None:
    folder = two_phases(tmp_path / "s", acquisitions=True)
    with pytest.raises(InputError, match=r"two different images at one position.*--series 3@1 or --series 3@2"):
        read_dicom_ct(folder)
    assert np.array_equal(read_dicom_ct(folder, series="3@1").hu, expected())
    with pytest.raises(InputError, match="no acquisition number '7'"):
        read_dicom_ct(folder, series="3@7")
    with pytest.raises(InputError, match="keep only its files"):
        read_dicom_ct(two_phases(tmp_path / "t", acquisitions=False))


@pytest.mark.parametrize("missing", [(7,), (7, 8), (4, 11, 12)])
def test_few_missing_slices_are_interpolated(tmp_path: Path, missing: tuple[int, ...]) -> None:
    raw = read_dicom_ct(write_series(tmp_path / "s", edit=lambda ds, k: k not in missing))
    assert raw.hu.shape == (20, 24, 28)
    present = [k for k in range(20) if k not in missing]
    assert np.allclose(raw.hu[present], expected()[present], atol=0.01)
    if missing == (7,):
        assert np.allclose(raw.hu[7], (expected()[6] + expected()[8]) / 2, atol=0.01)
    assert np.allclose(raw.affine[:3, 0], [0, 0, 5])
    assert any("missing" in note and "interpolated" in note for note in raw.notes)


def test_many_missing_slices_are_refused(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", edit=lambda ds, k: k not in (7, 8, 9))
    with pytest.raises(InputError, match=r"about 3 slices are missing between the positions 130\.0 and 150\.0 mm"):
        read_dicom_ct(folder)


def test_rounded_positions_are_uniform(tmp_path: Path) -> None:
    def rounded(ds: Dataset, k: int) -> None:
        ds.ImagePositionPatient = [-21, -24, round(100 + 1.25 * k + 1e-9, 1)]

    raw = read_dicom_ct(write_series(tmp_path / "s", edit=rounded))
    assert raw.hu.shape[0] == 20
    assert raw.affine[2, 0] == pytest.approx(1.25, abs=0.01)
    assert not any("interpolated" in note for note in raw.notes)


def test_gantry_tilt_is_resampled_to_orthogonal_axes(tmp_path: Path) -> None:
    raw = read_dicom_ct(write_series(tmp_path / "s", step=(0.0, 1.0)))
    unit = raw.affine[:3, :3] / np.linalg.norm(raw.affine[:3, :3], axis=0)
    assert np.allclose(unit.T @ unit, np.eye(3), atol=1e-9)
    assert any("11.3 degrees" in note for note in raw.notes)  # atan(1 / 5)
    # The marker of slice 16 lies where that slice's own header puts it.
    place = np.argwhere(raw.hu > 450).mean(axis=0)
    x, y, z = (raw.affine @ [*place, 1])[:3]
    assert np.allclose((x, y, z), (-21 + 6 * 1.5, -24 + 16 * 1.0 + 6 * 2, 100 + 16 * 5), atol=0.6)
    assert float(raw.hu.min()) >= -1024
    # Nothing is cut off: bone volume is kept.
    assert (raw.hu > 450).sum() == pytest.approx(27, abs=9)


def test_tilt_tag_without_tilt_is_said(tmp_path: Path) -> None:
    raw = read_dicom_ct(write_series(tmp_path / "s", edit=lambda ds, k: setattr(ds, "GantryDetectorTilt", 12.0)))
    assert any("12 degrees" in note and "believed" in note for note in raw.notes)


def test_origins_off_the_line_are_refused(tmp_path: Path) -> None:
    def jump(ds: Dataset, k: int) -> None:
        if k > 10:
            ds.ImagePositionPatient = [9.0, -24, 100 + 5 * k]

    with pytest.raises(InputError, match=r"ImagePositionPatient .0020,0032.*beside the line"):
        read_dicom_ct(write_series(tmp_path / "s", edit=jump))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda ds, k: delattr(ds, "RescaleSlope"), r"RescaleSlope \(0028,1053\) is missing"),
        (lambda ds, k: delattr(ds, "RescaleIntercept"), r"RescaleIntercept \(0028,1052\) is missing"),
        (lambda ds, k: setattr(ds, "RescaleSlope", 0), r"RescaleSlope .* is 0"),
        (lambda ds, k: setattr(ds, "RescaleType", "OD"), r"RescaleType"),
        (lambda ds, k: delattr(ds, "ImagePositionPatient"), r"ImagePositionPatient \(0020,0032\) is missing"),
        (lambda ds, k: delattr(ds, "ImageOrientationPatient"), r"ImageOrientationPatient \(0020,0037\) is missing"),
        (lambda ds, k: setattr(ds, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "right angles"),
        (lambda ds, k: delattr(ds, "PixelSpacing"), r"PixelSpacing \(0028,0030\) is missing"),
        (lambda ds, k: setattr(ds, "PixelSpacing", [0, 0]), r"PixelSpacing .*0 x 0 mm"),
        (lambda ds, k: setattr(ds, "PixelSpacing", [1e4, 1e4]), "10000"),
        (lambda ds, k: setattr(ds, "PixelData", ds.PixelData[:100]), "truncated or damaged"),
        (lambda ds, k: delattr(ds, "PixelData"), "no PixelData"),
        (lambda ds, k: setattr(ds, "ImagePositionPatient", [0, 0, 0]), "one position|two different"),
        (lambda ds, k: setattr(ds, "RescaleIntercept", 0), r"subtract 1024"),
        (lambda ds, k: k == 0, "single slice"),
    ],
)
def test_damaged_series_are_refused_without_patient_words(tmp_path: Path, edit: Any, words: str) -> None:
    folder = write_series(tmp_path / "s", edit=edit)
    with pytest.raises(InputError, match=words) as caught:
        read_dicom_ct(folder)
    assert str(folder) in str(caught.value)
    assert not any(word in str(caught.value) for word in PATIENT_WORDS)


def test_notes_hold_no_patient_words(tmp_path: Path) -> None:
    write_series(tmp_path / "s", number=3)
    write_series(tmp_path / "s" / "b", anatomy()[::2], number=8, spacing=(10, 2, 1.5))
    notes = " ".join(read_dicom_ct(tmp_path / "s", series="8").notes + read_dicom_ct(tmp_path / "s").notes)
    assert notes
    assert not any(word in notes for word in PATIENT_WORDS)


def test_signed_pixels_high_bits_and_padding(tmp_path: Path) -> None:
    def signed(ds: Dataset, k: int) -> None:
        hu = anatomy()[k].astype(np.int16)
        hu[:2] = -2000
        stored = hu.astype(np.uint16) & 0x0FFF  # 12 bits, sign in bit 11
        stored[0, 5] |= 0x8000  # an overlay above the stored bits
        ds.PixelData = stored.tobytes()
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 1
        ds.RescaleSlope, ds.RescaleIntercept = 1, 0
        ds.add_new("PixelPaddingValue", "SS", -2000)

    raw = read_dicom_ct(write_series(tmp_path / "s", edit=signed))
    assert np.array_equal(raw.hu[:, 2:], expected()[:, 2:])
    assert (raw.hu[:, :2] == -1024).all()


def test_padding_value_that_is_tissue_is_not_believed(tmp_path: Path) -> None:
    """PixelPaddingValue equal to a value inside the body, at no corner: a device's careless default."""
    folder = write_series(tmp_path / "s", edit=lambda ds, k: ds.add_new("PixelPaddingValue", "US", 1064 // (2 - k % 2)))
    assert np.array_equal(read_dicom_ct(folder).hu, expected())


def test_monochrome1_leaves_hu_alone(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", edit=lambda ds, k: setattr(ds, "PhotometricInterpretation", "MONOCHROME1"))
    raw = read_dicom_ct(folder)
    assert np.array_equal(raw.hu, expected())
    assert any("MONOCHROME1" in note for note in raw.notes)


def test_rle_is_read(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", edit=lambda ds, k: ds.compress(RLELossless, generate_instance_uid=False))
    assert np.array_equal(read_dicom_ct(folder).hu, expected())


def test_jpeg_lossless_is_read_where_the_decoder_is_there(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SWIG's own
        gdcm = pytest.importorskip("gdcm", reason="python-gdcm (extra [dicom]) decodes JPEG lossless")
    folder = write_series(tmp_path / "s")
    for file in folder.iterdir():
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(file))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(str(file))
        assert writer.Write()
    first = pydicom.dcmread(next(folder.iterdir()), stop_before_pixels=True)
    assert first.file_meta.TransferSyntaxUID == JPEGLosslessSV1
    assert np.array_equal(read_dicom_ct(folder).hu, expected())


def test_missing_decoder_names_syntax_and_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lossless(ds: Dataset, k: int) -> None:
        ds.compress(RLELossless, generate_instance_uid=False)
        ds.file_meta.TransferSyntaxUID = JPEGLosslessSV1

    folder = write_series(tmp_path / "s", edit=lossless)
    from pydicom.pixels.decoders import JPEGLosslessSV1Decoder

    monkeypatch.setattr(JPEGLosslessSV1Decoder, "_available", {})
    with pytest.raises(MissingPartError, match=r"JPEG Lossless.*4\.70.*pip install 'xrecon\[dicom\]'"):
        read_dicom_ct(folder)


def test_file_without_preamble(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s")
    for file in folder.iterdir():
        ds = pydicom.dcmread(file)
        del ds.file_meta, ds.preamble
        ds.save_as(file, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert np.array_equal(read_dicom_ct(folder).hu, expected())


def enhanced(path: Path) -> Path:
    hu = anatomy()
    order = np.random.default_rng(1).permutation(len(hu))
    ds = dataset(
        EnhancedCTImageStorage, (hu[order] + 1024).astype(np.uint16), series=generate_uid(), study=generate_uid()
    )
    ds.Modality, ds.NumberOfFrames, ds.SeriesNumber = "CT", len(hu), 3

    def item(**values: Any) -> Dataset:
        group = Dataset()
        for key, value in values.items():
            setattr(group, key, value)
        return group

    shared = Dataset()
    shared.PlaneOrientationSequence = Sequence([item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])])
    shared.PixelMeasuresSequence = Sequence([item(PixelSpacing=[2.0, 1.5])])
    shared.PixelValueTransformationSequence = Sequence([item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")])
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    ds.PerFrameFunctionalGroupsSequence = Sequence(
        [item(PlanePositionSequence=Sequence([item(ImagePositionPatient=[-21, -24, 100 + 5.0 * k])])) for k in order]
    )
    ds.save_as(path, enforce_file_format=True)
    return path


def test_enhanced_multi_frame_ct(tmp_path: Path) -> None:
    plain, multi = read_dicom_ct(write_series(tmp_path / "s")), read_dicom_ct(enhanced(tmp_path / "multi.dcm"))
    assert np.array_equal(plain.hu, multi.hu)
    assert np.allclose(plain.affine, multi.affine)


def test_single_file_of_a_series_points_to_its_folder(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s")
    with pytest.raises(InputError, match=f"single slice.*give its folder, {folder}"):
        read_dicom_ct(folder / "IM0001")


@pytest.mark.parametrize("length", [140, 300, 600, 760])
def test_truncated_header_names_the_file(tmp_path: Path, length: int) -> None:
    folder = write_series(tmp_path / "s")
    file = folder / "IM0003"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(InputError, match=r"IM0003.*(damaged|truncated)"):
        read_dicom_ct(folder)


def test_short_scan_is_noted(tmp_path: Path) -> None:
    raw = read_dicom_ct(write_series(tmp_path / "s", anatomy()[10:]))
    assert any("not a whole chest" in note for note in raw.notes)


def test_synthetic_series_is_known(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", edit=lambda ds, k: setattr(ds, "ImageComments", "SYNTHETIC / RESEARCH"))
    assert read_dicom_ct(folder).synthetic
    assert not read_dicom_ct(write_series(tmp_path / "t")).synthetic
