"""What `segment` says beside the labels: findings as JSON values, and notes for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.morphology import Mask
from xrecon.ptxseg import plausibility
from xrecon.ptxseg.airways import Airways
from xrecon.ptxseg.hemithoraces.lungs import EDGE_HU, Hemithoraces
from xrecon.ptxseg.judge import Features, Verdict, as_json
from xrecon.ptxseg.levels import AirLevels
from xrecon.ptxseg.work_grid import WorkingGrid
from xrecon.segmentation import AirComponent, ScanFlags, SegmentationDetails, Side
from xrecon.volume import RESEARCH_NOTICE, Volume

SIDES = {Side.RIGHT: "right", Side.LEFT: "left"}
AIR_CLASS = 2
"""Class of air in the working labels is side + 2; lungs are 1 and 2."""
NOISY_HU = 40.0
"""Noise (one working voxel) from which the image is smoothed before the search."""
DETECTION_LIMIT_ML = 45.0
"""Planted pockets of 45 mL were found in 18 of 18 CTs of 1.5 to 2.2 mm, of 10 to 32 mL in 21 of 28: docs/ptx-seg.md."""
FAR_APART_LIMIT_ML = 200.0
"""The same for slices that are interpolated: at 2.5 mm 12 of 14 pockets of 90 mL were found in train cases, of 200 mL
all 6 (at 5 mm all 14)."""
COMPRESSED_HU = -720.0
"""Healthy lung is thinner: above this median a lung that lies in free air was pressed together."""
_MUCH_AIR = 0.4
_DARK_SHARE = 0.33
"""Free air of a collapsed side without its partial volume; planted collapses of train cases have 0.35 to 0.9."""
_AIRLESS_MASS_SHARE = 0.5
_AERATED_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class Scan:
    """The working image and what was measured on it before the search.

    Attributes:
        grid: smoothed where the scan is very noisy.
        airways: windpipe and the level of air.
        noise_hu: standard deviation in the windpipe before any smoothing, HU.
        edge_mm: width of the lungs' edges, mm.
        smooth: whether that is too wide to see the pleura.
    """

    grid: WorkingGrid
    airways: Airways
    noise_hu: float
    edge_mm: float
    smooth: bool


@dataclass(frozen=True, eq=False)
class SideResult:
    """One hemithorax: the free air in it [D, H, W], its levels and all candidates."""

    air: Mask
    levels: AirLevels
    components: list[AirComponent]


def as_component(side: str, features: Features, verdict: Verdict) -> AirComponent:
    """One candidate for findings.json."""
    return {
        "volume_ml": round(features.volume_ml, 2),
        "side": side,
        "kind": verdict.kind,
        "confidence": verdict.confidence,
        "reason": verdict.reason,
        "measurements": as_json(features),
    }


def describe(
    model: str, scan: Scan, chest: Hemithoraces, *, sides: dict[Side, SideResult], classes: NDArray[np.uint8]
) -> SegmentationDetails:
    """Levels, flags and components of the result. `classes` are the working labels (lungs 1, 2, air 3, 4)."""
    flags: ScanFlags = {
        "field_of_view_cut": plausibility.cut_sides(chest.sides),
        "one_lung_missing": chest.missing or _without_air(np.asarray(scan.grid.volume.hu), classes),
        "airless_lung": airless_sides(np.asarray(scan.grid.volume.hu), classes),
        "thick_slices": plausibility.is_thick(scan.grid.source.spacing_mm),
        "smooth_image": scan.smooth,
        "very_noisy": scan.noise_hu > NOISY_HU,
        "airway_found": scan.airways.found,
    }
    return {
        "notice": RESEARCH_NOTICE,
        "lung_model": model,
        "air_hu": round(scan.airways.air_hu, 1),
        "noise_hu": round(scan.noise_hu, 1),
        "lung_hu": {SIDES[side]: round(result.levels.lung_hu, 1) for side, result in sides.items()},
        "edge_width_mm": round(scan.edge_mm, 2),
        "working_spacing_mm": [round(s, 3) for s in scan.grid.spacing_mm],
        "detection_limit_ml": detection_limit_ml(flags, far_apart=max(r.split for r in scan.grid.ratios) > 1),
        "flags": flags,
        "components": [one for result in sides.values() for one in result.components],
    }


def _without_air(hu: NDArray[np.float32], classes: NDArray[np.uint8]) -> str | None:
    """A side without free air, of whose lung less than half is darker than tissue, though a model may have found it."""
    for side, name in SIDES.items():
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
    found = []
    for side in SIDES:
        air, lung = (int(np.count_nonzero(classes == label)) for label in (side + AIR_CLASS, side))
        if air <= _MUCH_AIR * (air + lung):
            continue
        other = Side.LEFT if side is Side.RIGHT else Side.RIGHT
        mass, usual = (float((hu[classes == one] + 1000.0).sum(dtype=np.float64)) for one in (side, other))
        if mass < _AIRLESS_MASS_SHARE * usual:
            found.append(SIDES[side])
    return found


def collapsed_sides(hu: NDArray[np.float32], sides: NDArray[np.uint8], levels: Mapping[Side, AirLevels]) -> list[Side]:
    """Sides that are dark in good part, whose lung is dense, or too light for half of the other: it is airless in part.

    Args:
        hu: [D, H, W] HU.
        sides: [D, H, W] hemithoraces of aerated lung and air, 1 right and 2 left, before any search for free air.
        levels: of both sides.
    """
    dark: dict[Side, float] = {}
    mass: dict[Side, float] = {}
    for side in SIDES:
        values = hu[sides == side]
        lung = values[values >= levels[side].seed_hu]
        dark[side] = (values.size - lung.size) / max(1, values.size)
        mass[side] = float((lung + 1000.0).sum(dtype=np.float64))
    usual = max(mass.values())
    return [
        side
        for side in SIDES
        if dark[side] > _DARK_SHARE
        and (levels[side].lung_hu >= COMPRESSED_HU or mass[side] < _AIRLESS_MASS_SHARE * usual)
    ]


def notes_for(ct: Volume, findings: SegmentationDetails) -> tuple[str, ...]:
    """The flags in words, after the research notice and the notes of the CT."""
    flags = findings["flags"]
    notes = [RESEARCH_NOTICE, *ct.notes]
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
