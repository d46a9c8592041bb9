"""Guards, sniffing, digests and atomic writes."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrecon.errors import InputError, OutputExistsError, XReconError
from xrecon.io import limits

HEADS = {
    "png": b"\x89PNG\r\n\x1a\n....",
    "jpeg": b"\xff\xd8\xff\xe0....",
    "tiff": b"II*\x00....",
    "zip": b"PK\x03\x04....",
    "nrrd": b"NRRD0005\n",
    "mha": b"ObjectType = Image\nNDims = 3\n",
    "dicom": b"\0" * 128 + b"DICM" + b"\0" * 20,
    "unknown": b"hello, I am text",
}


@pytest.mark.parametrize(("kind", "head"), HEADS.items())
def test_sniff_goes_by_content_not_by_name(tmp_path: Path, kind: str, head: bytes) -> None:
    path = tmp_path / "ct.nii.gz"
    path.write_bytes(head)
    assert limits.sniff(path) == kind


def test_sniff_looks_into_gzip(tmp_path: Path) -> None:
    header = bytearray(352)
    header[:4], header[344:348] = (348).to_bytes(4, "little"), b"n+1\0"
    (tmp_path / "a").write_bytes(gzip.compress(bytes(header)))
    (tmp_path / "b").write_bytes(gzip.compress(b"text" * 300))
    assert limits.sniff(tmp_path / "a") == "nifti"
    assert limits.sniff(tmp_path / "b") == "gzip"


def test_bare_dicom_without_preamble_is_known() -> None:
    assert limits.sniff_bytes(b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100") == "dicom"
    assert limits.sniff_bytes(b"\x08\x00\x00\x00\x04\x00\x00\x00\x10\x01\x00\x00") == "dicom"
    assert limits.sniff_bytes(b"\x08\x00\x00\x01plain words") == "unknown"


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=600))
def test_sniff_bytes_never_fails(head: bytes) -> None:
    assert limits.sniff_bytes(head) in {*HEADS, "nifti"}


@pytest.mark.parametrize("make", ["missing", "empty", "folder"])
def test_check_file_names_the_path(tmp_path: Path, make: str) -> None:
    path = tmp_path / "x"
    if make == "empty":
        path.touch()
    elif make == "folder":
        path.mkdir()
    with pytest.raises(InputError, match=str(path)):
        limits.check_file(path)


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc" * 1000)
    assert limits.sha256_of(tmp_path / "x") == hashlib.sha256(b"abc" * 1000).hexdigest()


def test_atomic_path_keeps_suffixes_and_renames(tmp_path: Path) -> None:
    final = tmp_path / "new" / "deep" / "a.nii.gz"
    with limits.atomic_path(final, overwrite=False) as temporary:
        assert temporary.parent == final.parent
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("x")
        assert not final.exists()
    assert final.read_text() == "x"
    assert [p.name for p in final.parent.iterdir()] == ["a.nii.gz"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_atomic_path_leaves_nothing_on_failure(tmp_path: Path, failure: type[BaseException]) -> None:
    final = tmp_path / "a.txt"
    final.write_text("old")

    def fail() -> None:
        with limits.atomic_path(final, overwrite=True) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(failure):
        fail()
    assert final.read_text() == "old"
    assert list(tmp_path.iterdir()) == [final]


def test_atomic_path_refuses_existing_even_if_made_meanwhile(tmp_path: Path) -> None:
    final = tmp_path / "a.txt"
    with (
        pytest.raises(OutputExistsError, match="another process"),
        limits.atomic_path(final, overwrite=False) as temporary,
    ):
        temporary.write_text("mine")
        final.write_text("theirs")
    assert final.read_text() == "theirs"
    with pytest.raises(OutputExistsError, match="--overwrite"):
        limits.write_text_atomic(final, "x")
    assert limits.write_text_atomic(final, "x", overwrite=True).read_text() == "x"
    with pytest.raises(OutputExistsError, match="folder"):
        limits.write_text_atomic(tmp_path, "x", overwrite=True)
    assert list(tmp_path.iterdir()) == [final]


def test_atomic_path_takes_folders(tmp_path: Path) -> None:
    with limits.atomic_path(tmp_path / "series", overwrite=False) as temporary:
        temporary.mkdir()
        (temporary / "1").write_text("x")
    assert (tmp_path / "series" / "1").read_text() == "x"


@pytest.mark.parametrize(
    ("code", "words", "exit_code"), [(errno.ENOSPC, "disk is full", 1), (errno.EACCES, "permission", 2)]
)
def test_disk_errors_are_explained(tmp_path: Path, code: int, words: str, exit_code: int) -> None:
    with (
        pytest.raises(XReconError, match=words) as caught,
        limits.atomic_path(tmp_path / "a.txt", overwrite=False) as temporary,
    ):
        temporary.write_text("half")
        raise OSError(code, "simulated")
    assert "a.txt" in str(caught.value)
    assert caught.value.exit_code == exit_code
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="not a folder"):
        limits.write_text_atomic(tmp_path / "file" / "out.txt", "x")


def test_json_takes_numpy_and_refuses_nan(tmp_path: Path) -> None:
    values = {"a": np.float32(0.5), "b": np.arange(3), "c": tmp_path / "p", "d": "µ"}
    path = limits.write_json_atomic(tmp_path / "a.json", values)
    expected = {
        "a": 0.5,
        "b": [0, 1, 2],
        "c": str(tmp_path / "p"),
        "d": "µ",
    }
    assert json.loads(path.read_text(encoding="utf-8")) == expected
    with pytest.raises(InputError, match="cannot be written as JSON"):
        limits.write_json_atomic(tmp_path / "b.json", {"a": float("nan")})
    assert not (tmp_path / "b.json").exists()


@pytest.mark.parametrize("name", ["../evil.dcm", "/etc/evil", "a/../../evil", "..\\evil", "C:/evil"])
def test_zip_slip_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "x")
    with limits.open_zip(path) as archive, pytest.raises(InputError, match="zip slip"):
        limits.zip_members(archive, path)


def test_zip_member_count_is_capped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_FILES", 3)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for k in range(4):
            archive.writestr(str(k), "x")
    with limits.open_zip(path) as archive, pytest.raises(InputError, match="4 files, the limit is 3"):
        limits.zip_members(archive, path)


def test_spacing_and_affine_guards() -> None:
    source = Path("scan.nii")
    assert limits.check_spacing((1, 2), source, tag="T") == (1.0, 2.0)
    for bad in ((0, 1), (-1, 1), (np.nan, 1), (1e4, 1), (1e-3, 1)):
        with pytest.raises(InputError, match=r"scan\.nii: PixelSpacing"):
            limits.check_spacing(bad, source, tag="PixelSpacing")
    flat = np.eye(4)
    flat[:3, 1] = flat[:3, 0]
    for matrix in (flat, np.full((4, 4), np.inf), np.eye(3)):
        with pytest.raises(InputError, match="sform"):
            limits.check_affine(matrix, (4, 4, 4), source, tag="sform")
    with pytest.raises(InputError, match="5000 mm"):
        limits.check_affine(np.diag([10, 1, 1, 1]), (500, 4, 4), source, tag="sform")


def test_hu_guard_repairs_padding_and_says_so() -> None:
    hu = np.array([[[-3024, -1000, 0, 500]]], dtype=np.float32)
    fixed, notes = limits.check_hu(hu, Path("a"))
    assert fixed.ravel().tolist() == [-1024, -1000, 0, 500]
    assert any("padding" in note for note in notes)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0, 0.5, 1], "normalised"),
        ([0, 100, 255], "8-bit"),
        ([0, 1024, 3000], "subtract 1024"),
        ([-1000, 0, 1e6], "cannot be HU"),
        ([-1000, 0, np.nan], "NaN"),
        ([-1000, -1000], "same value -1000"),
        ([-2000, -1024], "above the padding"),
    ],
)
def test_hu_guard_refuses_what_is_not_hu(values: list[float], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        limits.check_hu(np.array([[values]], dtype=np.float32), Path("scan.nii"))
    assert "scan.nii" in str(caught.value)
