"""Every guard on files in one place: size caps, magic bytes, archives, sanity of grids and values, atomic writes.

The caps are far above any real chest CT or film and far below what exhausts a workstation's memory, so that a
damaged or hostile header is refused before anything is allocated.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import os
import shutil
import stat
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xrecon.errors import InputError, OutputExistsError, XReconError
from xrecon.json_text import json_text

MAX_FILE_BYTES = 8 * 2**30
MAX_DECOMPRESSED_BYTES = 8 * 2**30
MAX_VOXELS = 2**30
MAX_PIXELS = 150_000_000
MAX_SIDE_CAR_BYTES = 2**20
MAX_FILES = 50_000
MAX_ZIP_RATIO = 200.0
ZIP_RATIO_FREE_BYTES = 256 * 2**20
"""Below this unpacked size the ratio of a zip does not matter (blank test slices pack 1000 to 1, harmlessly)."""
DEFLATE_MAX_RATIO = 1032.0
"""No deflate stream expands more than this: a header that promises more is wrong, whatever the data."""

SPACING_RANGE_MM = (0.05, 50.0)
FILM_SPACING_RANGE_MM = (0.01, 20.0)
EXTENT_MAX_MM = 4000.0
HU_PADDING_BELOW = -1100.0
HU_ABSURD = 1e5

OUTSIDE_HU = -1024.0
"""What a CT holds where nothing was measured: outside the body once the table is removed, and beyond the scan."""
_DISK_ERRORS = {
    errno.ENOSPC: "the disk is full: free some space or write elsewhere",
    errno.EDQUOT: "the disk quota is used up: free some space or write elsewhere",
    errno.EACCES: "permission denied: choose a folder that you may write to",
    errno.EPERM: "the operation is not permitted: choose a folder that you may write to",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder: choose another path",
    errno.EEXIST: "a part of the path is a file, not a folder: choose another path",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.EIO: "the disk reports an input/output error: write elsewhere",
}


# --- files on the way in ---------------------------------------------------------------------------------------------


def check_file(path: Path) -> Path:
    """`path` if it is an existing, readable, non-empty regular file of a sane size. Raises InputError otherwise."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise InputError(f"{path}: the file {reason}; check the path and the permissions") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: expected a file, found a folder or a special file; give the file itself")
    if status.st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes); copy or export it again")
    if status.st_size > MAX_FILE_BYTES:
        raise InputError(
            f"{path}: the file has {status.st_size / 2**30:.1f} GiB, more than the limit of "
            f"{MAX_FILE_BYTES / 2**30:.0f} GiB; crop or convert it first"
        )
    return path


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


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with check_file(path).open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def read_text_capped(path: Path, *, limit: int = MAX_SIDE_CAR_BYTES) -> str:
    """Text of a small UTF-8 file. Raises InputError if it is larger than `limit` bytes or not text."""
    if check_file(path).stat().st_size > limit:
        raise InputError(f"{path}: has {path.stat().st_size} bytes, a side-car has at most {limit}; check the path")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error}); write it again") from error


def check_count(shape: tuple[int, ...], source: Path, *, limit: int = MAX_VOXELS, what: str = "voxels") -> int:
    """Number of elements of `shape`. Raises InputError where an axis is empty or the product is over `limit`."""
    if not shape or min(shape) < 1:
        raise InputError(f"{source}: the header gives the size {shape}; every axis needs at least one of {what}")
    total = 1
    for length in shape:
        total *= int(length)
    if total > limit:
        raise InputError(
            f"{source}: the header claims {'x'.join(map(str, shape))} = {total:.3g} {what}, the limit is {limit:.3g}; "
            f"the file is damaged or hostile, or must be cropped first"
        )
    return total


def read_exactly(stream: BinaryIO, count: int, source: Path) -> bytearray:
    """`count` bytes of an open (perhaps decompressing) stream, in blocks, so that a false size allocates nothing.

    Raises InputError if the stream ends early or its compression is damaged.
    """
    if count > MAX_DECOMPRESSED_BYTES:
        raise InputError(
            f"{source}: the header claims {count / 2**30:.1f} GiB of data, the limit is "
            f"{MAX_DECOMPRESSED_BYTES / 2**30:.0f} GiB; the file is damaged or hostile, or must be cropped first"
        )
    data = bytearray()
    try:
        while len(data) < count:
            block = stream.read(min(2**24, count - len(data)))
            if not block:
                break
            data += block
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{source}: truncated or damaged after {len(data)} of {count} bytes ({error}); copy it again"
        ) from error
    if len(data) < count:
        raise InputError(f"{source}: truncated: expected {count} bytes of data, found {len(data)}; copy it again")
    return data


# --- archives --------------------------------------------------------------------------------------------------------


def zip_members(archive: zipfile.ZipFile, source: Path) -> list[zipfile.ZipInfo]:
    """The files of a zip after all guards: count, unpacked size, ratio, names that leave the folder, encryption.

    Nothing is ever unpacked to disk here; a hostile name is refused all the same, because the next tool might.
    """
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) > MAX_FILES:
        raise InputError(f"{source}: the zip holds {len(members)} files, the limit is {MAX_FILES}; split it")
    for member in members:
        name = member.filename.replace("\\", "/")
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or (parts and ":" in parts[0]) or "\x00" in member.orig_filename:
            raise InputError(
                f"{source}: the zip member {member.filename!r} points outside the archive (zip slip); do not unpack "
                f"it, pack the folder again"
            )
        if stat.S_ISLNK(member.external_attr >> 16):
            raise InputError(f"{source}: the zip member {member.filename!r} is a link; pack the files themselves")
        if member.flag_bits & 0x1:
            raise InputError(f"{source}: the zip member {member.filename!r} is encrypted; unpack it, give the folder")
    unpacked = sum(member.file_size for member in members)
    packed = max(1, sum(member.compress_size for member in members))
    if unpacked > MAX_DECOMPRESSED_BYTES:
        raise InputError(
            f"{source}: the zip unpacks to {unpacked / 2**30:.1f} GiB, the limit is "
            f"{MAX_DECOMPRESSED_BYTES / 2**30:.0f} GiB; give the folder of one series"
        )
    if unpacked > ZIP_RATIO_FREE_BYTES and unpacked / packed > MAX_ZIP_RATIO:
        raise InputError(
            f"{source}: the zip unpacks to {unpacked / packed:.0f} times its size (a zip bomb?), the limit is "
            f"{MAX_ZIP_RATIO:.0f}; unpack it yourself and give the folder"
        )
    return members


def open_zip(path: Path) -> zipfile.ZipFile:
    """An open zip archive. Raises InputError if it is damaged."""
    try:
        return zipfile.ZipFile(check_file(path))
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise InputError(f"{path}: the zip is damaged or truncated ({error}); copy or pack it again") from error


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, source: Path, *, limit: int | None = None) -> bytes:
    """Bytes of one zip member (at most `limit` of them). Raises InputError if it is damaged or lies on its size."""
    try:
        with archive.open(member) as stream:
            return bytes(stream.read(member.file_size if limit is None else min(limit, member.file_size)))
    except (zipfile.BadZipFile, OSError, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{source}: the zip member {member.filename!r} is damaged ({error}); pack it again") from error


# --- grids and values ------------------------------------------------------------------------------------------------


def check_spacing(
    spacing_mm: ArrayLike, source: Path, *, tag: str, limits: tuple[float, float] = SPACING_RANGE_MM, mend: str = ""
) -> tuple[float, ...]:
    """`spacing_mm` as floats if all are finite and within `limits` (mm). Raises InputError naming file and tag."""
    values = tuple(float(v) for v in np.atleast_1d(np.asarray(spacing_mm, dtype=np.float64)))
    if not all(np.isfinite(v) and limits[0] <= v <= limits[1] for v in values):
        raise InputError(
            f"{source}: {tag} gives a spacing of {' x '.join(f'{v:g}' for v in values)} mm; expected "
            f"{limits[0]:g} to {limits[1]:g} mm; {mend or 'correct the header or export the file again'}"
        )
    return values


def check_affine(affine: ArrayLike, shape: tuple[int, ...], source: Path, *, tag: str) -> NDArray[np.float64]:
    """A 4 x 4 affine that is finite, regular and gives sane spacing and extent. Raises InputError."""
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise InputError(f"{source}: {tag} is not a finite 4 x 4 affine; correct the header or export the file again")
    spacing = check_spacing(np.linalg.norm(matrix[:3, :3], axis=0), source, tag=tag)
    if abs(np.linalg.det(matrix[:3, :3] / np.asarray(spacing))) < 0.1:
        raise InputError(f"{source}: {tag} is singular or nearly so (its axes coincide); correct the header")
    extent = max(n * s for n, s in zip(shape, spacing, strict=False))
    if extent > EXTENT_MAX_MM:
        raise InputError(f"{source}: {tag} and the matrix give {extent:.0f} mm along one axis; expected a chest in mm")
    return matrix


def check_finite(values: NDArray[Any], source: Path, *, what: str) -> None:
    """Raises InputError if `values` hold NaN or infinity."""
    if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
        bad = int(values.size - np.count_nonzero(np.isfinite(values)))
        raise InputError(f"{source}: {bad} of {values.size} {what} are NaN or infinite; repair or export again")


def check_not_constant(values: NDArray[Any], source: Path, *, what: str) -> None:
    """Raises InputError if all `values` are equal: an empty image."""
    if float(values.min()) == float(values.max()):
        raise InputError(
            f"{source}: all {what} have the same value {float(values.flat[0]):g}: an empty image; export the file again"
        )


def check_hu(hu: NDArray[np.float32], source: Path) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """HU values that can be a CT, and notes on what was repaired.

    Values below -1100 HU are padding outside the field of view and become -1024 (in place). Raises InputError for
    NaN, a constant volume, and values that are plainly not HU (0..1, 0..255, HU + 1024, beyond +-1e5).
    """
    check_finite(hu, source, what="voxels")
    check_not_constant(hu, source, what="voxels")
    low, high = float(hu.min()), float(hu.max())
    found = f"{source}: the values run from {low:g} to {high:g}"
    if max(abs(low), abs(high)) > HU_ABSURD:
        raise InputError(f"{found}, which cannot be HU; check rescale slope and intercept, or convert to HU")
    if low >= -1.5 and high <= 1.5:
        raise InputError(f"{found}: normalised values, not HU; convert them back to HU (air -1000, water 0)")
    if low >= 0 and high <= 255:
        raise InputError(f"{found}: 8-bit display values, not HU; export the CT with its HU (air -1000, water 0)")
    if low >= 0 and high > 1000:
        raise InputError(
            f"{found}: nothing is below 0 HU, so this looks like HU + 1024 (a lost rescale intercept); subtract 1024 "
            f"or export the CT with its rescale tags"
        )
    notes: list[str] = []
    if low < HU_PADDING_BELOW:
        padding = hu < HU_PADDING_BELOW
        notes.append(f"{int(padding.sum())} voxels below {HU_PADDING_BELOW:g} HU (padding) set to {OUTSIDE_HU:g} HU")
        hu[padding] = OUTSIDE_HU
        check_not_constant(hu, source, what="voxels above the padding")
    if low > -500:
        notes.append(f"no value below {low:g} HU: no air in the picture; is this a chest CT in HU?")
    return hu, tuple(notes)


# --- files on the way out --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def atomic_path(final: Path, *, overwrite: bool) -> Iterator[Path]:
    """A temporary path beside `final`, with its suffixes; becomes `final` when the block ends well.

    On any failure (also Ctrl-C) the temporary file is removed and `final` is untouched. A folder may be made at the
    temporary path, too. Parent folders are created.

    Raises:
        OutputExistsError: `final` exists and `overwrite` is false, or is a folder.
        InputError: the folder is not writable, the path leads through a file, and the like.
        XReconError: the disk is full.
    """
    final = Path(final)
    check_absent(final, overwrite=overwrite)
    # Leading random part, so that a long name keeps its suffixes and two processes never share a temporary.
    temporary = final.with_name(f".{uuid.uuid4().hex[:12]}.{final.name[-200:]}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _publish(temporary, final, overwrite=overwrite)
    except OSError as error:
        if error.errno in _DISK_ERRORS:
            # A full disk is a failure (exit code 1); the others are places that the user should not have chosen (2).
            kind = XReconError if error.errno in (errno.ENOSPC, errno.EDQUOT) else InputError
            raise kind(f"{final}: cannot be written: {_DISK_ERRORS[error.errno]}") from error
        raise
    finally:
        _remove(temporary)


def check_absent(final: Path, *, overwrite: bool) -> None:
    """Raises OutputExistsError if `final` exists and may not be replaced."""
    try:
        if final.is_dir() and not final.is_symlink():
            raise OutputExistsError(f"{final}: is an existing folder; choose another output path")
        if not overwrite and (final.exists() or final.is_symlink()):
            raise OutputExistsError(f"{final}: exists already; give --overwrite (overwrite=True) or another path")
    except OSError as error:  # e.g. no permission to look into the parent, a name that is too long
        reason = _DISK_ERRORS.get(error.errno or 0, str(error))
        raise InputError(f"{final}: cannot be written: {reason}") from error


def _publish(temporary: Path, final: Path, *, overwrite: bool) -> None:
    if temporary.is_file():
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())  # or a power cut may leave the new name on an empty file
    if overwrite or temporary.is_dir():
        temporary.replace(final)
        return
    try:
        final.hardlink_to(temporary)  # unlike replace, this fails if another process made `final` meanwhile
    except FileExistsError as error:
        raise OutputExistsError(f"{final}: was made by another process meanwhile; choose another path") from error
    except OSError:  # a file system without hard links
        check_absent(final, overwrite=overwrite)
        temporary.replace(final)


def _remove(temporary: Path) -> None:
    with contextlib.suppress(OSError):
        if temporary.is_dir() and not temporary.is_symlink():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


def write_bytes_atomic(final: Path, content: bytes, *, overwrite: bool = False) -> Path:
    """Write `content` so that `final` is either complete or absent. Raises OutputExistsError, InputError."""
    with atomic_path(final, overwrite=overwrite) as temporary:
        temporary.write_bytes(content)
    return final


def write_text_atomic(final: Path, content: str, *, overwrite: bool = False) -> Path:
    """Write text as UTF-8 with Unix line ends, atomically. Raises OutputExistsError, InputError."""
    return write_bytes_atomic(final, content.encode("utf-8"), overwrite=overwrite)


def write_json_atomic(final: Path, values: Any, *, overwrite: bool = False) -> Path:
    """Write `values` as indented JSON, atomically; numpy values and paths become plain ones.

    Raises InputError for NaN or infinity (not JSON) and for types that JSON lacks.
    """
    try:
        text = json_text(values, non_finite="refuse", ascii_only=False)
    except (ValueError, TypeError) as error:
        raise InputError(f"{final}: the values cannot be written as JSON ({error})") from error
    return write_text_atomic(final, text + "\n", overwrite=overwrite)
