"""Which patients train and which test, and their folds: drawn by a seed; earlier draws stay when patients are added."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping

from xrecon.data.split import Subset
from xrecon.errors import InputError


def deal_subsets(
    patients: Iterable[str], *, test_share: float, seed: int, dealt: Mapping[str, Subset] | None = None
) -> dict[str, Subset]:
    """Train or test for every patient.

    The order in which patients are drawn for the test is a hash of seed and name, so it depends neither on the order of
    the input nor on the other patients.

    Args:
        patients: pseudonyms, repeats allowed.
        test_share: share of the patients that test, 0 (none) to below 1; rounded to whole patients, at least one where
            the share is above 0 and there are two patients.
        seed: of the draw.
        dealt: earlier decisions; they stay, and only new patients are dealt.

    Raises:
        InputError: the share is out of its range.
    """
    if not 0.0 <= test_share < 1.0:
        raise InputError(f"the share of test patients must be at least 0 and below 1, got {test_share:g}")
    names = _in_drawing_order(patients, seed)
    out: dict[str, Subset] = {name: dealt[name] for name in names if dealt and name in dealt}
    counted = [name for name in names if out.get(name) != "aux"]
    test_count = round(test_share * len(counted))
    if test_share > 0 and len(counted) > 1:
        test_count = min(max(test_count, 1), len(counted) - 1)
    missing = test_count - sum(subset == "test" for subset in out.values())
    for name in names:
        if name not in out:
            out[name] = "test" if missing > 0 else "train"
            missing -= 1
    return out


def deal_folds(
    patients: Iterable[str], count: int, *, seed: int, dealt: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Fold 0..count-1 for every patient, sizes as equal as can be; earlier decisions (`dealt`) stay.

    Raises:
        InputError: fewer than two folds, or fewer patients than folds.
    """
    names = _in_drawing_order(patients, seed)
    if count < 2 or count > len(names):
        raise InputError(f"{len(names)} training patients cannot be dealt into {count} folds; choose 2..{len(names)}")
    out = {name: dealt[name] for name in names if dealt and dealt.get(name, count) < count}
    sizes = Counter(out.values())
    for name in names:
        if name not in out:
            out[name] = min(range(count), key=lambda fold: (sizes[fold], fold))
            sizes[out[name]] += 1
    return out


def _in_drawing_order(patients: Iterable[str], seed: int) -> list[str]:
    return sorted(set(patients), key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
