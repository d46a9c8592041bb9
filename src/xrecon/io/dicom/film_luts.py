"""From stored values of a DICOM film to those that the standard shows: modality and VOI transformation.

The standard (PS3.3 C.11, PS3.4 N.2.1) sends stored values through the modality transformation (rescale or look-up
table), then the VOI transformation (look-up table, or window), then the presentation's shape. A rescale that rises and
a linear window that clips nothing only change brightness and contrast, which are unknown of a display film anyway.
What changes the order of grey values, or bends them, is applied and said.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.io.dicom.pixels import optional_number, tag_name, text

_CLIPPED_SHARE = 0.05
"""Share of the pixels outside the window from which it is said that the window was not applied."""


@dataclass(frozen=True)
class ShownValues:
    """Values in the order of grey in which a viewer shows them.

    Attributes:
        values: [rows, cols].
        limits: least and largest value that they can have.
        notes: what was applied, and what was not.
    """

    values: NDArray[np.float64]
    limits: tuple[float, float]
    notes: tuple[str, ...] = ()


def shown_values(dataset: Any, stored: NDArray[np.int32], limits: tuple[int, int], path: Path) -> ShownValues:
    """Apply the modality and VOI transformations of a film for presentation.

    Args:
        dataset: the film's data set.
        stored: [rows, cols] as stored, one grey channel.
        limits: least and largest value that the stored bits can hold.
        path: for messages.

    Raises:
        InputError: a look-up table that is damaged.
    """
    values, low, high = stored.astype(np.float64), float(limits[0]), float(limits[1])
    notes: list[str] = []
    if dataset.get("ModalityLUTSequence"):
        values, (low, high) = _through_table(dataset, values, path, keyword="ModalityLUTSequence")
        notes.append("the modality look-up table (ModalityLUTSequence) was applied")
    else:
        slope, intercept = optional_number(dataset, "RescaleSlope"), optional_number(dataset, "RescaleIntercept")
        slope, intercept = slope or 1.0, intercept or 0.0
        values = values * slope + intercept
        low, high = sorted((low * slope + intercept, high * slope + intercept))
        if slope < 0:
            notes.append(f"{tag_name('RescaleSlope')} is negative: dark and bright were exchanged, as it says")
    if dataset.get("VOILUTSequence"):
        values, (low, high) = _through_table(dataset, values, path, keyword="VOILUTSequence")
        notes.append("the VOI look-up table (VOILUTSequence) was applied, as a viewer does")
    else:
        notes += _window_notes(dataset, values)
    return ShownValues(values, (low, high), tuple(notes))


def _through_table(
    dataset: Any, values: NDArray[np.float64], path: Path, *, keyword: str
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Values through the first table of a sequence, and the range of the table; values beyond it take its ends."""
    try:
        item = dataset[keyword][0]
        count, first, bits = (int(v) for v in item.LUTDescriptor)
        table = _entries(item.LUTData, count or 65536)
    except Exception as error:  # pydicom raises several unrelated types on damaged items
        raise _damaged(keyword, path) from error
    if not 1 <= bits <= 16 or len(table) < 2 or float(values.min()) > first + len(table):
        raise _damaged(keyword, path)
    if first > 32767 and float(values.min()) < 0:
        first -= 65536  # a signed number, read as unsigned
    out = table[np.clip(np.rint(values).astype(np.int64) - first, 0, len(table) - 1)].astype(np.float64)
    return out, (0.0, max(float((1 << bits) - 1), float(table.max())))


def _entries(data: Any, count: int) -> NDArray[np.int64]:
    """The entries of a table: numbers, or bytes of 16 or 8 bits each. Raises ValueError where some are missing."""
    if isinstance(data, bytes):
        wide = len(data) >= 2 * count
        entries = np.frombuffer(data, "<u2" if wide else np.uint8)
    else:
        entries = np.asarray(data, dtype=np.int64).ravel()
    if len(entries) < count:
        raise ValueError(f"{len(entries)} entries of {count}")
    return np.asarray(entries[:count], dtype=np.int64) & 0xFFFF


def _damaged(keyword: str, path: Path) -> InputError:
    return InputError(f"{path}: the look-up table {tag_name(keyword)} is damaged; export the film again")


def _window_notes(dataset: Any, values: NDArray[np.float64]) -> tuple[str, ...]:
    """A note on a window that is not applied, where it would change more than brightness and contrast."""
    centre, width = optional_number(dataset, "WindowCenter"), optional_number(dataset, "WindowWidth")
    if centre is None or width is None or width <= 0:
        return ()  # none, or several for the viewer to choose from
    outside = float(np.mean(np.abs(values - centre) > width / 2))
    if text(dataset, "VOILUTFunction") == "SIGMOID":
        return ("the file's sigmoid window (VOILUTFunction) was not applied: the values as stored were read",)
    if outside <= _CLIPPED_SHARE:
        return ()
    what = f"the file's window would cut off the values of {outside:.0%} of the pixels"
    return (f"{what}; it was not applied: the values as stored were read",)
