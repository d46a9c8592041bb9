"""Every measure of the free air on one side, and of the chest as a whole, from labels and affine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xrecon.quantify.canonical import SIDES, ChestFrame, Hemithorax, SideName, chest_frame
from xrecon.quantify.depth import Depth, depth_map
from xrecon.quantify.mediastinum import MediastinalShift, mediastinal_shift
from xrecon.quantify.silhouette import Collins, Light, apex_row, collins, light, silhouettes
from xrecon.segmentation import Segmentation

_HILUM_BAND_MM = 10.0
_MOSTLY = 0.6
"""A half (front or back, middle or side) is named in words if it holds at least this share of the air."""
_LARGEST_ZONE = 0.5


@dataclass(frozen=True)
class Location:
    """Where the air of one side lies: shares of its volume, 0..1.

    Front and back, medial and lateral are the halves of the hemithorax (lung and air) by volume; the zones are thirds
    of its height.

    Attributes:
        anterior: share in the front half; posterior is the rest.
        posterior: 1 - anterior.
        lateral: share in the half towards the chest wall; medial is the rest.
        medial: 1 - lateral.
        apical: share in the upper third of the height.
        mid: share in the middle third.
        basal: share in the lower third.
        words: what stands out, such as "anterior, basal".
    """

    anterior: float
    posterior: float
    lateral: float
    medial: float
    apical: float
    mid: float
    basal: float
    words: str


@dataclass(frozen=True)
class SideMeasures:
    """Measures of the free air in one hemithorax; None where one cannot be taken, with the reason in `notes`.

    Attributes:
        side: "right" or "left", the patient's.
        radial_depth: largest distance square to the chest wall, in three dimensions.
        radial_depth_at_hilum: the same within 10 mm of the hilum level.
        apex_to_cupola_mm: vertical distance from the top of the cavity to the top of the lung, mm.
        rim_at_hilum_mm: lateral distance between lung edge and chest wall at the hilum level in the frontal projection.
        collins: Collins index.
        light: Light index.
        hilum_level_z_mm: height of the hilum level, LPS z, mm: the middle between top and bottom of the hemithorax.
        location: shares by region.
        notes: why a measure is missing or doubtful.
    """

    side: SideName
    radial_depth: Depth | None
    radial_depth_at_hilum: Depth | None
    apex_to_cupola_mm: float | None
    rim_at_hilum_mm: float | None
    collins: Collins | None
    light: Light | None
    hilum_level_z_mm: float
    location: Location
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChestMeasures:
    """Measures of a whole chest.

    Attributes:
        right: of the patient's right side; None where it holds no free air.
        left: of the left side; None where it holds no free air.
        mediastinum: None where a side is missing.
        cut: ends of the scan that the lungs or the air touch, such as "head".
    """

    right: SideMeasures | None
    left: SideMeasures | None
    mediastinum: MediastinalShift | None
    cut: tuple[str, ...]

    @property
    def sides(self) -> tuple[SideMeasures, ...]:
        """The sides that hold free air, right first."""
        return tuple(side for side in (self.right, self.left) if side is not None)


def measure(segmentation: Segmentation) -> ChestMeasures:
    """Measure the free air of a segmentation, in any orientation; a chest without air or labels has no sides."""
    frame = chest_frame(segmentation)
    if frame is None:
        return ChestMeasures(None, None, None, ())
    right, left = (_measure_side(frame, side) for side in SIDES)
    return ChestMeasures(right, left, mediastinal_shift(frame), frame.cut)


def _measure_side(frame: ChestFrame, side: SideName) -> SideMeasures | None:
    chest = frame.hemithorax(side)
    if chest is None or not chest.air.any():
        return None
    spacing = chest.spacing_mm
    top, bottom = apex_row(chest.cavity, spacing), apex_row(chest.cavity[::-1], spacing)
    assert top is not None and bottom is not None  # it holds air
    level = (top + chest.cavity.shape[0] - 1 - bottom) / 2
    lung_top = apex_row(chest.lung, spacing)
    apex = None if lung_top is None else max(0, lung_top - top) * spacing[0]
    depths = depth_map(chest)
    shadow = silhouettes(chest)

    def height(row: float) -> float:
        return float(chest.to_lps(np.array([[row, *(n / 2 for n in chest.cavity.shape[1:])]]))[0, 2])

    return SideMeasures(
        side=side,
        radial_depth=None if depths is None else depths.largest(),
        radial_depth_at_hilum=None
        if depths is None
        else depths.largest(np.abs(depths.inner_index[:, 0] - level) * spacing[0] <= _HILUM_BAND_MM),
        apex_to_cupola_mm=apex,
        rim_at_hilum_mm=shadow.rim_mm(level),
        collins=None if apex is None else collins(shadow, apex, height=height),
        light=light(shadow, level),
        hilum_level_z_mm=height(level),
        location=locate(chest, top=top, bottom=chest.cavity.shape[0] - 1 - bottom),
        notes=_notes(frame, chest),
    )


def locate(chest: Hemithorax, *, top: int, bottom: int) -> Location:
    """Shares of the air by region; `top` and `bottom` are the first and last slice of the hemithorax."""
    cavity, air = chest.cavity, chest.air
    front = _first_half(cavity, air, axis=1)
    low_w = _first_half(cavity, air, axis=2)
    lateral = low_w if chest.side == "right" else 1.0 - low_w
    per_slice = np.count_nonzero(air, axis=(1, 2)).astype(np.float64)
    third = np.clip((np.arange(len(per_slice)) - top + 0.5) * 3 / (bottom - top + 1), 0, 2.999).astype(int)
    apical, mid, basal = (float(per_slice[third == zone].sum() / per_slice.sum()) for zone in range(3))
    words = [name for name, share in _halves(front, lateral) if share >= _MOSTLY]
    zones = {"apical": apical, "mid": mid, "basal": basal}
    words += [name for name, share in zones.items() if share >= _LARGEST_ZONE]
    return Location(
        front, 1.0 - front, lateral, 1.0 - lateral, apical, mid, basal, ", ".join(words) or "no region stands out"
    )


def _halves(front: float, lateral: float) -> tuple[tuple[str, float], ...]:
    return ("anterior", front), ("posterior", 1.0 - front), ("lateral", lateral), ("medial", 1.0 - lateral)


def _first_half(cavity: np.ndarray, air: np.ndarray, *, axis: int) -> float:
    """Share of the air before the plane across `axis` that halves the cavity's volume; the plane may cut a voxel."""
    others = tuple(a for a in range(3) if a != axis)
    room = np.count_nonzero(cavity, axis=others).cumsum(dtype=np.float64)
    gas = np.concatenate([[0.0], np.count_nonzero(air, axis=others).cumsum(dtype=np.float64)])
    plane = np.interp(room[-1] / 2, np.concatenate([[0.0], room]), np.arange(len(gas)))
    return float(np.interp(plane, np.arange(len(gas)), gas) / gas[-1])


def _notes(frame: ChestFrame, chest: Hemithorax) -> tuple[str, ...]:
    notes = []
    if not chest.lung.any():
        notes.append("no lung was found on this side: distances to the lung are missing, depths end at the mediastinum")
    if "head" in frame.cut:
        notes.append("the scan ends within the chest at the head: apex distance and Collins index may be too small")
    if "feet" in frame.cut:
        notes.append("the scan ends within the chest at the feet: the hilum level and basal measures are doubtful")
    if set(frame.cut) & {"front", "back", "right", "left"}:
        notes.append("the field of view cuts the chest: depths and volumes are lower bounds")
    return tuple(notes)
