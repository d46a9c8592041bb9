"""MHA, MHD and NRRD."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from support.dicom_factory import anatomy
from xrecon.errors import InputError, MissingPartError
from xrecon.io.itk import read_itk
from xrecon.volume import load_ct

sitk = pytest.importorskip("SimpleITK")

SPACING, ORIGIN = (1.5, 2.0, 5.0), (-21.0, -24.0, 100.0)


def save(path: Path, *, compress: bool = False, data: np.ndarray | None = None) -> Path:
    image = sitk.GetImageFromArray(anatomy().astype(np.int16) if data is None else data)
    if image.GetDimension() == 3:
        image.SetSpacing(SPACING)
        image.SetOrigin(ORIGIN)
    sitk.WriteImage(image, str(path), compress)
    return path


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("suffix", ["mha", "mhd", "nrrd", "nhdr"])
def test_values_and_geometry(tmp_path: Path, suffix: str, compress: bool) -> None:
    path = save(tmp_path / f"a.{suffix}", compress=compress)
    raw = read_itk(path)
    assert np.array_equal(raw.hu, anatomy())
    assert np.allclose(raw.affine, [[0, 0, 1.5, -21], [0, 2, 0, -24], [5, 0, 0, 100], [0, 0, 0, 1]])
    volume = load_ct(path)
    d, h, w = np.argwhere(volume.hu == 900).mean(axis=0)
    assert (d < 10, h < 12, w < 14) == (True, True, True)  # head, front, right


def test_direction_is_honoured(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.ascontiguousarray(anatomy()[:, :, ::-1]).astype(np.int16))
    image.SetSpacing(SPACING)
    image.SetDirection((-1, 0, 0, 0, 1, 0, 0, 0, 1))
    image.SetOrigin((ORIGIN[0] + 27 * 1.5, *ORIGIN[1:]))
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    flipped, straight = load_ct(tmp_path / "a.mha"), load_ct(save(tmp_path / "b.mha"))
    assert np.array_equal(flipped.hu, straight.hu)
    assert np.allclose(flipped.affine, straight.affine)


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
@pytest.mark.parametrize("compress", [False, True])
def test_truncated_is_refused(tmp_path: Path, name: str, compress: bool) -> None:
    path = save(tmp_path / name, compress=compress)
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 4])
    with pytest.raises(InputError, match=f"{name}.*(damaged|truncated)"):
        read_itk(path)


@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr"])
@pytest.mark.parametrize("target", ["/etc/hostname", "../secret.raw", "gone.raw", "LIST", "%03d.raw"])
def test_data_files_elsewhere_are_refused(tmp_path: Path, name: str, target: str) -> None:
    path = save(tmp_path / name)
    lines = path.read_text().splitlines()
    keys = ("ElementDataFile =", "data file:")
    lines = [next((f"{k} {target}" for k in keys if line.startswith(k)), line) for line in lines]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=rf"{name}.*(same folder|list of files)"):
        read_itk(path)


@pytest.mark.parametrize(
    ("old", "new"), [("DimSize = 28 24 20", "DimSize = 900 900 900"), ("Spacing = 1.5", "Spacing = 0")]
)
def test_absurd_headers_are_refused(tmp_path: Path, old: str, new: str) -> None:
    path = save(tmp_path / "a.mha")
    raw = path.read_bytes()
    assert old.encode() in raw
    path.write_bytes(raw.replace(old.encode(), new.encode()))
    with pytest.raises(InputError, match=r"a\.mha"):
        read_itk(path)


def test_two_axes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 axes"):
        read_itk(save(tmp_path / "a.mha", data=anatomy()[5].astype(np.int16)))


def test_unit_spacing_is_noted(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(anatomy().astype(np.int16)), str(tmp_path / "a.mha"))
    assert any("never stated" in note for note in read_itk(tmp_path / "a.mha").notes)


def test_without_simpleitk_the_mend_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.mha")
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(MissingPartError, match=r"pip install 'xrecon\[itk\]'"):
        read_itk(path)
