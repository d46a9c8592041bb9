"""Round trips through a real archive: C-STORE and STOW-RS up, C-FIND and QIDO, C-GET and WADO-RS down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage

import xrecon
from support.dicom_results import program, said_by, small_chest, small_result, small_study
from support.orthanc import AE_TITLE, Orthanc, running_orthanc
from xrecon.dicom_output.result import DicomResult
from xrecon.volume import RESEARCH_NOTICE

CLASSES = (CTImageStorage, "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.7")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture
def empty(archive: Orthanc) -> Orthanc:
    archive.clear()
    return archive


@pytest.fixture
def result() -> DicomResult:
    return small_result(small_study(key=""))


@pytest.fixture
def folder(result: DicomResult, tmp_path: Path) -> Path:
    result.write(tmp_path / "up")
    return tmp_path / "up"


def uids(result: DicomResult) -> set[str]:
    return {str(instance.SOPInstanceUID) for _, instance in result.files()}


def compare(returned: list[Any], result: DicomResult, folder: Path) -> None:
    """Everything that came back has the pixels and the content of what was sent, and is the same chest."""
    sent = {str(instance.SOPInstanceUID): instance for _, instance in result.files()}
    assert {str(instance.SOPInstanceUID) for instance in returned} == set(sent)
    folder.mkdir()
    for number, instance in enumerate(returned):
        original = sent[str(instance.SOPInstanceUID)]
        for keyword in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesDescription"):
            assert instance[keyword].value == original[keyword].value
        assert RESEARCH_NOTICE in instance.SeriesDescription
        if "PixelData" in original:
            np.testing.assert_array_equal(instance.pixel_array, original.pixel_array)
        if "ContentSequence" in original:
            assert json.loads(instance.to_json())["0040A730"] == json.loads(original.to_json())["0040A730"]
        instance.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    volume, _ = small_chest()
    read = xrecon.load_ct(folder)
    np.testing.assert_array_equal(read.hu, np.rint(volume.hu))
    np.testing.assert_allclose(read.affine, volume.affine, atol=1e-6)
    assert read.synthetic


def test_c_store_c_find_and_c_get(empty: Orthanc, result: DicomResult, folder: Path, tmp_path: Path) -> None:
    storescu, findscu = program("storescu", "dcmtk"), program("findscu", "dcmtk")
    peer = ("-aec", AE_TITLE, "127.0.0.1", str(empty.dicom_port))
    # -R: offer the classes of the files, -xe: in explicit little endian, -nh: stop where one is not taken.
    said_by(storescu, "-R", "-nh", "-xe", "+sd", "+r", *peer, folder)
    assert empty.instances() == uids(result)
    study = str(result.ct[0].StudyInstanceUID)
    keys = (
        "-k",
        "QueryRetrieveLevel=SERIES",
        "-k",
        f"StudyInstanceUID={study}",
        "-k",
        "Modality",
        "-k",
        "SeriesDescription",
    )
    found = said_by(findscu, "-S", *peer, *keys)
    assert {kind for kind in ("CT", "SEG", "SR", "OT") if f"[{kind}" in found} == {"CT", "SEG", "SR", "OT"}
    compare(c_get(empty, study), result, tmp_path / "down")


def c_get(archive: Orthanc, study: str) -> list[Any]:
    """Every instance of a study, by C-GET."""
    pytest.importorskip("pynetdicom")
    from pynetdicom import AE, build_role, evt
    from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet  # type: ignore[attr-defined]

    returned = []

    def keep(event: Any) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        returned.append(dataset)
        return 0

    entity = AE("TEST")
    entity.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
    for sop_class in CLASSES:
        entity.add_requested_context(sop_class, "1.2.840.10008.1.2.1")
    association = entity.associate(
        "127.0.0.1", archive.dicom_port, ae_title=AE_TITLE, evt_handlers=[(evt.EVT_C_STORE, keep)],
        ext_neg=[build_role(sop_class, scp_role=True) for sop_class in CLASSES],
    )  # fmt: skip
    assert association.is_established
    query = pydicom.Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", study
    states = [status.Status for status, _ in association.send_c_get(query, StudyRootQueryRetrieveInformationModelGet)]
    association.release()
    assert states[-1] == 0
    return returned


def test_stow_qido_and_wado(empty: Orthanc, result: DicomResult, folder: Path, tmp_path: Path) -> None:
    api = pytest.importorskip("dicomweb_client.api")
    client = api.DICOMwebClient(empty.dicomweb_url)
    client.store_instances([pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))])
    assert empty.instances() == uids(result)
    study = str(result.ct[0].StudyInstanceUID)
    rows = client.search_for_series(study_instance_uid=study)
    assert sorted(row["00080060"]["Value"][0] for row in rows) == ["CT", "OT", "SEG", "SR"]
    (patient,) = client.search_for_studies(search_filters={"StudyInstanceUID": study})
    assert patient["00100020"]["Value"] == ["XRECON-0123456789AB"]
    compare(client.retrieve_study(study), result, tmp_path / "down")


def test_storing_the_same_result_again_changes_nothing(empty: Orthanc, result: DicomResult, folder: Path) -> None:
    storescu = program("storescu", "dcmtk")
    for _ in range(2):
        said_by(storescu, "-R", "-nh", "-xe", "+sd", "+r", "-aec", AE_TITLE, "127.0.0.1", str(empty.dicom_port), folder)
    assert empty.instances() == uids(result)
