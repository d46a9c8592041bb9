"""Files on the way in: that they exist, how large they may be, and reading no more than that."""

from __future__ import annotations

import hashlib
import stat
import zlib
from pathlib import Path
from typing import BinaryIO

from xrecon.errors import InputError

MAX_FILE_BYTES = 8 * 2**30
MAX_DECOMPRESSED_BYTES = 8 * 2**30
MAX_SIDE_CAR_BYTES = 2**20
DEFLATE_MAX_RATIO = 1032.0
"""No deflate stream expands more than this: a header that promises more is wrong, whatever the data."""


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


def read_text_capped(path: Path, *, limit: int = MAX_SIDE_CAR_BYTES) -> str:
    """Text of a small UTF-8 file. Raises InputError if it is larger than `limit` bytes or not text."""
    if check_file(path).stat().st_size > limit:
        raise InputError(f"{path}: has {path.stat().st_size} bytes, a side-car has at most {limit}; check the path")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error}); write it again") from error


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


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with check_file(path).open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()
