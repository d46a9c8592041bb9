"""Kinds of files by their first bytes."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrecon.io.guards.kinds import sniff, sniff_bytes

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
    assert sniff(path) == kind


def test_sniff_looks_into_gzip(tmp_path: Path) -> None:
    header = bytearray(352)
    header[:4], header[344:348] = (348).to_bytes(4, "little"), b"n+1\0"
    (tmp_path / "a").write_bytes(gzip.compress(bytes(header)))
    (tmp_path / "b").write_bytes(gzip.compress(b"text" * 300))
    assert sniff(tmp_path / "a") == "nifti"
    assert sniff(tmp_path / "b") == "gzip"


def test_bare_dicom_without_preamble_is_known() -> None:
    assert sniff_bytes(b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100") == "dicom"
    assert sniff_bytes(b"\x08\x00\x00\x00\x04\x00\x00\x00\x10\x01\x00\x00") == "dicom"
    assert sniff_bytes(b"\x08\x00\x00\x01plain words") == "unknown"


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=600))
def test_sniff_bytes_never_fails(head: bytes) -> None:
    assert sniff_bytes(head) in {*HEADS, "nifti"}
