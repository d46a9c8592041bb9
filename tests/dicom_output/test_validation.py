"""Every kind of instance against checkers that know the standard and not this package: dciodvfy and DCMTK."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

from support.dicom_results import program, said_by, small_result

KINDS = ("ct/0001.dcm", "segmentation.dcm", "report.dcm", "preview.dcm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("result")
    small_result().write(path)
    return path


@pytest.mark.parametrize("name", KINDS)
def test_dciodvfy_finds_no_error(folder: Path, name: str) -> None:
    dciodvfy = program("dciodvfy", "dicom3tools")
    lines = said_by(dciodvfy, folder / name).splitlines()
    known = "Unrecognized defined term <99XRECON>"  # a private coding scheme, declared in the instance
    assert lines[0] in ("CTImage", "Segmentation", "Comprehensive3DSR", "SCImage")
    assert [line for line in lines[1:] if known not in line] == []


def test_dciodvfy_itself_finds_what_is_missing(folder: Path, tmp_path: Path) -> None:
    dciodvfy = program("dciodvfy", "dicom3tools")
    damaged = pydicom.dcmread(folder / KINDS[0])
    del damaged.ImageOrientationPatient
    damaged.save_as(tmp_path / "damaged.dcm")
    done = subprocess.run([dciodvfy, tmp_path / "damaged.dcm"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Missing attribute Type 1 Required Element=<ImageOrientationPatient>" in done.stderr


@pytest.mark.parametrize("name", KINDS)
def test_dcmtk_reads_every_element(folder: Path, name: str) -> None:
    said = said_by(program("dcmdump", "dcmtk"), "+E", folder / name)
    assert "SOPInstanceUID" in said and "error" not in said.lower()


def test_dcmtk_reads_the_report_as_a_document(folder: Path) -> None:
    said = said_by(program("dsrdump", "dcmtk"), "+Pc", folder / "report.dcm")
    assert "Comprehensive 3D SR Document" in said
    assert '"Largest depth of free air, square to the chest wall"' in said
    assert "(mm,UCUM,\"mm\")" in said  # fmt: skip


def test_pydicom_reads_the_preview_pixel_for_pixel(folder: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (31, 47, 3), dtype=np.uint8)
    np.testing.assert_array_equal(pydicom.dcmread(folder / "preview.dcm").pixel_array, picture)
