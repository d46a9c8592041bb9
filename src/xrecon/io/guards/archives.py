"""Zip archives: bombs, members that lead out of the folder, encryption and damage are refused before reading."""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from xrecon.errors import InputError
from xrecon.io.guards.files import MAX_DECOMPRESSED_BYTES, check_file

MAX_FILES = 50_000
MAX_ZIP_RATIO = 200.0
ZIP_RATIO_FREE_BYTES = 256 * 2**20
"""Below this unpacked size the ratio of a zip does not matter (blank test slices pack 1000 to 1, harmlessly)."""


def open_zip(path: Path) -> zipfile.ZipFile:
    """An open zip archive. Raises InputError if it is damaged."""
    try:
        return zipfile.ZipFile(check_file(path))
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise InputError(f"{path}: the zip is damaged or truncated ({error}); copy or pack it again") from error


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


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, source: Path, *, limit: int | None = None) -> bytes:
    """Bytes of one zip member (at most `limit` of them). Raises InputError if it is damaged or lies on its size."""
    try:
        with archive.open(member) as stream:
            return bytes(stream.read(member.file_size if limit is None else min(limit, member.file_size)))
    except (zipfile.BadZipFile, OSError, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{source}: the zip member {member.filename!r} is damaged ({error}); pack it again") from error
