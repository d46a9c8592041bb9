"""Both hemithoraces of a scan by the chosen lung model, and by the network where the automatic choice falls on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xrecon.anatomy.morphology import Mask
from xrecon.ptxseg.hemithoraces.collapse import collapsed_sides
from xrecon.ptxseg.hemithoraces.lung_models import NETWORK, LungModel, LungModelEntry, resolve, shipped_network
from xrecon.ptxseg.hemithoraces.lungs import Hemithoraces, with_sides
from xrecon.ptxseg.hemithoraces.sides import SIDE_NAMES
from xrecon.ptxseg.levels import AirLevels
from xrecon.ptxseg.scan import Scan, levels_by_side
from xrecon.segmentation import Side


@dataclass(frozen=True, eq=False)
class HemithoraxSearch:
    """The hemithoraces of a scan, and what found them.

    Attributes:
        chest: both hemithoraces on the working grid.
        levels: HU of air and lung in each.
        model: what found them, in words.
    """

    chest: Hemithoraces
    levels: dict[Side, AirLevels]
    model: str


def search(
    scan: Scan,
    body: Mask,
    *,
    entry: LungModelEntry,
    model: LungModel,
    automatic: bool,
    on_collapse: Callable[[], None],
) -> HemithoraxSearch:
    """Find both hemithoraces.

    The automatic choice takes the network in smooth images, and asks it for a side whose lung has collapsed and lost
    its air.

    Args:
        scan: the working image.
        body: [D, H, W] the body on the working grid.
        entry: the chosen lung model.
        model: the same, loaded.
        automatic: whether the choice may still fall on the network.
        on_collapse: called before the network is asked for a collapsed side.

    Raises:
        InputError: no lungs in the CT.
        MissingPartError: the network is needed, and its weights are not installed.
    """
    if automatic and scan.smooth:
        entry = resolve(NETWORK)
        model = entry.load()
    chest = model(scan.grid.volume, body=body, airways=scan.airways)
    levels = levels_by_side(scan, chest.sides, SIDE_NAMES)
    if not automatic or entry.name == NETWORK:
        return HemithoraxSearch(chest, levels, entry.name)
    collapsed = collapsed_sides(scan.hu, chest.sides, levels)
    if not collapsed:
        return HemithoraxSearch(chest, levels, entry.name)
    on_collapse()
    dense = shipped_network().only(collapsed, scan.grid.volume, body=body, airways=scan.airways)
    chest = with_sides(chest, dense, collapsed)
    levels |= levels_by_side(scan, chest.sides, collapsed)
    names = " and the ".join(SIDE_NAMES[side] for side in collapsed)
    return HemithoraxSearch(chest, levels, f"{entry.name}, {NETWORK} for the {names} lung")
