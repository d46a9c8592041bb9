"""NIfTI: affine conventions, scaling, units, damaged headers, deterministic writing."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.dicom_factory import anatomy
from xrecon.errors import InputError, OutputExistsError
from xrecon.io.nifti import RAS_TO_LPS, read_nifti, write_nifti

AFFINE = np.array([[-1.5, 0, 0, 20], [0, -2, 0, 30], [0, 0, 5, -40], [0, 0, 0, 1.0]])  # RAS, of an LPS array


def save(path: Path, data: np.ndarray | None = None, affine: np.ndarray | None = AFFINE, **fields: object) -> Path:
    """A NIfTI whose header fields are then overwritten as they are, sane or not."""
    data = np.ascontiguousarray(anatomy().T.astype(np.int16)) if data is None else data
    image = nib.Nifti1Image(data, affine)
    if affine is not None:
        image.set_qform(affine, code=1)
        image.set_sform(affine, code=1)
    raw = bytearray(image.to_bytes())
    header = nib.Nifti1Header(bytes(raw[:348]), check=False)
    for key, value in fields.items():
        header[key] = value
    raw[:348] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(raw)) if path.suffix == ".gz" else bytes(raw))
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "wrong_name.dat"])
def test_reads_values_and_converts_ras_to_lps(tmp_path: Path, name: str) -> None:
    raw = read_nifti(save(tmp_path / name))
    assert np.array_equal(raw.hu, anatomy().T)
    assert np.allclose(raw.affine, RAS_TO_LPS @ AFFINE)
    assert raw.affine[0, 0] > 0  # i runs to the patient's left
    assert raw.notes == ()


def test_slope_and_intercept(tmp_path: Path) -> None:
    stored = ((anatomy().T + 1024) / 2).astype(np.uint16)
    raw = read_nifti(save(tmp_path / "a.nii", stored, scl_slope=2.0, scl_inter=-1024.0))
    assert np.array_equal(raw.hu, anatomy().T)
    assert np.array_equal(read_nifti(save(tmp_path / "b.nii", scl_slope=0.0, scl_inter=7.0)).hu, anatomy().T)
    with pytest.raises(InputError, match="scl_inter"):
        read_nifti(save(tmp_path / "c.nii", scl_slope=1.0, scl_inter=np.inf))


def test_qform_alone_is_honoured(tmp_path: Path) -> None:
    raw = read_nifti(save(tmp_path / "a.nii", sform_code=0, srow_x=0, srow_y=0, srow_z=0))
    assert np.allclose(raw.affine, RAS_TO_LPS @ AFFINE, atol=1e-4)


def test_no_orientation_is_assumed_ras_and_said(tmp_path: Path) -> None:
    raw = read_nifti(save(tmp_path / "a.nii", sform_code=0, qform_code=0))
    assert np.allclose(np.diag(raw.affine)[:3], [-1.5, -2, 5])
    assert any("assumed RAS" in note for note in raw.notes)


def test_disagreeing_forms_are_said(tmp_path: Path) -> None:
    raw = read_nifti(save(tmp_path / "a.nii", srow_x=[1.5, 0, 0, 20]))
    assert raw.affine[0, 0] == pytest.approx(-1.5)  # the sform
    assert any("disagree" in note for note in raw.notes)


def test_units(tmp_path: Path) -> None:
    raw = read_nifti(save(tmp_path / "a.nii", affine=np.diag([1e-3, 1e-3, 1e-3, 1]) @ AFFINE, xyzt_units=1))
    assert np.allclose(raw.affine[:3, :3], (RAS_TO_LPS @ AFFINE)[:3, :3])
    assert any("metres" in note for note in raw.notes)


def test_fourth_axis_of_one_is_dropped_and_of_two_refused(tmp_path: Path) -> None:
    data = anatomy().T.astype(np.int16)[..., None]
    assert read_nifti(save(tmp_path / "a.nii", data)).hu.shape == (28, 24, 20)
    with pytest.raises(InputError, match="save the one volume"):
        read_nifti(save(tmp_path / "b.nii", np.repeat(data, 2, axis=3)))


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
def test_both_versions_and_byte_orders(tmp_path: Path, kind: type, order: str) -> None:
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.float32)
    nib.save(kind(anatomy().T, AFFINE, header), tmp_path / "a.nii")
    raw = read_nifti(tmp_path / "a.nii")
    assert np.array_equal(raw.hu, anatomy().T)
    assert np.allclose(raw.affine, RAS_TO_LPS @ AFFINE)


def test_sheared_affine_is_made_orthogonal_and_keeps_places(tmp_path: Path) -> None:
    shear = AFFINE.copy()
    shear[1, 2] = 1.0  # every slice lies 1 mm further to the front
    raw = read_nifti(
        save(tmp_path / "a.nii", affine=None, srow_x=shear[0], srow_y=shear[1], srow_z=shear[2], sform_code=1)
    )
    unit = raw.affine[:3, :3] / np.linalg.norm(raw.affine[:3, :3], axis=0)
    assert np.allclose(unit.T @ unit, np.eye(3), atol=1e-6)
    assert any("gantry tilt" in note for note in raw.notes)
    stored = np.argwhere(anatomy().T == 900).mean(axis=0)
    before = (RAS_TO_LPS @ shear @ [*stored, 1])[:3]
    after = (raw.affine @ [*np.argwhere(raw.hu > 450).mean(axis=0), 1])[:3]
    assert np.allclose(before, after, atol=1.5)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"srow_x": [np.inf, 0, 0, 0]}, "sform"),
        ({"srow_x": [0, 0, 0, 0]}, "sform"),
        ({"sform_code": 0, "pixdim": [1, 0, 2, 5, 0, 0, 0, 0]}, "pixdim"),
        ({"sform_code": 0, "qform_code": 0, "pixdim": [1, 1e4, 2, 5, 0, 0, 0, 0]}, "10000"),
        ({"dim": [3, 28, -24, 20, 1, 1, 1, 1]}, "dim"),
        ({"dim": [9, 28, 24, 20, 1, 1, 1, 1]}, "dim"),
        ({"dim": [3, 2000, 2000, 2000, 1, 1, 1, 1]}, "limit"),
        ({"dim": [3, 900, 900, 900, 1, 1, 1, 1]}, "truncated"),
        ({"datatype": 128, "bitpix": 24}, "datatype"),
        ({"datatype": 32}, "datatype"),
        ({"datatype": 7777}, "datatype"),
        ({"vox_offset": 1e12}, "vox_offset"),
        ({"vox_offset": np.nan}, "vox_offset"),
        ({"magic": b"ni1"}, "pair"),
        ({"xyzt_units": 5}, "xyzt_units"),
    ],
)
def test_damaged_headers_are_refused(tmp_path: Path, fields: dict[str, object], words: str) -> None:
    path = save(tmp_path / "bad.nii.gz", **fields)
    with pytest.raises(InputError, match=words) as caught:
        read_nifti(path)
    assert "bad.nii.gz" in str(caught.value)


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_any_flipped_byte_of_a_gzip_is_noticed_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = save(tmp_path_factory.mktemp("flip") / "a.nii.gz")
    raw = bytearray(path.read_bytes())
    place = data.draw(st.integers(10, len(raw) - 1))
    raw[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bytes(raw))
    try:
        volume = read_nifti(path)
    except InputError as error:
        assert "a.nii.gz" in str(error)
    else:
        assert np.array_equal(volume.hu, anatomy().T)


@settings(deadline=None, max_examples=15)
@given(st.floats(0, 1, exclude_max=True))
def test_every_truncation_is_noticed(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    for name in ("a.nii", "a.nii.gz"):
        path = save(tmp_path_factory.mktemp("cut") / name)
        raw = path.read_bytes()
        path.write_bytes(raw[: int(share * len(raw))])
        with pytest.raises(InputError, match=name):
            read_nifti(path)


def test_labels_and_other_quantities_need_no_hu(tmp_path: Path) -> None:
    labels = (anatomy() > 0).astype(np.uint8)
    path = write_nifti(tmp_path / "a.nii.gz", labels, np.diag([5.0, 2, 1.5, 1]), description="labels")
    assert nib.load(path).get_data_dtype() == np.uint8
    assert sorted(np.unique(read_nifti(path, hu=False).hu)) == [0, 1]
    with pytest.raises(InputError, match="normalised"):
        read_nifti(path)


@pytest.mark.parametrize(
    ("values", "dtype", "stored"),
    [
        (np.array([[[-1000.4, 0.6, 3000]]]), None, np.int16),
        (np.array([[[-1000.0, 0, 40000]]]), None, np.float32),
        (np.array([[[-1000.4, 0.6, 3000]]]), np.float32, np.float32),
        (np.array([[[True, False, True]]]), None, np.uint8),
        (np.array([[[0, 3, 200]]], dtype=np.int64), None, np.uint8),
        (np.array([[[-5, 3, 200]]], dtype=np.int64), None, np.int16),
    ],
)
def test_stored_type(tmp_path: Path, values: np.ndarray, dtype: type | None, stored: type) -> None:
    path = write_nifti(tmp_path / "a.nii", values, np.eye(4), description="", dtype=dtype)
    assert nib.load(path).get_data_dtype() == stored
    expected = np.rint(values) if np.dtype(stored).kind == "i" else values
    assert np.allclose(sorted(nib.load(path).get_fdata().ravel()), sorted(expected.ravel().astype(float)), rtol=1e-6)


def test_written_file_is_in_lps_order_with_both_forms_and_comment(tmp_path: Path) -> None:
    affine = np.array([[0, 0, 1.5, -20], [0, 2, 0, -24], [-5, 0, 0, 90], [0, 0, 0, 1.0]])  # canonical D, H, W in LPS
    text = "SYNTHETIC / RESEARCH ONLY; " + "long " * 40
    path = write_nifti(tmp_path / "a.nii.gz", anatomy()[::-1], affine, description=text)
    image = nib.load(path)
    assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
    assert np.array_equal(np.asarray(image.dataobj), anatomy().T)
    assert np.allclose(image.get_sform(), image.get_qform(), atol=1e-4)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    assert bytes(image.header["descrip"].tobytes()).rstrip(b"\0") == text.encode()[:79]
    assert [e.get_code() for e in image.header.extensions] == [6]
    assert image.header.extensions[0].get_content() in (text, text.encode())
    raw = read_nifti(path)
    assert raw.synthetic
    corner = RAS_TO_LPS @ image.affine @ [0, 0, 0, 1]
    assert np.allclose(corner[:3], [-20, -24, 90 - 19 * 5])


def test_writing_is_deterministic_and_never_overwrites(tmp_path: Path) -> None:
    first = write_nifti(tmp_path / "a.nii.gz", anatomy(), np.eye(4), description="x").read_bytes()
    second = write_nifti(tmp_path / "other.nii.gz", anatomy(), np.eye(4), description="x").read_bytes()
    assert first == second
    assert struct.unpack("<I", first[4:8]) == (0,)  # no time stamp
    with pytest.raises(OutputExistsError, match="--overwrite"):
        write_nifti(tmp_path / "a.nii.gz", anatomy(), np.eye(4), description="x")


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.mha", anatomy(), r"\.nii"),
        ("a.nii", anatomy()[0], "three axes"),
        ("a.nii", np.full((2, 2, 2), np.nan), "NaN"),
    ],
)
def test_unwritable_is_refused(tmp_path: Path, name: str, data: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        write_nifti(tmp_path / name, data, np.eye(4), description="")
    assert list(tmp_path.iterdir()) == []


EMPTY_SFORM = {"srow_x": 0, "srow_y": 0, "srow_z": 0}


def edited(path: Path, target: Path, **fields: object) -> Path:
    """A copy of a file with other header fields: what a user does who follows a message."""
    raw = bytearray(path.read_bytes())
    header = nib.Nifti1Header(bytes(raw[:348]), check=False)
    for key, value in fields.items():
        header[key] = value
    raw[:348] = header.binaryblock
    target.write_bytes(bytes(raw))
    return target


@pytest.mark.parametrize("affine", [AFFINE, AFFINE @ np.diag([1, -1, 1, 1])])
@pytest.mark.parametrize(
    ("qfac", "noted"), [(0.0, False), (3.0, True), (np.nan, True), (-7.0, True), (1.0, False), (-1.0, False)]
)
def test_qfac_is_read_by_its_sign_as_the_standard_says(
    tmp_path: Path, affine: np.ndarray, qfac: float, noted: bool
) -> None:
    sizes = [1.5, 2, 5, 0, 0, 0, 0]
    raw = read_nifti(save(tmp_path / "a.nii", affine=affine, sform_code=0, **EMPTY_SFORM, pixdim=[qfac, *sizes]))
    right_handed = read_nifti(save(tmp_path / "b.nii", affine=affine, sform_code=0, pixdim=[1, *sizes]))
    mirror = np.diag([1, 1, -1, 1]) if qfac < 0 else np.eye(4)
    assert np.allclose(raw.affine, right_handed.affine @ mirror, atol=1e-5)
    assert any("qfac" in note for note in raw.notes) == noted


def test_qfac_of_zero_beside_a_sform_says_nothing(tmp_path: Path) -> None:
    raw = read_nifti(save(tmp_path / "a.nii", pixdim=[0, 1.5, 2, 5, 0, 0, 0, 0]))
    assert np.allclose(raw.affine, RAS_TO_LPS @ AFFINE) and raw.notes == ()


@pytest.mark.parametrize("offset", [0.0, 12.0])
def test_an_empty_sform_falls_back_to_the_qform(tmp_path: Path, offset: float) -> None:
    """Some tools set the code and write zeros, with or without the offsets in the last column."""
    rows = {name: [0, 0, 0, offset] for name in EMPTY_SFORM}
    raw = read_nifti(save(tmp_path / "a.nii", sform_code=2, **rows))
    assert np.allclose(raw.affine, RAS_TO_LPS @ AFFINE, atol=1e-4)
    assert any("sform is empty" in note for note in raw.notes)


@pytest.mark.parametrize("quaternion", [{"quatern_b": 5.0}, {"quatern_c": np.nan}])
def test_no_usable_form_is_refused(tmp_path: Path, quaternion: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"sform.*empty.*qform_code 0"):
        read_nifti(save(tmp_path / "a.nii", qform_code=0, **EMPTY_SFORM))
    with pytest.raises(InputError, match="qform"):
        read_nifti(save(tmp_path / "b.nii", **quaternion, **EMPTY_SFORM))


@pytest.mark.parametrize(
    ("damage", "advice", "mend"),
    [
        ({"qform_code": 0, **EMPTY_SFORM}, "set sform_code and qform_code to 0", {"sform_code": 0, "qform_code": 0}),
        ({"sform_code": 0, "quatern_b": 5.0}, "set sform_code and qform_code to 0", {"qform_code": 0}),
        ({"srow_x": [0, 0, 0, 20]}, "if the qform is right, set sform_code to 0", {"sform_code": 0}),
        ({"srow_y": [np.nan, 0, 0, 0]}, "if the qform is right, set sform_code to 0", {"sform_code": 0}),
        ({"xyzt_units": 5}, r"expected mm \(2\)", {"xyzt_units": 2}),
        ({"scl_slope": 1.0, "scl_inter": np.inf}, "set scl_slope to 1 and scl_inter to 0", {"scl_inter": 0}),
    ],
)
def test_the_advice_of_a_refusal_mends_the_file(
    tmp_path: Path, damage: dict[str, object], advice: str, mend: dict[str, object]
) -> None:
    bad = save(tmp_path / "bad.nii", **damage)
    with pytest.raises(InputError, match=advice):
        read_nifti(bad)
    raw = read_nifti(edited(bad, tmp_path / "mended.nii", **mend))
    assert np.array_equal(raw.hu, anatomy().T)
    assert np.allclose(np.abs(np.diag(raw.affine)[:3]), [1.5, 2, 5], atol=1e-4)


def test_the_advice_on_pairs_axes_and_types_mends_the_file(tmp_path: Path) -> None:
    """Convert a pair to one file; save the one volume; export as int16."""
    values = anatomy().T.astype(np.int16)
    nib.save(nib.Nifti1Pair(values, AFFINE), tmp_path / "pair.img")
    with pytest.raises(InputError, match="convert the pair to one"):
        read_nifti(tmp_path / "pair.hdr")
    nib.save(nib.Nifti1Image.from_image(nib.load(tmp_path / "pair.img")), tmp_path / "one.nii")
    assert np.array_equal(read_nifti(tmp_path / "one.nii").hu, values)
    nib.save(nib.Nifti1Image(np.stack([values, values], axis=3), AFFINE), tmp_path / "two.nii")
    with pytest.raises(InputError, match="save the one volume that you want as a 3-D file"):
        read_nifti(tmp_path / "two.nii")
    nib.save(nib.load(tmp_path / "two.nii").slicer[..., 0], tmp_path / "first.nii")
    assert np.array_equal(read_nifti(tmp_path / "first.nii").hu, values)
    nib.save(nib.Nifti1Image(values.astype(np.complex64), AFFINE), tmp_path / "complex.nii")
    with pytest.raises(InputError, match="export as int16 HU"):
        read_nifti(tmp_path / "complex.nii")
