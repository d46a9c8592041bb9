"""The right reader by content, and helpful words for everything else."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.dicom_factory import anatomy, write_film_dicom, write_series
from xrecon.errors import InputError
from xrecon.io.formats import read_film, read_volume
from xrecon.io.nifti import write_nifti

AFFINE = np.array([[0, 0, 1.5, -21], [0, 2, 0, -24], [5, 0, 0, 100], [0, 0, 0, 1.0]])


def ramp(path: Path) -> Path:
    Image.fromarray(np.arange(0, 200, dtype=np.uint8).reshape(10, 20)).save(path)
    return path


def test_volumes_by_content(tmp_path: Path) -> None:
    nifti = write_nifti(tmp_path / "a.nii.gz", anatomy(), AFFINE, description="")
    shutil.copy(nifti, tmp_path / "renamed.dcm")
    series = write_series(tmp_path / "series")
    archive = shutil.make_archive(str(tmp_path / "z"), "zip", series)
    for path in (nifti, tmp_path / "renamed.dcm", series, Path(archive)):
        raw = read_volume(path)
        assert sorted(raw.hu.shape) == [20, 24, 28]
        assert raw.hu.max() == 900


def test_films_by_content(tmp_path: Path) -> None:
    png = ramp(tmp_path / "a.png")
    shutil.copy(png, tmp_path / "renamed.jpg")
    dicom = write_film_dicom(tmp_path / "film", np.arange(200, dtype=np.uint16).reshape(10, 20))
    for path in (png, tmp_path / "renamed.jpg", dicom):
        assert read_film(path).pixels.shape == (10, 20)


def test_wrong_kind_is_told_where_to_go(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a PNG picture, not a volume"):
        read_volume(ramp(tmp_path / "a.png"))
    with pytest.raises(InputError, match=r"is a volume \(nifti\), not a film.*xrecon simulate"):
        read_film(write_nifti(tmp_path / "a.nii", anatomy(), AFFINE, description=""))
    with pytest.raises(InputError, match="is a zip; unpack it"):
        read_film(Path(shutil.make_archive(str(tmp_path / "z"), "zip", write_series(tmp_path / "s"))))
    with pytest.raises(InputError, match="expected a file"):
        read_film(tmp_path)
    (tmp_path / "t.gz").write_bytes(gzip.compress(b"text"))
    with pytest.raises(InputError, match="unpack it first"):
        read_volume(tmp_path / "t.gz")


def test_series_is_for_dicom_only(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--series '3' is for DICOM"):
        read_volume(write_nifti(tmp_path / "a.nii", anatomy(), AFFINE, description=""), series="3")
