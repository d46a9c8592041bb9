"""CTs in a folder: which files are cases, what they are called, and how to recognise the same one again."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

from xrecon.errors import InputError
from xrecon.io.guards.files import sha256_of
from xrecon.io.guards.kinds import sniff

CT_SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".zip")
"""Names of CT files. A folder inside the folder is a case too, if it holds DICOM files."""

_LOOK_AT = 20
"""Files of a folder that are looked at before it counts as one without DICOM."""


def case_name(path: Path) -> str:
    """Name of a case: the file's name without its CT suffix, or the folder's name."""
    suffix = next((ending for ending in CT_SUFFIXES if path.name.lower().endswith(ending)), "")
    return path.name[: len(path.name) - len(suffix)]


def find_cases(folder: Path) -> tuple[tuple[str, Path], ...]:
    """(name, path) of every CT in a folder, sorted by name: CT files by suffix, and subfolders with DICOM files.

    Raises:
        InputError: not a folder, no CT in it, or two CTs of one name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"{folder}: {problem}; expected a folder with one CT file (or DICOM folder) per case")
    paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and _is_case(path)]
    if not paths:
        raise InputError(
            f"{folder}: holds no CT; expected files ending in {', '.join(CT_SUFFIXES)}, or one folder of DICOM files "
            "per case"
        )
    names = Counter(case_name(path) for path in paths)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise InputError(f"{folder}: more than one CT is called {', '.join(twice)}; keep one of each, or rename them")
    return tuple((case_name(path), path) for path in paths)


def content_sha256(path: Path) -> str:
    """SHA-256 of a file; of a folder: of the sorted digests of its files, so that their names do not matter.

    Raises:
        InputError: the path does not exist or cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        return sha256_of(path)
    digests = sorted(sha256_of(file) for file in path.rglob("*") if file.is_file() and file.stat().st_size)
    return hashlib.sha256("\n".join(digests).encode("ascii")).hexdigest()


def _is_case(path: Path) -> bool:
    if path.is_file():
        return path.name.lower().endswith(CT_SUFFIXES)
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.stat().st_size)
    return any(sniff(file) == "dicom" for file in files[:_LOOK_AT])
