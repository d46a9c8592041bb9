"""Unusable files beside the slices of a series, and where in the chest they are missing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath

_NAMED = 3
"""How many of the files a note names."""
_LEAST_NUMBERED = 10
"""Fewer slices are no chest: their numbers say nothing."""
_FEW_NUMBERS = 10
"""So many numbers may be missing, or a quarter of the slices: larger numbers are counted on from another series."""
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


def first_numbers_note(
    numbers: Sequence[int | None], heights_mm: Sequence[float], elsewhere: Collection[int] = ()
) -> tuple[str, ...]:
    """A note where the numbers of the slices run without a gap along the table, but do not begin at 1.

    Args:
        numbers: InstanceNumber of each slice.
        heights_mm: of each slice, towards the head.
        elsewhere: numbers of other images of the series, as overviews.
    """
    if len(numbers) < _LEAST_NUMBERED or any(number is None for number in numbers):
        return ()
    pairs = sorted((int(number or 0), height) for number, height in zip(numbers, heights_mm, strict=True))
    steps = [second[1] - first[1] for first, second in pairwise(pairs)]
    along = all(step > 0 for step in steps) or all(step < 0 for step in steps)
    first = pairs[0][0]
    whole = [number for number, _ in pairs] == list(range(first, first + len(pairs)))
    missing = [number for number in range(1, first) if number not in elsewhere]
    if not (along and whole and missing) or len(missing) > max(_FEW_NUMBERS, len(pairs) // 4):
        return ()
    listed = f"image {missing[0]} is" if len(missing) == 1 else f"images {missing[0]} to {missing[-1]} are"
    end = "feet end: the bases" if steps[0] > 0 else "head end: the apices"
    note = f"the InstanceNumbers begin at {first}: {listed} not among the files"
    return (f"{note}; unless they were overviews, slices are missing at the {end} may be incomplete",)


def _kind(name: str) -> str:
    """What file names of one series have in common: the suffix, or the letters before the number."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if suffix and not suffix[1:].isdigit() else re.sub(r"[\d.]+", "", name).lower()


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """Sorts IM2 before IM10."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name) if part)
