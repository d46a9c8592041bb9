"""Unusable files beside the slices of a series, and where in the chest they are missing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath

_NAMED = 3
"""How many of the files a note names."""
_ORDERED = 0.9
"""Share of steps in one direction along the table from which file names count as sorted by position."""


@dataclass(frozen=True)
class UnusedFile:
    """A file that is no readable DICOM.

    Attributes:
        folder: where it lies, as messages write it.
        name: its own name.
        reason: "empty", "not DICOM" or "a web page".
    """

    folder: str
    name: str
    reason: str


def reason_of(head: bytes) -> str:
    """Why a file cannot be used, by its first bytes, which are not those of DICOM."""
    if not head:
        return "empty"
    start = head[:256].lstrip().lower()
    return "a web page" if start.startswith((b"<html", b"<!doctype html", b"<?xml")) else "not DICOM"


def unused_notes(
    unused: Sequence[UnusedFile], used: Sequence[tuple[str, str, float | None]], *, names: bool = True
) -> tuple[str, ...]:
    """A note on the files that should have been slices of a series; empty where there is none.

    Args:
        unused: files that are no readable DICOM.
        used: (folder, name, height towards the head in mm) of the series' files.
        names: whether the note may name files (their names can hold those of patients).
    """
    folders = {folder for folder, _, _ in used}
    kinds = {_kind(name) for _, name, _ in used}
    missing = sorted(
        (file for file in unused if file.folder in folders and _kind(file.name) in kinds),
        key=lambda file: _natural(file.name),
    )
    if not missing:
        return ()
    counts = Counter(file.reason for file in missing)
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    more = ", ..." if len(missing) > _NAMED else ""
    listed = f": {', '.join(file.name for file in missing[:_NAMED])}{more}" if names else ""
    files = "1 file" if len(missing) == 1 else f"{len(missing)} files"
    return (f"{files} beside the slices could not be used ({reasons}{listed}); {_place(missing, used)}",)


def _place(missing: Sequence[UnusedFile], used: Sequence[tuple[str, str, float | None]]) -> str:
    """Where the missing files belong, by the order of names; a sentence."""
    sequence = sorted((_natural(name), height) for _, name, height in used if height is not None)
    steps = [second[1] - first[1] for first, second in pairwise(sequence)]
    up, down = sum(step > 0 for step in steps), sum(step < 0 for step in steps)
    if not steps or max(up, down) < _ORDERED * len(steps):
        return "which part of the chest they held is not known"
    names = [_natural(file.name) for file in missing]
    before, after = (any(name < sequence[0][0] for name in names), any(name > sequence[-1][0] for name in names))
    inside = any(sequence[0][0] <= name <= sequence[-1][0] for name in names)
    low, high = (before, after) if up >= down else (after, before)
    places = [
        *(["at the head end: the apices may be missing, where a pneumothorax lies"] if high else []),
        *(["at the feet end: the bases may be missing"] if low else []),
        *(["inside the stack"] if inside else []),
    ]
    return f"by their names they belong {' and '.join(places)}"


def _kind(name: str) -> str:
    """What file names of one series have in common: the suffix, or the letters before the number."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if suffix and not suffix[1:].isdigit() else re.sub(r"[\d.]+", "", name).lower()


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """Sorts IM2 before IM10."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name) if part)
