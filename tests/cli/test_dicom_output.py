"""`--dicom` of reconstruct, segment and plant: what is written, for whom, and what is refused before the work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

import xrecon
from support.dicom_factory import write_film_dicom
from xrecon.cli.app import build_app
from xrecon.phantoms.thorax import Phantom
from xrecon.volume import RESEARCH_NOTICE

pytest.importorskip("highdicom")


def run(*arguments: object) -> Any:
    return CliRunner().invoke(build_app(), [*map(str, arguments)])


@pytest.fixture(scope="module")
def films(phantom64: Phantom, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """PA and lateral film of the phantom as DICOM, of one patient and study."""
    folder = tmp_path_factory.mktemp("films")
    paths = []
    for film in xrecon.simulate(phantom64.volume, size=64):
        low, high = float(film.image.min()), float(film.image.max())
        pixels = np.rint((film.image - low) / (high - low) * 4095).astype(np.uint16)
        paths.append(
            write_film_dicom(
                folder / f"{film.view}.dcm",
                pixels,
                StudyInstanceUID="1.2.3",
                ImagerPixelSpacing=list(film.geometry.pixel_mm),
                ViewPosition="PA" if film.view == "pa" else "LL",
                BitsStored=12,
                HighBit=11,
                StudyDate="20260102",
            )
        )
    return paths[0], paths[1]


@pytest.fixture(scope="module")
def reconstructed(films: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("reconstruct")
    done = run(
        "reconstruct", "--pa", films[0], "--lateral", films[1], "-o", folder, "--model", "atlas", "--size", 64,
        "--dicom", "--keep-identity", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_reconstruct_writes_the_ct_and_the_preview(
    reconstructed: tuple[Path, dict[str, Any]], films: tuple[Path, Path]
) -> None:
    folder, printed = reconstructed
    assert printed["dicom"] == str(folder / "dicom")
    assert sorted(path.name for path in (folder / "dicom").iterdir()) == ["ct", "preview.dcm"]
    ct, nifti = xrecon.load_ct(folder / "dicom"), xrecon.load_ct(folder / "ct.nii.gz")
    np.testing.assert_array_equal(ct.hu, nifti.hu)
    np.testing.assert_allclose(ct.affine, nifti.affine, atol=1e-5)
    assert ct.synthetic
    source, first = pydicom.dcmread(films[0]), pydicom.dcmread(folder / "dicom" / "ct" / "0001.dcm")
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "StudyDate"):
        assert first[keyword].value == source[keyword].value
    assert RESEARCH_NOTICE in first.SeriesDescription
    assert [item.ReferencedSOPInstanceUID for item in first.SourceImageSequence] == [
        pydicom.dcmread(path).SOPInstanceUID for path in films
    ]


def test_segment_refers_to_the_slices_that_it_was_given(
    reconstructed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    source = reconstructed[0] / "dicom" / "ct"
    out = tmp_path / "out"
    for overwrite in ((), ("--overwrite",)):
        done = run("segment", source, "-o", out, "--dicom", "--keep-identity", "--json", *overwrite)
        assert done.exit_code == 0, done.stderr
    assert sorted(path.name for path in (out / "dicom").iterdir()) == ["preview.dcm", "report.dcm", "segmentation.dcm"]
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []
    segmentation = pydicom.dcmread(out / "dicom" / "segmentation.dcm")
    first = pydicom.dcmread(source / "0001.dcm")
    assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == first.SeriesInstanceUID
    assert segmentation.FrameOfReferenceUID == first.FrameOfReferenceUID
    report = pydicom.dcmread(out / "dicom" / "report.dcm")
    assert report.StudyInstanceUID == segmentation.StudyInstanceUID == "1.2.3"


def test_plant_writes_everything_under_a_pseudonym(
    reconstructed: tuple[Path, dict[str, Any]], phantom64_file: Path, tmp_path: Path
) -> None:
    done = run("plant", phantom64_file, "--side", "left", "--occupancy", 0.4, "-o", tmp_path, "--dicom")
    assert done.exit_code == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "dicom").iterdir())
    assert names == ["ct", "report.dcm", "segmentation.dcm"]
    segmentation = pydicom.dcmread(tmp_path / "dicom" / "segmentation.dcm")
    assert [item.SegmentLabel for item in segmentation.SegmentSequence][-1] == "Free pleural air, left"
    assert segmentation.SegmentSequence[0].SegmentAlgorithmName == "xrecon plant (planted)"
    assert segmentation.PatientID.startswith("XRECON-")
    assert xrecon.load_ct(tmp_path / "dicom").synthetic


@pytest.mark.parametrize("option", ["--keep-identity", "--burn-in"])
def test_an_option_of_dicom_output_without_it_is_refused(films: tuple[Path, Path], tmp_path: Path, option: str) -> None:
    done = run("reconstruct", "--pa", films[0], "--lateral", films[1], "-o", tmp_path / "out", option)
    assert done.exit_code == 2
    assert f"error: {option} concerns DICOM output: add --dicom" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_identity_that_is_not_there_is_refused_before_the_work(phantom64_file: Path, tmp_path: Path) -> None:
    done = run("segment", phantom64_file, "-o", tmp_path / "out", "--dicom", "--keep-identity")
    assert done.exit_code == 2
    assert "--keep-identity: the input states no patient" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_not_replaced(films: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom" / "thesis.txt").write_text("years of work")
    arguments = ("--pa", films[0], "--lateral", films[1], "-o", tmp_path, "--dicom")
    assert "give --overwrite" in run("reconstruct", *arguments).stderr
    done = run("reconstruct", *arguments, "--overwrite")
    assert done.exit_code == 2
    assert "holds files that are not .dcm (thesis.txt)" in done.stderr
    assert (tmp_path / "dicom" / "thesis.txt").read_text() == "years of work"
