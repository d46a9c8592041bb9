"""Voxels of exactly 1 mm that a script never stated, cut MHA and MHD files, and spacings of 0."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from xrecon.errors import InputError
from xrecon.io.guards.grids import lost_spacing_notes
from xrecon.phantoms.thorax import Phantom
from xrecon.volume import load_ct

LOST = "spacing is exactly 1 mm"


def nifti(hu: np.ndarray, path: Path, affine: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(np.transpose(hu, (2, 1, 0)).astype(np.int16), affine), path)
    return path


def test_an_identity_affine_is_noted(phantom64: Phantom, tmp_path: Path) -> None:
    ct = load_ct(nifti(phantom64.volume.hu, tmp_path / "a.nii.gz", np.eye(4)))
    assert any(f"{LOST} and the origin 0: perhaps never stated" in note for note in ct.notes)


@pytest.mark.parametrize("shape", [(512, 512, 133), (133, 512, 512), (768, 768, 90)])
def test_a_scanner_matrix_of_1_mm_is_noted_wherever_it_lies(shape: tuple[int, int, int]) -> None:
    moved = np.diag([-1.0, 1.0, 1.0, 1.0])
    moved[:3, 3] = -200.0, -200.0, 30.0
    notes = lost_spacing_notes(moved, shape)
    assert len(notes) == 1 and "with a matrix of" in notes[0]


def test_true_voxels_of_1_mm_and_other_spacings_are_not_noted(phantom64: Phantom, tmp_path: Path) -> None:
    resampled = np.diag([-1.0, -1.0, 1.0, 1.0])
    resampled[:3, 3] = 150.0, 120.0, -80.0
    assert lost_spacing_notes(resampled, (320, 260, 300)) == ()
    assert lost_spacing_notes(np.diag([0.7, 0.7, 2.5, 1.0]), (512, 512, 133)) == ()
    ct = load_ct(nifti(phantom64.volume.hu, tmp_path / "b.nii.gz", np.diag([6.0, 6.0, 6.0, 1.0])))
    assert not any(LOST in note for note in ct.notes)


def itk_file(phantom: Phantom, path: Path, *, packed: bool = False) -> Path:
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(phantom.volume.hu[::-1].astype(np.int16))
    image.SetSpacing((6.0, 6.0, 6.0))
    sitk.WriteImage(image, str(path), packed)
    return path


@pytest.mark.parametrize(
    ("name", "data", "packed"),
    [("a.mha", "a.mha", False), ("b.mha", "b.mha", True), ("c.mhd", "c.raw", False), ("d.mhd", "d.zraw", True)],
)
def test_cut_data_are_called_cut(phantom64: Phantom, tmp_path: Path, name: str, data: str, packed: bool) -> None:
    path = itk_file(phantom64, tmp_path / name, packed=packed)
    whole = (tmp_path / data).read_bytes()
    (tmp_path / data).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"damaged or truncated .the header promises 524288 bytes of voxels") as caught:
        load_ct(path)
    assert "No such file" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.mha", "b.mhd"])
def test_a_cut_header_is_called_cut(phantom64: Phantom, tmp_path: Path, name: str) -> None:
    path = itk_file(phantom64, tmp_path / name)
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(InputError, match=r"header is damaged or ends early .a field is missing") as caught:
        load_ct(path)
    assert "No such file" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "stated", "written"),
    [("a.mha", b"ElementSpacing = 6 6 6", b"ElementSpacing = 6 6 0"), ("b.nrrd", b"(0,0,6)", b"(0,0,0)")],
)
def test_a_spacing_of_zero_is_named(
    phantom64: Phantom, tmp_path: Path, name: str, stated: bytes, written: bytes
) -> None:
    path = itk_file(phantom64, tmp_path / name)
    content = path.read_bytes()
    assert stated in content
    path.write_bytes(content.replace(stated, written))
    with pytest.raises(InputError, match=r"ElementSpacing .* gives a spacing of 6 x 6 x 0 mm; expected 0.05 to 50 mm"):
        load_ct(path)
