"""Several pictures of the patient in one series: acquisitions that lie in one another are told apart, never blended.

Two passages of the scanner (two breaths, two phases, two reconstructions) can share one SeriesInstanceUID. Sorted by
position their slices alternate, and the stack looks like one CT with finer slices in which the chest jitters. Blocks
that only follow each other along the table are one CT.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from xrecon.io.dicom.slices import Slice

Groups = list[NDArray[np.intp]]

_LEAST_SLICES = 2
"""A group with fewer slices in the range of another one is an overlap of blocks at their ends."""
_LARGEST_GROUPS = 8
_COMB_TOLERANCE = 0.04
"""Share of the spacing by which the positions of one regular stack may deviate."""
_SMOOTH_PIXELS = 16
"""Edge of the blocks that are averaged before slices are compared: what is left of noise is below one HU there."""
_JITTER_RATIO = 0.75
"""Neighbours of one CT differ by 0.5 to 0.6 of what slices at twice the distance do, and by more than this only under
strong noise. In an alternating stack of two breaths they differ as much or more."""
_PERSISTENCE = 0.25
"""Correlation along a group of what tells its slices from their neighbours: over 0.5 where the groups are two breaths,
below 0.1 where they are one CT, however noisy (measured on the train CTs)."""
_REGULAR = 0.15
"""Share of the spacing by which the steps of one comb may vary; the steps of two combs together vary more."""
_SAME_NUMBER = 0.03
"""Relative difference of two header numbers that count as one."""


@dataclass(frozen=True)
class Acquisition:
    """One passage of the scanner, or one phase or reconstruction of it.

    Attributes:
        selector: what `--series NUMBER@SELECTOR` takes to choose it.
        words: what tells it from the others, for people.
        indices: of its slices in the position-sorted stack.
    """

    selector: str
    words: str
    indices: NDArray[np.intp]


@dataclass(frozen=True)
class _Attribute:
    """A header value that differs between pictures of one place."""

    words: str
    value: Callable[[Slice], Hashable]
    numeric: bool = False


_ATTRIBUTES = (
    _Attribute("acquisition", lambda plane: plane.acquisition),
    _Attribute("phase", lambda plane: plane.scan.phase),
    _Attribute("tube voltage", lambda plane: plane.scan.kvp, numeric=True),
    _Attribute("kernel", lambda plane: plane.scan.kernel),
    _Attribute("slice thickness", lambda plane: plane.scan.thickness, numeric=True),
    _Attribute("acquisition time", lambda plane: plane.scan.time),
)
"""In the order in which they are tried: the first one whose groups lie in one another decides."""


def separate_by_header(slices: Sequence[Slice], positions_mm: NDArray[np.float64]) -> tuple[Acquisition, ...]:
    """The acquisitions of a stack whose headers tell them apart; empty where it is one CT.

    Args:
        slices: sorted by position.
        positions_mm: [k], along the normal of the slices.
    """
    for attribute in _ATTRIBUTES:
        values: dict[Hashable, list[int]] = {}
        stated = [attribute.value(plane) for plane in slices]
        for index, value in enumerate(_near_as_one(stated) if attribute.numeric else stated):
            values.setdefault(value, []).append(index)
        if not 2 <= len(values) <= _LARGEST_GROUPS:
            continue
        groups = [np.asarray(indices, dtype=np.intp) for indices in values.values()]
        if _interleaved(groups, positions_mm):
            return _named(attribute.words, [str(value) for value in values], groups, positions_mm)
    return ()


def separate_by_content(
    planes: NDArray[np.float32], slices: Sequence[Slice], positions_mm: NDArray[np.float64]
) -> tuple[Acquisition, ...]:
    """The acquisitions of a stack whose positions and pictures tell them apart; empty where it is one CT.

    The slices are grouped by the order in which they were taken, by folder, and by position (two or three regular
    combs, or every second slice). A group counts only where the pictures agree: neighbours across groups differ as much
    as neighbours within one, although they lie closer together; or where each group is regular in itself and both
    together are not.

    Args:
        planes: [k, rows, cols] HU, sorted by position.
        slices: the same slices.
        positions_mm: [k], strictly increasing.
    """
    if len(positions_mm) < 4 * _LEAST_SLICES:
        return ()
    smooth = _block_means(planes)
    candidates = (
        _runs_of_order(slices),
        _folders(slices),
        _combs(positions_mm, 2),
        _combs(positions_mm, 3),
        _every_second(len(positions_mm)),
    )
    for groups in candidates:
        if len(groups) < 2 or not _interleaved(groups, positions_mm):
            continue
        if not _uneven(groups, positions_mm) and not _jitters(smooth, groups, positions_mm):
            continue
        return _named("part", [str(k + 1) for k in range(len(groups))], groups, positions_mm)
    return ()


def complete_one(acquisitions: Sequence[Acquisition]) -> Acquisition | None:
    """The acquisition that stands out: all others have less than half of its slices. None where it is a choice."""
    best, second = sorted(acquisitions, key=lambda part: len(part.indices), reverse=True)[:2]
    return best if len(second.indices) < 0.5 * len(best.indices) else None


def _named(
    words: str, values: Sequence[str], groups: Groups, positions_mm: NDArray[np.float64]
) -> tuple[Acquisition, ...]:
    named: list[Acquisition] = []
    unused = (str(number) for number in range(1, 2 * len(values) + 1) if str(number) not in values)
    for number, (value, indices) in enumerate(zip(values, groups, strict=True), start=1):
        places = positions_mm[indices]
        selector = (value or next(unused)) if words == "acquisition" else str(number)
        shown = f"{words} {value}" if words in ("acquisition", "part") and value else f"{words} {selector}"
        named.append(
            Acquisition(
                selector, f"{shown} ({len(indices)} slices, {places.min():.1f} to {places.max():.1f} mm)", indices
            )
        )
    return tuple(named)


def _interleaved(groups: Groups, positions_mm: NDArray[np.float64]) -> bool:
    """Whether two of the groups have slices inside the range of each other."""
    return any(_inside(a, b, positions_mm) and _inside(b, a, positions_mm) for a, b in combinations(groups, 2))


def _inside(group: NDArray[np.intp], other: NDArray[np.intp], positions_mm: NDArray[np.float64]) -> bool:
    low, high = positions_mm[other].min(), positions_mm[other].max()
    places = positions_mm[group]
    return int(np.count_nonzero((places >= low) & (places <= high))) > _LEAST_SLICES


def _runs_of_order(slices: Sequence[Slice]) -> Groups:
    """Groups of slices that follow each other along the table in the order of their instance numbers."""
    order = [plane.scan.instance for plane in slices]
    if None in order or len(set(order)) < len(order):
        return []
    in_order = np.argsort(np.asarray(order, dtype=np.int64), kind="stable")
    steps = np.diff(in_order)
    forwards = np.median(np.sign(steps)) >= 0
    breaks = np.flatnonzero((steps < 0) if forwards else (steps > 0)) + 1
    if not 1 <= len(breaks) < _LARGEST_GROUPS:
        return []
    return [np.sort(run) for run in np.split(in_order, breaks)]


def _folders(slices: Sequence[Slice]) -> Groups:
    """Groups of slices by the folder of their files; empty where there is one folder, or very many."""
    members: dict[str, list[int]] = {}
    for index, plane in enumerate(slices):
        members.setdefault(plane.file.name.rpartition("/")[0], []).append(index)
    if not 2 <= len(members) <= _LARGEST_GROUPS:
        return []
    return [np.asarray(indices, dtype=np.intp) for indices in members.values()]


def _combs(positions_mm: NDArray[np.float64], stride: int) -> Groups:
    """Up to `stride` regular stacks of one spacing whose positions lie between each other; empty where there is one."""
    pitch = float(np.median(positions_mm[stride:] - positions_mm[:-stride]))
    phase = np.mod(positions_mm - positions_mm[0], pitch) / pitch
    groups: Groups = []
    left = np.arange(len(positions_mm))
    while len(left) and len(groups) <= stride:
        apart = np.abs(np.mod(phase[left] - phase[left[0]] + 0.5, 1.0) - 0.5)
        groups.append(left[apart <= _COMB_TOLERANCE])
        left = left[apart > _COMB_TOLERANCE]
    return groups if not len(left) and 2 <= len(groups) <= stride else []


def _every_second(count: int) -> Groups:
    return [np.arange(0, count, 2, dtype=np.intp), np.arange(1, count, 2, dtype=np.intp)]


def _block_means(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """[k, blocks]: means over square blocks of pixels, -1024..1000 HU, so that noise and metal do not count."""
    edge = min(_SMOOTH_PIXELS, *planes.shape[1:])
    rows, cols = (n // edge * edge for n in planes.shape[1:])
    blocks = planes[:, :rows, :cols].reshape(len(planes), rows // edge, edge, cols // edge, edge)
    means: NDArray[np.float32] = np.clip(blocks.mean(axis=(2, 4)), -1024, 1000).reshape(len(planes), -1)
    return means


def _near_as_one(values: Sequence[Hashable]) -> list[Hashable]:
    """The values, numbers that differ by less than a hair replaced by the first of them."""
    numbers = {value: _number(value) for value in values}
    known = sorted((number, value) for value, number in numbers.items() if number is not None)
    first: dict[Hashable, Hashable] = {}
    for k, (number, value) in enumerate(known):
        before = known[k - 1] if k else None
        near = before is not None and number - before[0] <= _SAME_NUMBER * abs(number)
        first[value] = first[before[1]] if before is not None and near else value
    return [first.get(value, value) for value in values]


def _number(value: Hashable) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None


def _uneven(groups: Groups, positions_mm: NDArray[np.float64]) -> bool:
    """Whether the steps within each group are equal and those of all slices together are not."""
    steps = np.diff(positions_mm)
    alone = [np.diff(positions_mm[group]) for group in groups if len(group) > 2 * _LEAST_SLICES]
    if len(alone) < 2 or any(np.ptp(part) > _REGULAR * part.mean() for part in alone):
        return False
    middle = np.quantile(steps, [0.25, 0.75])
    return bool(middle[1] - middle[0] > 2 * _REGULAR * steps.mean())


def _jitters(smooth: NDArray[np.float32], groups: Groups, positions_mm: NDArray[np.float64]) -> bool:
    """Whether neighbours of different groups differ as much as neighbours within a group, which lie farther apart,
    and do so in the same way along the group: noise differs from slice to slice.
    """
    owner = np.empty(len(smooth), dtype=np.intp)
    for number, group in enumerate(groups):
        owner[group] = number
    across = np.flatnonzero(owner[1:] != owner[:-1])
    within = [(first, second) for group in groups for first, second in pairwise(group.tolist())]
    within = [(first, second) for first, second in within if second - first > 1]
    if len(across) < 2 * _LEAST_SLICES or len(within) < _LEAST_SLICES:
        return False
    near = np.mean([_difference(smooth, k, k + 1) for k in across.tolist()])
    far = np.mean([_difference(smooth, first, second) for first, second in within])
    return bool(far > 0 and near > _JITTER_RATIO * far and _persistence(smooth, owner, positions_mm) > _PERSISTENCE)


def _persistence(smooth: NDArray[np.float32], owner: NDArray[np.intp], positions_mm: NDArray[np.float64]) -> float:
    """Correlation of what tells a slice from its neighbours of other groups with the same two slices on in its group.

    Two slices on, no neighbour is shared, so that noise has no correlation.
    """
    inner = [k for k in range(1, len(owner) - 1) if owner[k] not in (owner[k - 1], owner[k + 1])]
    share = {k: (positions_mm[k] - positions_mm[k - 1]) / (positions_mm[k + 1] - positions_mm[k - 1]) for k in inner}
    residual = {k: smooth[k] - (1 - share[k]) * smooth[k - 1] - share[k] * smooth[k + 1] for k in inner}
    products = []
    for number in range(int(owner.max()) + 1):
        members = [k for k in inner if owner[k] == number]
        products += [float((residual[a] * residual[b]).mean()) for a, b in zip(members, members[2:], strict=False)]
    power = np.mean([float((part**2).mean()) for part in residual.values()]) if residual else 0.0
    return float(np.mean(products) / power) if products and power > 0 else 0.0


def _difference(smooth: NDArray[np.float32], first: int, second: int) -> float:
    return float(np.abs(smooth[first] - smooth[second]).mean())
