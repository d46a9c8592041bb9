"""Identity: kept or hidden; UIDs: new, or the same for the same work; bytes: the same for the same input."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from support.dicom_factory import write_film_dicom, write_series
from support.dicom_results import small_chest, small_result, small_study
from xrecon.dicom_output.ct_series import ct_series
from xrecon.dicom_output.identifiers import UidMint, derived_uid, hidden_uid
from xrecon.dicom_output.origin import ct_origin, films_origin
from xrecon.dicom_output.study import study_context
from xrecon.errors import InputError

FILM = np.arange(48, dtype=np.uint16).reshape(6, 8)
IDENTITY = {
    "PatientName": "Müller^Änne=山田^太郎", "PatientID": "SECRET-ID", "StudyInstanceUID": "1.2.3",
    "SpecificCharacterSet": "ISO_IR 192", "AccessionNumber": "SECRET-A", "StudyDate": "20260101",
    "PatientBirthDate": "19500203", "ReferringPhysicianName": "SECRET^DOCTOR",
}  # fmt: skip


def film_pair(folder: Path, **second: Any) -> tuple[Path, Path]:
    pa = write_film_dicom(folder / "pa.dcm", FILM, **IDENTITY)
    return pa, write_film_dicom(folder / "lateral.dcm", FILM, **{**IDENTITY, **second})


def one_slice(**options: Any) -> pydicom.Dataset:
    volume, _ = small_chest()
    return ct_series(volume, study_context(**options), description="CT")[0]  # type: ignore[return-value]


def test_by_default_nothing_of_the_patient_leaves(tmp_path: Path) -> None:
    films = film_pair(tmp_path)
    instance = one_slice(origin=films_origin(films, same_patient=False), digest="ab12" * 16)
    text = str(instance)
    for value in ("SECRET", "ller", "山田", "1950", "1.2.3\n", str(pydicom.dcmread(films[0]).SOPInstanceUID)):
        assert value not in text
    assert instance.PatientID == "XRECON-AB12AB12AB12"
    assert instance.PatientIdentityRemoved == "YES"
    assert instance.PatientBirthDate == "" and instance.AccessionNumber == ""
    assert instance.StudyInstanceUID.startswith("2.25.")


def test_sources_are_referred_to_by_digests_of_their_uids(tmp_path: Path) -> None:
    films = film_pair(tmp_path)
    instance = one_slice(origin=films_origin(films, same_patient=False), digest="ab" * 32)
    referred = [item.ReferencedSOPInstanceUID for item in instance.SourceImageSequence]
    assert referred == [hidden_uid(pydicom.dcmread(path).SOPInstanceUID) for path in films]


def test_a_kept_identity_is_that_of_the_source(tmp_path: Path) -> None:
    films = film_pair(tmp_path)
    instance = one_slice(origin=films_origin(films, same_patient=True), digest="ab" * 32, keep_identity=True)
    buffer = io.BytesIO()
    instance.save_as(buffer, enforce_file_format=True)
    read = pydicom.dcmread(io.BytesIO(buffer.getvalue()))
    for keyword, value in IDENTITY.items():
        assert str(read[keyword].value) == value
    assert "PatientIdentityRemoved" not in read
    assert [item.ReferencedSOPInstanceUID for item in read.SourceImageSequence] == [
        pydicom.dcmread(path).SOPInstanceUID for path in films
    ]


@pytest.mark.parametrize("other", [{"PatientID": "SECRET-TOO"}, {"IssuerOfPatientID": "ELSEWHERE"}])
def test_films_of_two_patients_are_refused_without_naming_them(tmp_path: Path, other: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"PatientID \(0010,0020\) differs") as error:
        films_origin(film_pair(tmp_path, **other), same_patient=True)
    assert "SECRET" not in str(error.value)


def test_a_picture_has_no_identity_to_keep(tmp_path: Path) -> None:
    (tmp_path / "pa.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    origin = films_origin((tmp_path / "pa.png", tmp_path / "pa.png"), same_patient=True)
    assert origin is None
    with pytest.raises(InputError, match="--keep-identity: the input states no patient"):
        study_context(origin, digest="ab" * 32, keep_identity=True)


def test_a_film_without_a_patient_id_has_no_identity_to_keep(tmp_path: Path) -> None:
    films = film_pair(tmp_path, PatientID=None)
    origin = films_origin((films[1], films[1]), same_patient=True)
    with pytest.raises(InputError, match="states no patient"):
        study_context(origin, digest="ab" * 32, keep_identity=True)


def test_a_ct_gives_its_slices_by_position_and_its_room(tmp_path: Path) -> None:
    def in_a_room(dataset: Any, _k: int) -> None:
        dataset.FrameOfReferenceUID = "1.2.3.4"

    origin = ct_origin(write_series(tmp_path, edit=in_a_room))
    assert origin is not None and origin.frame_of_reference == "1.2.3.4"
    heights = [float(header.ImagePositionPatient[2]) for header in origin.ct_headers]
    assert heights == sorted(heights) and len(heights) == 20
    hidden = study_context(origin, digest="ab" * 32)
    assert hidden.frame_of_reference == hidden_uid("1.2.3.4")
    assert study_context(origin, digest="ab" * 32, keep_identity=True).frame_of_reference == "1.2.3.4"


def test_uids_are_new_at_every_run_or_follow_from_a_key() -> None:
    assert UidMint().uid("a") != UidMint().uid("a")
    random = UidMint()
    assert random.uid("a") == random.uid("a") != random.uid("b")
    assert UidMint("k").uid("a") == UidMint("k").uid("a") == derived_uid("k", "a") != UidMint("j").uid("a")
    assert re.fullmatch(r"2\.25\.[1-9]\d{1,38}", derived_uid("k", "a"))


def digests(key: str) -> dict[str, str]:
    sums = {}
    for name, instance in small_result(small_study(key=key)).files():
        buffer = io.BytesIO()
        instance.save_as(buffer, enforce_file_format=True)
        sums[name] = hashlib.sha256(buffer.getvalue()).hexdigest()
    return sums


def test_the_same_input_gives_the_same_bytes() -> None:
    first = digests("key")
    assert len(first) == 19 and first == digests("key")
    assert set(first.values()).isdisjoint(digests("other").values())


def test_every_uid_that_is_not_of_the_standard_is_ours() -> None:
    uids = set()

    def collect(_dataset: Any, element: Any) -> None:
        if element.VR == "UI":
            uids.update([element.value] if isinstance(element.value, str) else element.value)

    for _, instance in small_result(small_study(key="")).files():
        instance.walk(collect)
    assert {uid for uid in uids if not uid.startswith(("2.25.", "1.2.840.10008."))} == set()
