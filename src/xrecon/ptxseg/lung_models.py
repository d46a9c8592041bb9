"""The interchangeable part: who finds the hemithoraces. Every model gives the same labels on the working grid.

A model is a function of the working volume and what is known already (body, airways); networks are registered by the
modules that hold them, with `register`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from xrecon.errors import InputError
from xrecon.ptxseg.airways import Airways
from xrecon.ptxseg.lungs import Hemithoraces, find_hemithoraces
from xrecon.ptxseg.morphology import Mask
from xrecon.volume import Volume


class LungModel(Protocol):
    """Finds the hemithoraces: each lung with any free air round it, without windpipe and main bronchi."""

    def __call__(self, volume: Volume, *, body: Mask, airways: Airways) -> Hemithoraces:
        """Sides [D, H, W] (0 outside, 1 right, 2 left) on the grid of `volume` (HU, canonical axes)."""


@dataclass(frozen=True)
class Entry:
    """A registered model.

    Attributes:
        name: as in `segment(lung_model=...)`.
        load: makes the model; raises MissingPartError where a package or weights are absent.
        remark: one line for people: what it is and how well it was measured.
    """

    name: str
    load: Callable[[], LungModel]
    remark: str


def classical(volume: Volume, *, body: Mask, airways: Airways) -> Hemithoraces:
    """Thresholds, distance maps and a watershed; needs no weights. See `lungs.find_hemithoraces`."""
    return find_hemithoraces(np.asarray(volume.hu), body, airways, volume.spacing_mm)


_ENTRIES: dict[str, Entry] = {
    "classical": Entry("classical", lambda: classical, "thresholds, distance maps and watershed; no weights"),
}
AUTO = "classical"
"""What `auto` means; changed only by measured accuracy (docs/ptx-seg.md)."""


def register(entry: Entry) -> None:
    """Add a model under its name. Raises ValueError if the name is taken."""
    if entry.name in _ENTRIES or entry.name == "auto":
        raise ValueError(f"a lung model named {entry.name!r} is registered already")
    _ENTRIES[entry.name] = entry


def names() -> tuple[str, ...]:
    """Every value that `lung_model` may have."""
    return ("auto", *_ENTRIES)


def resolve(name: str) -> Entry:
    """The entry for a name; `auto` gives the default.

    Raises:
        InputError: the name is unknown.
    """
    entry = _ENTRIES.get(AUTO if name == "auto" else name)
    if entry is None:
        raise InputError(f"lung_model={name!r} is unknown; choose one of {', '.join(names())}")
    return entry
