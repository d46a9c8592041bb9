"""What `segment` says beside the labels: findings as JSON values, and notes for people."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from xrecon.ptxseg import plausibility
from xrecon.ptxseg.candidates.side_air import SideAir
from xrecon.ptxseg.hemithoraces.collapse import AIRLESS_MASS_SHARE, tissue_mass
from xrecon.ptxseg.hemithoraces.lungs import EDGE_HU, Hemithoraces
from xrecon.ptxseg.hemithoraces.sides import SIDE_NAMES
from xrecon.ptxseg.scan import NOISY_HU, Scan
from xrecon.ptxseg.working_labels import AIR_CLASS
from xrecon.segmentation import ScanFlags, SegmentationDetails, Side
from xrecon.volume import RESEARCH_NOTICE, Volume

DETECTION_LIMIT_ML = 45.0
"""Smallest planted pocket that was always found where voxels are 1.5 to 2.2 mm long."""
FAR_APART_LIMIT_ML = 200.0
"""The same where slices had to be interpolated."""
_MUCH_AIR_SHARE = 0.4
"""Share of a side that is free air, from which its lung is compared with the other."""
_AERATED_SHARE = 0.5
"""Share of a lung that is darker than tissue, below which it counts as missing."""


def describe(
    model: str, scan: Scan, chest: Hemithoraces, *, air_by_side: Mapping[Side, SideAir], classes: NDArray[np.uint8]
) -> SegmentationDetails:
    """Levels, flags and components of the result.

    Args:
        model: what found the hemithoraces.
        scan: the working image.
        chest: its hemithoraces.
        air_by_side: the free air and all candidates in each.
        classes: [D, H, W] working labels: lungs 1 and 2, air 3 and 4.
    """
    flags: ScanFlags = {
        "field_of_view_cut": plausibility.cut_sides(chest.sides),
        "one_lung_missing": chest.missing or _without_air(scan.hu, classes),
        "airless_lung": airless_sides(scan.hu, classes),
        "thick_slices": plausibility.is_thick(scan.grid.source.spacing_mm),
        "smooth_image": scan.smooth,
        "very_noisy": scan.noise_hu > NOISY_HU,
        "airway_found": scan.airways.measured,
    }
    return {
        "notice": RESEARCH_NOTICE,
        "lung_model": model,
        "air_hu": round(scan.airways.air_hu, 1),
        "noise_hu": round(scan.noise_hu, 1),
        "lung_hu": {SIDE_NAMES[side]: round(result.levels.lung_hu, 1) for side, result in air_by_side.items()},
        "edge_width_mm": round(scan.edge_mm, 2),
        "working_spacing_mm": [round(s, 3) for s in scan.grid.spacing_mm],
        "detection_limit_ml": detection_limit_ml(flags, far_apart=max(r.split for r in scan.grid.ratios) > 1),
        "flags": flags,
        "components": [component for result in air_by_side.values() for component in result.components],
    }


def _without_air(hu: NDArray[np.float32], classes: NDArray[np.uint8]) -> str | None:
    """A side without free air, of whose lung less than half is darker than tissue, though a model may have found it."""
    for side, name in SIDE_NAMES.items():
        lung = classes == side
        airless = lung.any() and float((hu[lung] < EDGE_HU).mean()) < _AERATED_SHARE
        if airless and not (classes == side + AIR_CLASS).any():
            return name
    return None


def detection_limit_ml(flags: ScanFlags, *, far_apart: bool) -> float | None:
    """The measured limit; None for scans of a kind on which it was not measured.

    Args:
        flags: as in the findings.
        far_apart: slices had to be interpolated.
    """
    unlike = flags["thick_slices"] or flags["smooth_image"] or flags["very_noisy"]
    if unlike:
        return None
    return FAR_APART_LIMIT_ML if far_apart else DETECTION_LIMIT_ML


def airless_sides(hu: NDArray[np.float32], classes: NDArray[np.uint8]) -> list[str]:
    """Sides whose lung weighs less than half of the other although much air is around it.

    A collapsed lung keeps its tissue. What is missing has no air left and cannot be told from its neighbours by HU.
    """
    airless = []
    for side, name in SIDE_NAMES.items():
        air, lung = (int(np.count_nonzero(classes == label)) for label in (side + AIR_CLASS, side))
        if air <= _MUCH_AIR_SHARE * (air + lung):
            continue
        other = Side.LEFT if side is Side.RIGHT else Side.RIGHT
        if tissue_mass(hu[classes == side]) < AIRLESS_MASS_SHARE * tissue_mass(hu[classes == other]):
            airless.append(name)
    return airless


def notes_for(ct: Volume, findings: SegmentationDetails) -> tuple[str, ...]:
    """Warnings and flags in words, after the research notice and the notes of the CT."""
    flags = findings["flags"]
    notes = [RESEARCH_NOTICE, *ct.notes, *findings.get("warnings", ())]
    if ct.source_grid is not None and ct.source_grid.remark:
        notes.append(ct.source_grid.remark)
    if flags["field_of_view_cut"]:
        where = ", ".join(flags["field_of_view_cut"])
        notes.append(f"the lungs run out of the picture ({where}): volumes are too small and ratios may be wrong")
    if flags["one_lung_missing"]:
        notes.append(f"no aerated {flags['one_lung_missing']} lung was found: its volume and ratios mean nothing")
    for side in flags["airless_lung"]:
        notes.append(f"part of the collapsed {side} lung is airless and not labelled: its occupancy is overestimated")
    if flags["thick_slices"]:
        notes.append("voxels longer than 4.5 mm: thin pockets of air may be missed")
    if flags["smooth_image"]:
        notes.append(
            f"the CT is smooth (edges {findings['edge_width_mm']:.0f} mm wide): the pleural line cannot be seen, the "
            "level of air is assumed, and small pockets are lost"
        )
    if flags["very_noisy"]:
        notes.append(f"very noisy ({findings['noise_hu']:.0f} HU): smoothed before the search, thin pockets are lost")
    if not flags["airway_found"]:
        notes.append(f"no windpipe found: the level of air is assumed ({findings['air_hu']:.0f} HU)")
    return tuple(notes)
