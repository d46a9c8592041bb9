"""What is written beside a CT returns to the axes of its file, voxel for voxel."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.dicom_factory import anatomy, write_series
from xrecon.segmentation import Segmentation
from xrecon.volume import Volume, load_ct

FORMS = ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "srow_x", "srow_y", "srow_z")
ORIENTATIONS = [
    "".join(pair[k] for pair, k in zip(axes, ends, strict=True))
    for axes in permutations(("LR", "PA", "IS"))
    for ends in product((0, 1), repeat=3)
]
RAS = np.array([[-1.5, 0, 0, 20], [0, -2, 0, 30], [0, 0, 5, -40], [0, 0, 0, 1.0]])


def oriented(codes: str, *, kind: Any = nib.Nifti1Image) -> Any:
    """The test anatomy with its axes stored along `codes`."""
    image = kind(anatomy().T.astype(np.int16), RAS)
    turn = nib.orientations.ornt_transform(nib.io_orientation(RAS), nib.orientations.axcodes2ornt(codes))
    return image.as_reoriented(turn)


def labels_of(ct: Volume) -> Segmentation:
    """The cavity as right lung, the marker as air on the right."""
    labels = np.where(ct.hu == 900, 3, np.where(ct.hu == -850, 1, 0)).astype(np.uint8)
    return Segmentation(labels, (labels == 3).astype(np.uint8), ct.affine, source_grid=ct.source_grid)


def check_voxels(image: Any, folder: Path, ct: Volume) -> None:
    """Labels, sides and the CT itself, written from `ct`, fit the stored voxels of `image` and its header."""
    stored = np.asarray(image.dataobj)
    segmentation = labels_of(ct)
    labels = nib.load(segmentation.save(folder / "labels.nii.gz", overwrite=True))
    side = nib.load(segmentation.save_air_side(folder / "air_side.nii.gz", overwrite=True))
    again = nib.load(ct.save(folder / "again.nii.gz", overwrite=True))
    assert np.array_equal(np.asarray(labels.dataobj), np.where(stored == 900, 3, stored == -850))
    assert np.array_equal(np.asarray(side.dataobj), stored == 900)
    assert np.array_equal(np.asarray(again.dataobj), stored)
    for written in (labels, side, again):
        assert np.array_equal(written.affine, image.affine)
        assert isinstance(written, type(image))
        for name in FORMS:
            assert np.array_equal(written.header[name], image.header[name]), name
        assert np.array_equal(written.header["pixdim"][:4], image.header["pixdim"][:4])


def test_there_are_48_orientations() -> None:
    assert len(set(ORIENTATIONS)) == 48


@settings(max_examples=60, deadline=None)
@given(
    codes=st.sampled_from(ORIENTATIONS),
    form_codes=st.sampled_from([(0, 1), (1, 0), (1, 1), (2, 1), (4, 2), (0, 0), (0, 3)]),
    angle=st.sampled_from([0.0, 3.0, 20.0]),
)
def test_every_orientation_of_nifti_returns(
    tmp_path_factory: pytest.TempPathFactory, codes: str, form_codes: tuple[int, int], angle: float
) -> None:
    folder = tmp_path_factory.mktemp("grid")
    image = oriented(codes)
    turn = np.eye(4)
    turn[:2, :2] = [
        [np.cos(np.radians(angle)), -np.sin(np.radians(angle))],
        [np.sin(np.radians(angle)), np.cos(np.radians(angle))],
    ]
    affine = turn @ image.affine
    image = nib.Nifti1Image(np.asarray(image.dataobj), affine)
    image.set_qform(affine, form_codes[1])
    image.set_sform(affine, form_codes[0])
    nib.save(image, folder / "ct.nii.gz")
    check_voxels(nib.load(folder / "ct.nii.gz"), folder, load_ct(folder / "ct.nii.gz"))


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_each_of_the_48_returns(tmp_path: Path, codes: str) -> None:
    nib.save(oriented(codes), tmp_path / "ct.nii")
    check_voxels(nib.load(tmp_path / "ct.nii"), tmp_path, load_ct(tmp_path / "ct.nii"))


def test_nifti_2_and_big_endian_return(tmp_path: Path) -> None:
    nib.save(oriented("SAR", kind=nib.Nifti2Image), tmp_path / "two.nii")
    check_voxels(nib.load(tmp_path / "two.nii"), tmp_path, load_ct(tmp_path / "two.nii"))
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    image = oriented("PIR")
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, header), tmp_path / "big.nii")
    check_voxels(nib.load(tmp_path / "big.nii"), tmp_path, load_ct(tmp_path / "big.nii"))


@pytest.mark.parametrize("suffix", ["mha", "nrrd"])
@pytest.mark.parametrize("codes", ["LPS", "RAS", "ASL", "IRP"])
def test_mha_and_nrrd_return(tmp_path: Path, suffix: str, codes: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    image = oriented(codes)
    lps = np.diag([-1, -1, 1, 1]) @ image.affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    picture = sitk.GetImageFromArray(np.asarray(image.dataobj).T)
    picture.SetSpacing(spacing.tolist())
    picture.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    picture.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(picture, str(tmp_path / f"ct.{suffix}"))
    path = labels_of(load_ct(tmp_path / f"ct.{suffix}")).save(tmp_path / "labels.nii.gz")
    labels, stored = sitk.ReadImage(str(path)), sitk.ReadImage(str(tmp_path / f"ct.{suffix}"))
    assert np.array_equal(sitk.GetArrayFromImage(labels) == 3, sitk.GetArrayFromImage(stored) == 900)
    assert np.allclose(labels.GetDirection(), stored.GetDirection(), atol=1e-5)
    assert np.allclose(labels.GetOrigin(), stored.GetOrigin(), atol=1e-3)


@pytest.mark.parametrize("seed", [0, 5])
def test_dicom_lies_on_column_row_and_slice_by_position(tmp_path: Path, seed: int) -> None:
    """Slices go by position along their normal (here to the head), whatever the files' names and numbers say."""
    folder = write_series(tmp_path / "ct", seed=seed)
    image = nib.load(labels_of(load_ct(folder)).save(tmp_path / "labels.nii.gz"))
    assert np.array_equal(np.asarray(image.dataobj).transpose(2, 1, 0) == 3, anatomy() == 900)
    assert np.allclose(np.diag(image.affine)[:3], [-1.5, -2, 5])


def test_coronal_dicom_keeps_its_slices(tmp_path: Path) -> None:
    def coronal(data: Any, k: int) -> None:
        data.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        data.ImagePositionPatient = [-21.0, 5.0 * k, 60.0]

    ct = load_ct(write_series(tmp_path / "ct", edit=coronal))
    image = nib.load(labels_of(ct).save(tmp_path / "labels.nii.gz"))
    assert np.array_equal(np.asarray(image.dataobj).transpose(2, 1, 0) == 3, anatomy() == 900)


def test_resampled_files_keep_the_grid_as_read_and_say_so(tmp_path: Path) -> None:
    lost = load_ct(write_series(tmp_path / "lost", edit=lambda data, k: k != 9))
    assert lost.source_grid is not None and "interpolated" in lost.source_grid.remark
    assert "28 x 24 x 20" in lost.source_grid.remark
    assert nib.load(labels_of(lost).save(tmp_path / "a.nii")).shape == (28, 24, 20)
    tilted = load_ct(write_series(tmp_path / "tilted", step=(0.0, 1.0)))
    assert tilted.source_grid is not None and "tilt" in tilted.source_grid.remark
    plain = load_ct(write_series(tmp_path / "plain"))
    assert plain.source_grid is not None and plain.source_grid.remark == ""


def test_another_grid_is_written_in_the_common_order(tmp_path: Path) -> None:
    nib.save(oriented("RAS"), tmp_path / "ct.nii")
    ct = load_ct(tmp_path / "ct.nii")
    small = ct.resampled((10, 10, 10), 5.0)
    cut = Volume(ct.hu[2:], ct.affine, source_grid=ct.source_grid)
    for name, volume in (("small", small), ("cut", cut), ("unknown", Volume(ct.hu, ct.affine))):
        image = nib.load(volume.save(tmp_path / f"{name}.nii"))
        assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
