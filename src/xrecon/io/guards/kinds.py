"""What kind of file it is, by its first bytes and never by its name."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from xrecon.errors import InputError
from xrecon.io.guards.files import check_file


def sniff(path: Path) -> str:
    """Kind of a file by its first bytes, whatever its name.

    Returns: "nifti", "gzip" (anything gzipped but NIfTI), "zip", "dicom", "png", "jpeg", "tiff", "mha" (also MHD),
    "nrrd" or "unknown". Raises InputError if the file cannot be read.
    """
    check_file(path)
    try:
        with path.open("rb") as stream:
            head = stream.read(1024)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}); check the permissions") from error
    if head[:2] == b"\x1f\x8b":
        return "nifti" if _is_nifti(_gzip_head(path)) else "gzip"
    return sniff_bytes(head)


def sniff_bytes(head: bytes) -> str:
    """Like `sniff`, for the first 1024 bytes of a stream."""
    starts = (
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"\xff\xd8\xff", "jpeg"),
        (b"II*\x00", "tiff"),
        (b"MM\x00*", "tiff"),
        (b"II+\x00", "tiff"),
        (b"MM\x00+", "tiff"),
        (b"PK\x03\x04", "zip"),
        (b"PK\x05\x06", "zip"),
        (b"NRRD0", "nrrd"),
    )
    for magic, kind in starts:
        if head.startswith(magic):
            return kind
    if head[128:132] == b"DICM" or _is_bare_dicom(head):
        return "dicom"
    if _is_nifti(head):
        return "nifti"
    if head.lstrip()[:10] in (b"ObjectType", b"NDims = 3\n") or head.lstrip()[:5] == b"NDims":
        return "mha"
    return "unknown"


def _is_nifti(head: bytes) -> bool:
    """NIfTI-1 or -2 by magic, or by header size where the magic is broken (so that the message can be precise)."""
    if head[344:347] in (b"n+1", b"ni1") or head[4:7] in (b"n+2", b"ni2"):
        return True
    return len(head) >= 348 and head[:4] in (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c")


def _is_bare_dicom(head: bytes) -> bool:
    """DICOM without the 128-byte preamble: starts with an element of group 0002 or 0008, little endian."""
    if head[:2] not in (b"\x02\x00", b"\x08\x00") or len(head) < 12 or head[3] != 0:
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    return explicit or int.from_bytes(head[4:8], "little") < 256


def _gzip_head(path: Path) -> bytes:
    try:
        with gzip.open(path) as stream:
            return stream.read(1024)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: the gzip data are damaged or truncated ({error}); copy it again") from error
