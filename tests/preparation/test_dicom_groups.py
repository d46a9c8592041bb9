"""`prepare` groups DICOM as `load_ct` does: patients, studies, derived images, acquisitions, unusable files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from support.dicom_factory import write_series
from xrecon.preparation.request import PrepareRequest
from xrecon.preparation.run import PrepareReport, prepare_dataset
from xrecon.preparation.settings import PrepareSettings
from xrecon.volume import Volume

pytestmark = pytest.mark.usefixtures("fast_lungs")
SETTINGS = PrepareSettings(size=32, lung_model="classical")


def prepare(folder: Path, output: Path) -> PrepareReport:
    return prepare_dataset(PrepareRequest([str(folder)], str(output), settings=SETTINGS, workers=1, test_share=0.0))


def as_dicom(folder: Path, ct: Volume, **values: Any) -> Path:
    """The thorax as a series from feet to head; `values` are tags."""

    def edit(ds: Dataset, _k: int) -> None:
        for keyword, value in values.items():
            setattr(ds, keyword, value)

    return write_series(folder, ct.hu[::-1], spacing=(6.0, 6.0, 6.0), origin=(-189.0, -189.0, -189.0), edit=edit)


TWO_PATIENTS: dict[str, dict[str, Any]] = {
    "another ID": {"PatientID": "b"},
    "another name": {"PatientName": "B^B"},
    "nobody, and no study": {"PatientID": "", "PatientName": "", "StudyInstanceUID": ""},
}


@pytest.mark.parametrize("uid", ["1.2.3", ""], ids=["one UID", "no UID"])
@pytest.mark.parametrize("second", list(TWO_PATIENTS))
def test_two_patients_are_two_cases_with_two_names(people: list[Volume], tmp_path: Path, second: str, uid: str) -> None:
    common = {"SeriesInstanceUID": uid, "StudyInstanceUID": "1.2"}
    first = TWO_PATIENTS[second] if "StudyInstanceUID" in TWO_PATIENTS[second] and uid == "" else {}
    as_dicom(tmp_path / "in" / "a", people[0], **{**common, **first})
    as_dicom(tmp_path / "in" / "b", people[1], **{**common, **TWO_PATIENTS[second]})
    manifest = prepare(tmp_path / "in", tmp_path / "out").manifest
    assert len(manifest.cases) == 2, manifest.rejected
    assert len({case.patient for case in manifest.cases}) == 2


def test_two_studies_under_one_uid_are_two_cases_of_one_patient(people: list[Volume], tmp_path: Path) -> None:
    for number in (0, 1):
        uids = {"SeriesInstanceUID": "1.2.3", "StudyInstanceUID": f"1.{number}"}
        as_dicom(tmp_path / "in" / str(number), people[number], **uids)
    manifest = prepare(tmp_path / "in", tmp_path / "out").manifest
    assert len(manifest.cases) == 2, manifest.rejected
    assert len({case.patient for case in manifest.cases}) == 1


@pytest.mark.parametrize("kinds", [["DERIVED", "SECONDARY", "AVERAGE"], ["ORIGINAL", "PRIMARY", "AXIAL", "MIP_SLAB"]])
def test_derived_images_are_not_prepared_beside_originals(
    people: list[Volume], tmp_path: Path, kinds: list[str]
) -> None:
    as_dicom(tmp_path / "in" / "a", people[0], StudyInstanceUID="1.2")
    finer = Volume(np.repeat(people[0].hu, 2, axis=0), people[0].affine)
    as_dicom(tmp_path / "in" / "b", finer, StudyInstanceUID="1.2", ImageType=kinds)
    manifest = prepare(tmp_path / "in", tmp_path / "out").manifest
    assert [case.source_shape for case in manifest.cases] == [(64, 64, 64)]
    assert any("derived images (ImageType)" in refused.reason for refused in manifest.rejected)


@pytest.mark.parametrize("header", ["AcquisitionNumber", "AcquisitionTime", None])
def test_two_breaths_in_one_series_are_refused(people: list[Volume], tmp_path: Path, header: str | None) -> None:
    def edit(ds: Dataset, k: int) -> None:
        if header is not None:
            setattr(ds, header, str(101500 + k % 2))

    hu = np.array(people[0].hu[::-1])
    hu[1::2] = np.roll(hu[1::2], (3, 2), axis=(0, 1))
    write_series(tmp_path / "in" / "a", hu, spacing=(6.0, 6.0, 6.0), edit=edit)
    as_dicom(tmp_path / "in" / "b", people[1], PatientID="b")
    manifest = prepare(tmp_path / "in", tmp_path / "out").manifest
    assert len(manifest.cases) == 1
    assert any("lie in one another" in refused.reason for refused in manifest.rejected)


@pytest.mark.parametrize("content", [b"<html>404</html>", b"no image" * 200], ids=["web page", "text"])
def test_missing_apices_are_a_warning_of_the_case(people: list[Volume], tmp_path: Path, content: bytes) -> None:
    folder = as_dicom(tmp_path / "in" / "a", people[0])
    for file in list(folder.iterdir()):
        height = float(pydicom.dcmread(file, stop_before_pixels=True).ImagePositionPatient[2])
        file.rename(folder / f"S{round((height + 189) / 6):03d}.dcm")
    for name in ("S064.dcm", "S065.dcm"):
        (folder / name).write_bytes(content)
    manifest = prepare(tmp_path / "in", tmp_path / "out").manifest
    words = " ".join(manifest.cases[0].warnings)
    assert "2 files beside the slices could not be used" in words and "at the head end" in words
