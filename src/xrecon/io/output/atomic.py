"""Atomic writing: a file is either complete under its name or absent."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xrecon.errors import InputError, OutputExistsError, XReconError
from xrecon.json_text import json_text

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
