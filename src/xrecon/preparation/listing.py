"""Lists the files below the inputs, local or remote, and tells the kind of each by its first bytes."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from xrecon.errors import InputError
from xrecon.io.guards.kinds import sniff, sniff_bytes
from xrecon.preparation.storage import file_system, is_remote

Kind = Literal["ct", "zip", "dicom", "h5", "film", "other", "damaged"]

_CT_KINDS = ("nifti", "mha", "nrrd")
_FILM_KINDS = ("png", "jpeg", "tiff")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_HEAD = 1024
_SKIPPED_FOLDERS = re.compile(r"^(\..*|__MACOSX)$")


@dataclass(frozen=True)
class InputFile:
    """One file among the inputs.

    Attributes:
        place: local path, or URL.
        parts: path below the input's parent folder, so that the input's own name comes first.
        kind: by the first bytes.
        stamp: size and time or version: changes when the file does.
        problem: for a damaged file, why.
    """

    place: str
    parts: tuple[str, ...]
    kind: Kind
    stamp: str
    problem: str = ""

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.parts[-1]

    @property
    def label(self) -> str:
        """Path below the input, for a user who keeps names."""
        return "/".join(self.parts)


def find_files(place: str) -> list[InputFile]:
    """Every file at or below a local path or URL, in name order. Hidden files and folders are left out.

    Raises:
        InputError: nothing is there, or no access.
        MissingPartError: the URL needs a package that is not installed.
    """
    fs, root = file_system(place)
    root = root.rstrip("/")
    remote = is_remote(place)
    try:
        listed = _remote(fs, root) if remote else _local(Path(root))
    except OSError as error:
        raise InputError(f"{place}: cannot be listed ({error}); check the path and the permissions") from error
    if listed is None:
        raise InputError(f"{place}: does not exist; give files, folders or URLs with CTs")
    parent = root.rpartition("/")[0]
    files = []
    for path, (size, version) in sorted(listed.items()):
        parts = tuple(part for part in path[len(parent) :].split("/") if part)
        if any(_SKIPPED_FOLDERS.match(part) for part in parts[1:]):
            continue
        where = str(fs.unstrip_protocol(path)) if remote else path
        kind, problem = _kind(fs, path, size, local=not remote)
        files.append(InputFile(where, parts, kind, f"{size}:{version}", problem))
    return files


def _local(root: Path) -> dict[str, tuple[int, str]] | None:
    """Path -> (bytes, time of the last change); links to files are followed, links to folders are not."""
    if root.is_file():
        paths = [root]
    elif root.is_dir():
        paths = [Path(folder) / name for folder, _, names in os.walk(root) for name in names]
    else:
        return None
    out = {}
    for path in paths:
        if path.is_file():
            status = path.stat()
            out[str(path)] = (status.st_size, str(status.st_mtime_ns))
    return out


def _remote(fs: Any, root: str) -> dict[str, tuple[int, str]] | None:
    """Path -> (bytes, version or time) of every object."""
    listed = {root: fs.info(root)} if fs.isfile(root) else fs.find(root, detail=True)
    if not listed and not fs.isdir(root):
        return None
    keys = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "created")
    out = {}
    for path, info in listed.items():
        version = next((str(info[key]) for key in keys if info.get(key)), "")
        out[path] = (int(info.get("size") or 0), version)
    return out


def _kind(fs: Any, path: str, size: int, *, local: bool) -> tuple[Kind, str]:
    if size == 0:
        return "damaged", "the file is empty (0 bytes); copy or export it again"
    try:
        with fs.open(path, "rb") as stream:
            head = bytes(stream.read(_HEAD))
        if head.startswith(_HDF5):
            return "h5", ""
        # A gzip must be opened to know; over a network its name is believed, and its reader checks.
        if head[:2] == b"\x1f\x8b":
            if not local:
                return ("ct", "") if path.lower().endswith(".nii.gz") else ("other", "")
            kind = sniff(Path(path))
        else:
            kind = sniff_bytes(head)
    except OSError as error:
        return "damaged", f"cannot be read ({type(error).__name__}); check the permissions"
    except InputError as error:
        return "damaged", str(error)
    if kind in _CT_KINDS:
        return "ct", ""
    if kind in _FILM_KINDS:
        return "film", ""
    return (kind if kind in ("zip", "dicom") else "other"), ""  # type: ignore[return-value]
