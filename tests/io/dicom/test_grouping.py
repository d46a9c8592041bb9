"""Which images are one picture of one patient: derived images, patients, studies, folders, numbers a hair apart."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from support.dicom_factory import anatomy, write_series
from xrecon.errors import InputError
from xrecon.volume import load_ct

DERIVED = (
    ["DERIVED", "PRIMARY", "MIP"],
    ["DERIVED", "SECONDARY", "AVERAGE"],
    ["DERIVED", "SECONDARY", "MPR"],
    ["DERIVED", "PRIMARY", "AXIAL", "CT_SOM5 MPR"],
    ["DERIVED", "PRIMARY", "AXIAL"],
    ["ORIGINAL", "PRIMARY", "MINIP"],
    ["ORIGINAL", "PRIMARY", "AXIAL", "MIP_SLAB"],
    ["ORIGINAL", "SECONDARY", "PROJECTION IMAGE"],
    ["ORIGINAL", "PRIMARY", "AXIAL", "AVG"],
)


def pack(folder: Path, *, zipped: bool) -> Path:
    if not zipped:
        return folder
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    return folder.with_suffix(".zip")


def tagged(**values: Any) -> Any:
    def edit(ds: Dataset, _k: int) -> None:
        for keyword, value in values.items():
            setattr(ds, keyword, value)

    return edit


@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("same", [False, True], ids=["own series", "same series"])
@pytest.mark.parametrize("kinds", DERIVED, ids="-".join)
def test_more_derived_images_never_win(tmp_path: Path, kinds: list[str], *, same: bool, zipped: bool) -> None:
    study, series = generate_uid(), [generate_uid(), generate_uid()]
    write_series(tmp_path / "ct" / "a", edit=tagged(StudyInstanceUID=study, SeriesInstanceUID=series[0]))
    hu = np.repeat(anatomy(), 3, axis=0)
    more = tagged(StudyInstanceUID=study, SeriesInstanceUID=series[0 if same else 1], ImageType=kinds)
    write_series(tmp_path / "ct" / "b", hu, spacing=(5 / 3, 2, 1.5), number=9, edit=more)
    volume = load_ct(pack(tmp_path / "ct", zipped=zipped))
    assert np.array_equal(volume.hu[::-1], anatomy())
    assert any("derived images" in note for note in volume.notes)


@pytest.mark.parametrize("kinds", DERIVED[:6], ids="-".join)
def test_only_derived_images_are_read_and_said(tmp_path: Path, kinds: list[str]) -> None:
    volume = load_ct(write_series(tmp_path / "ct", edit=tagged(ImageType=kinds)))
    assert any("derived, not original" in note for note in volume.notes)


def test_images_without_a_kind_are_read_as_ever(tmp_path: Path) -> None:
    volume = load_ct(write_series(tmp_path / "ct", edit=lambda ds, _k: delattr(ds, "ImageType")))
    assert volume.notes == ()


@pytest.mark.parametrize("same", [False, True])
def test_thick_slabs_over_thin_slices_never_win(tmp_path: Path, *, same: bool) -> None:
    study, series = generate_uid(), [generate_uid(), generate_uid()]
    slices = tagged(StudyInstanceUID=study, SeriesInstanceUID=series[0], SliceThickness=5)
    slabs = tagged(StudyInstanceUID=study, SeriesInstanceUID=series[0 if same else 1], SliceThickness=12)
    write_series(tmp_path / "a", edit=slices)
    write_series(tmp_path / "b", np.repeat(anatomy(), 3, axis=0), spacing=(5 / 3, 2, 1.5), number=9, edit=slabs)
    volume = load_ct(tmp_path)
    assert np.array_equal(volume.hu[::-1], anatomy())
    assert any("thick slabs" in note for note in volume.notes)


def test_a_larger_angled_stack_of_the_series_goes_after_the_straight_one(tmp_path: Path) -> None:
    study, series = generate_uid(), generate_uid()
    for number, degrees in enumerate((0.0, 20.0, -30.0)):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))

        def edit(ds: Dataset, k: int, c: float = c, s: float = s) -> None:
            ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
            ds.ImageOrientationPatient = [1, 0, 0, 0, round(c, 6), round(s, 6)]
            ds.ImagePositionPatient = [-21, round(-24 - 5 * s * k, 4), round(100 + 5 * c * k, 4)]

        write_series(tmp_path / str(number), np.repeat(anatomy(), number + 1, axis=0), edit=edit)
    volume = load_ct(tmp_path)
    assert np.array_equal(volume.hu[::-1], anatomy())
    assert any("another orientation" in note for note in volume.notes)


TWO_PATIENTS = {
    "another ID": {"PatientID": "b"},
    "another name": {"PatientName": "B^B"},
    "another date of birth": {"PatientBirthDate": "19500101"},
    "nobody, and no study": {"PatientID": "", "PatientName": "", "PatientBirthDate": "", "StudyInstanceUID": ""},
}


@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("uid", ["1.2.3", ""], ids=["one UID", "no UID"])
@pytest.mark.parametrize("second", list(TWO_PATIENTS))
def test_two_patients_never_merge(tmp_path: Path, second: str, uid: str, *, zipped: bool) -> None:
    values = TWO_PATIENTS[second]
    nobody = values if "StudyInstanceUID" in values else {}
    common = {"SeriesInstanceUID": uid, "StudyInstanceUID": "1.2"}
    write_series(tmp_path / "ct" / "a", edit=tagged(**{**common, **nobody}))
    write_series(tmp_path / "ct" / "b", anatomy() + 6, edit=tagged(**{**common, **values}))
    place = pack(tmp_path / "ct", zipped=zipped)
    with pytest.raises(InputError, match="2 different patients") as refused:
        load_ct(place)
    assert "SECRET" not in str(refused.value) and "B^B" not in str(refused.value)
    corners = {float(load_ct(place, series=f"#{number}").hu[0, 0, 0]) for number in (1, 2)}
    assert corners == {-1000.0, -994.0}


def test_one_uid_for_two_studies_is_a_choice(tmp_path: Path) -> None:
    for number in (1, 2):
        write_series(
            tmp_path / str(number), anatomy() + 2 * number,
            edit=tagged(SeriesInstanceUID="1.2.3", StudyInstanceUID=f"1.2.{number}"),
        )  # fmt: skip
    with pytest.raises(InputError, match="under one SeriesInstanceUID"):
        load_ct(tmp_path)
    assert np.array_equal(load_ct(tmp_path, series="#2").hu[::-1], anatomy() + 4)


def test_a_series_shared_out_over_folders_is_one(tmp_path: Path) -> None:
    common = {"SeriesInstanceUID": "1.2.3", "StudyInstanceUID": "1.2"}
    for number in (0, 1):

        def edit(ds: Dataset, k: int, number: int = number) -> bool:
            tagged(**common)(ds, k)
            return k // 10 == number

        write_series(tmp_path / str(number), edit=edit)
    volume = load_ct(tmp_path)
    assert np.array_equal(volume.hu[::-1], anatomy()) and volume.notes == ()


def test_a_copy_of_the_series_in_another_folder_is_dropped(tmp_path: Path) -> None:
    write_series(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    volume = load_ct(tmp_path)
    assert np.array_equal(volume.hu[::-1], anatomy())
    assert any("duplicate" in note for note in volume.notes)


def _directions(ds: Dataset, k: int) -> None:
    a, b = np.random.default_rng(k).normal(0, 1e-6, 2)
    ds.ImageOrientationPatient = [1, f"{a:.9f}", 0, 0, 1, f"{b:.9f}"]


def _spacing(ds: Dataset, k: int) -> None:
    ds.PixelSpacing = [f"{2 + 2e-6 * (k % 3 - 1):.8f}", f"{1.5:.{1 + k % 6}f}"]


def _frames(ds: Dataset, _k: int) -> None:
    ds.FrameOfReferenceUID = generate_uid()


def _tilt(value: str) -> Any:
    def edit(ds: Dataset, _k: int) -> None:
        ds.add_new(0x00181120, "LO", value)

    return edit


HARMLESS = {
    "directions": _directions, "spacing": _spacing, "frames of reference": _frames,
    "tilt NONE": _tilt("NONE"), "tilt 0,0": _tilt("0,0"), "tilt empty": _tilt(""), "two tilts": _tilt("0\\0"),
}  # fmt: skip


@pytest.mark.parametrize("edit", list(HARMLESS.values()), ids=list(HARMLESS))
def test_a_hair_apart_or_odd_without_need_changes_nothing(tmp_path: Path, edit: Any) -> None:
    volume = load_ct(write_series(tmp_path / "ct", edit=edit))
    assert np.array_equal(volume.hu[::-1], anatomy())
    assert volume.spacing_mm == pytest.approx((5, 2, 1.5), abs=1e-5)
    assert volume.notes == ()
