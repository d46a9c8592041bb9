"""Which stack of a folder is read: as asked for, or the one that stands out; never one patient's for another's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from xrecon.errors import InputError
from xrecon.io.dicom.grouping import Stack, patients_of
from xrecon.io.dicom.slices import ORIGINAL

_SAME_CHEST = 0.7
"""Share of the length along the table that an original stack needs to stand for the chest of another one."""


def describe(stack: Stack) -> str:
    """A stack in words that identify nobody: number, slices and the end of the series' UID."""
    remarks = stack.remarks()
    first = stack.first
    return (
        f"series {first.number or '(no number)'} (CT, {stack.count} slices{', ' if remarks else ''}{remarks}, "
        f"UID ...{first.series[-8:]})"
    )


def choose(
    stacks: Sequence[Stack],
    name: str,
    acquisition: str,
    path: Path,
    *,
    acquisitions_of: Callable[[Stack], set[str]],
    same_images: Callable[[Stack, Stack], bool],
) -> tuple[Stack, tuple[str, ...]]:
    """The stack that `name` means, or the one to be preferred where it is empty, and notes.

    Args:
        stacks: as `stacks_of` sorts them; `#K` counts from 1 in this order.
        name: number, UID or its end, description, or `#K`; "" for no choice.
        acquisition: number of an acquisition; of several stacks with the name it picks the one that holds it.
        path: for messages.
        acquisitions_of: acquisition numbers of a stack.
        same_images: whether two stacks hold the same pixels at the same places.

    Raises:
        InputError: no stack or several have the name; without a name, there are several patients, or different images
            under one series UID.
    """
    listing = _listing(stacks)
    if name:
        matching = _named(stacks, name)
        if len(matching) > 1 and acquisition:
            matching = [stack for stack in matching if acquisition in acquisitions_of(stack)]
            if not matching:
                raise InputError(
                    f"{path}: series {name!r} has no acquisition number {acquisition!r}; leave out @{acquisition}"
                )
        if len(matching) != 1:
            problem = "matches no series" if not matching else f"matches {len(matching)} series"
            raise InputError(
                f"{path}: --series {name!r} {problem}; there are: {listing}; give a number, a UID, or its place in "
                f"this list ('#1')"
            )
        return matching[0], (f"read {describe(matching[0])}, as asked",)
    patients = patients_of(stacks)
    if len(patients) > 1:
        raise InputError(
            f"{path}: holds CTs of {len(patients)} different patients, by PatientID, name and date of birth: "
            f"{_by_patient(stacks, patients)}; give the folder of one patient, or choose with --series '#1'"
        )
    best = _best(stacks)
    copies = _refuse_twins(best, stacks, path, acquisitions_of=acquisitions_of, same_images=same_images)
    if len(stacks) == 1:
        return best, ()
    rest = [stack for stack in stacks if stack is not best and stack not in copies]
    notes: tuple[str, ...] = ()
    if copies:
        notes = (f"{describe(best)} lies here {len(copies) + 1} times, with the same pixels; read once",)
    if not rest:
        return best, notes
    others = "; ".join(f"#{stacks.index(stack) + 1} {describe(stack)}" for stack in rest)
    equal = any(stack.preference == best.preference for stack in rest)
    largest = best.count >= max(stack.count for stack in rest)
    which = "picked the largest" if largest else "picked the original slices, although they are fewer,"
    which = "picked the first of the equally large ones" if equal else which
    return best, (*notes, f"{which} of {len(stacks)} series: {describe(best)}; others (--series): {others}")


def _best(stacks: Sequence[Stack]) -> Stack:
    """The preferred stack. Images that do not say that they are original give way to original ones of the same chest,
    however many they are; a short original stack (a bolus test) does not stand for the chest.
    """
    best = max(stacks, key=lambda stack: stack.preference)
    if best.rank == ORIGINAL:
        return best
    originals = [
        stack
        for stack in stacks
        if stack.rank == ORIGINAL
        and stack.preference[:3] == best.preference[:3]
        and stack.extent_mm >= _SAME_CHEST * best.extent_mm > 0
    ]
    return max(originals, key=lambda stack: stack.preference, default=best)


def _named(stacks: Sequence[Stack], name: str) -> list[Stack]:
    if name.startswith("#") and name[1:].isdigit():
        return list(stacks[int(name[1:]) - 1 : int(name[1:])]) if int(name[1:]) > 0 else []
    exact = [
        stack
        for stack in stacks
        if name in (stack.first.series, stack.first.number) or name.upper() == stack.first.description
    ]
    return exact or [stack for stack in stacks if len(name) >= 4 and stack.first.series.endswith(name)]


def _refuse_twins(
    best: Stack,
    stacks: Sequence[Stack],
    path: Path,
    *,
    acquisitions_of: Callable[[Stack], set[str]],
    same_images: Callable[[Stack, Stack], bool],
) -> list[Stack]:
    """Copies of the best stack. Raises where other images of the same rank have its series UID, or where it has none
    and nothing else tells the two apart.
    """
    twins = [
        stack
        for stack in stacks
        if stack.first.series == best.first.series
        and stack.preference[:3] == best.preference[:3]
        and (best.first.series or stack.first.number == best.first.number)
    ]
    copies = [stack for stack in twins if stack is not best and same_images(stack, best)]
    twins = [stack for stack in twins if stack not in copies]
    if len(twins) < 2:
        return copies
    if not best.first.series:
        listing = " and ".join(f"#{stacks.index(s) + 1} {describe(s)}, {s.first.place}" for s in twins)
        places = " or ".join(f"--series '#{stacks.index(stack) + 1}'" for stack in twins)
        raise InputError(
            f"{path}: {len(twins)} series without a SeriesInstanceUID, which nothing tells apart: {listing}; choose "
            f"{places}, or keep only the files of one"
        )
    problem = (
        f"{path}: {describe(best)} holds two different images at one position, or of two studies, under one "
        f"SeriesInstanceUID ({twins[0].first.place} and {twins[1].first.place})"
    )
    numbers = sorted(set().union(*(acquisitions_of(stack) for stack in twins)))
    if len(numbers) > 1 and best.first.number:
        choices = " or ".join(f"--series {best.first.number}@{number}" for number in numbers)
        raise InputError(f"{problem}; choose an acquisition: {choices}")
    places = " or ".join(f"--series '#{stacks.index(stack) + 1}'" for stack in twins)
    raise InputError(f"{problem}; choose {places}, or choose one and keep only its files in the folder")


def _listing(stacks: Sequence[Stack]) -> str:
    return "; ".join(f"#{number} {describe(stack)}" for number, stack in enumerate(stacks, start=1))


def _by_patient(stacks: Sequence[Stack], patients: Sequence[tuple[str, str, str]]) -> str:
    words = []
    for number, patient in enumerate(patients, start=1):
        members = [k for k, stack in enumerate(stacks, start=1) if patients_of([stack])[0] == patient]
        words.append(f"patient {number}: {', '.join(f'#{k} {describe(stacks[k - 1])}' for k in members)}")
    return "; ".join(words)
