"""The lung models: interchangeable methods that find the hemithoraces, by name.

Every model gives the same labels on the working grid. It is a function of the working volume and what was measured
before (body, airways). Networks are imported only when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from xrecon.anatomy.morphology import Mask
from xrecon.errors import InputError
from xrecon.ptxseg.airways import Airways
from xrecon.ptxseg.hemithoraces.lungs import Hemithoraces, find_hemithoraces
from xrecon.volume import Volume

if TYPE_CHECKING:
    from xrecon.ptxseg.hemithoraces.net_lungs import NetLungs


class LungModel(Protocol):
    """Finds the hemithoraces: each lung with any free air round it, without windpipe and main bronchi."""

    def __call__(self, volume: Volume, *, body: Mask, airways: Airways) -> Hemithoraces:
        """Sides [D, H, W] (0 outside, 1 right, 2 left) on the grid of `volume` (HU, canonical axes)."""


@dataclass(frozen=True)
class LungModelEntry:
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


def shipped_network() -> NetLungs:
    """The network that comes with the package; also finds one side alone. Raises MissingPartError without weights."""
    from xrecon.ptxseg.hemithoraces.net_lungs import shipped_net

    return shipped_net()


def _lungmask() -> LungModel:
    from xrecon.ptxseg.hemithoraces.lung_packages import LungmaskLungs

    return LungmaskLungs()


def _totalsegmentator() -> LungModel:
    from xrecon.ptxseg.hemithoraces.lung_packages import TotalSegmentatorLungs

    return TotalSegmentatorLungs()


_ENTRIES = {
    entry.name: entry
    for entry in (
        LungModelEntry("classical", lambda: classical, "thresholds, distance maps and watershed; no weights"),
        LungModelEntry("net", shipped_network, "own network of 4 mm, edges from the CT; also finds lung without air"),
        LungModelEntry("lungmask", _lungmask, "the package lungmask (R231), with free air added"),
        LungModelEntry("totalsegmentator", _totalsegmentator, "the lobes of TotalSegmentator, air added"),
    )
}
AUTO, NETWORK = "classical", "net"
"""What `auto` means: the first; the second in smooth images, and for a collapsed lung that has lost its air.

On train cases held out the first is a little closer to contours of aerated lung, and the second tells the sides apart
where blur has joined the lungs, and finds lung that the first cannot see (docs/ptx-seg.md)."""


def register(entry: LungModelEntry) -> None:
    """Add a model under its name. Raises ValueError if the name is taken."""
    if entry.name in _ENTRIES or entry.name == "auto":
        raise ValueError(f"a lung model named {entry.name!r} is registered already")
    _ENTRIES[entry.name] = entry


def names() -> tuple[str, ...]:
    """Every value that `lung_model` may have."""
    return ("auto", *_ENTRIES)


def resolve(name: str) -> LungModelEntry:
    """The entry for a name; `auto` gives the default, a folder the network of `xrecon train lungs` in it.

    Raises:
        InputError: the name is unknown.
    """
    if (Path(name) / "model.safetensors").is_file():
        return LungModelEntry("net", lambda: _own_net(name), f"the network in {Path(name).name}")
    entry = _ENTRIES.get(AUTO if name == "auto" else name)
    if entry is None:
        raise InputError(
            f"lung_model={name!r} is unknown; choose one of {', '.join(names())}, or a folder of `xrecon train lungs`"
        )
    return entry


def _own_net(folder: str) -> LungModel:
    from xrecon.ptxseg.hemithoraces.net_lungs import NetLungs

    return NetLungs(folder)
