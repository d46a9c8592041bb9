"""Indices that are defined on a frontal film, taken from the CT's labels projected from front to back.

Parallel projection, true millimetres, no magnification; the patient lies (most CTs) where the film's patient stands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from xrecon.quantify.canonical import Hemithorax, Mask

_THICK_MM = 4.0
"""A ray belongs to a silhouette if it crosses this much of the organ (and 2 voxels): stray voxels draw no edge."""
_BAND_MM = 5.0
"""Widths at a level are medians over the rows within this distance of it."""
_APEX_MM2 = 25.0
"""The apex is the first slice that holds at least this much of the organ (and 2 voxels)."""

COLLINS_FORMULA = "4.2 + 4.7 x (A + B + C), A, B, C in cm"
LIGHT_FORMULA = "100 x (1 - lung_mm^3 / hemithorax_mm^3)"


@dataclass(frozen=True)
class Collins:
    """Collins et al., AJR 1995;165:1127-1130: size of a pneumothorax from three interpleural distances.

    Attributes:
        a_cm: apex; vertical distance between the tops of cavity and lung, cm.
        b_cm: lateral distance at the middle of the lung's upper half, cm.
        c_cm: lateral distance at the middle of the lung's lower half, cm.
        percent: 4.2 + 4.7 (A + B + C); may exceed 100.
        level_b_z_mm: height of B, LPS z, mm.
        level_c_z_mm: height of C.
    """

    a_cm: float
    b_cm: float
    c_cm: float
    percent: float
    level_b_z_mm: float
    level_c_z_mm: float


@dataclass(frozen=True)
class Light:
    """Light index: 100 (1 - L^3 / H^3), Light RW, Pleural Diseases.

    Attributes:
        lung_mm: hemithorax_mm less the lateral rim, mm: on a film, air between lung and mediastinum shows no edge.
        hemithorax_mm: transverse diameter of the cavity's silhouette at the hilum level, mm.
        percent: 0..100.
    """

    lung_mm: float
    hemithorax_mm: float
    percent: float


@dataclass(frozen=True, eq=False)
class Silhouettes:
    """Lung and cavity of one side projected along H.

    Attributes:
        lung: [D, W] bool.
        cavity: [D, W] bool; contains the lung.
        spacing_mm: pitch (D, W), mm.
        lateral_is_low: the chest wall lies at small W (the patient's right side).
    """

    lung: Mask
    cavity: Mask
    spacing_mm: tuple[float, float]
    lateral_is_low: bool

    def rows(self, which: Mask) -> tuple[int, int] | None:
        """First and last row (inclusive) that a silhouette reaches."""
        used = np.flatnonzero(which.any(axis=1))
        return (int(used[0]), int(used[-1])) if used.size else None

    def rim_mm(self, level: float) -> float | None:
        """Lateral distance between the edges of cavity and lung at row `level`, mm; None where there is no lung."""
        cavity, lung = self._edges(level)
        gap = (lung[:, 0] - cavity[:, 0]) if self.lateral_is_low else (cavity[:, 1] - lung[:, 1])
        return _median_mm(gap, self.spacing_mm[1])

    def width_mm(self, level: float) -> float | None:
        """Transverse diameter of the cavity at row `level`, mm; None where it does not reach."""
        cavity, _ = self._edges(level)
        return _median_mm(cavity[:, 1] - cavity[:, 0], self.spacing_mm[1])

    def _edges(self, level: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Edges [rows, 2] (low, high W) of cavity and lung in the rows near a level; NaN in rows without them."""
        reach = max(0.5, _BAND_MM / self.spacing_mm[0])
        rows = [r for r in range(self.lung.shape[0]) if abs(r - level) <= reach]
        return _extent(self.cavity[rows]), _extent(self.lung[rows])


def silhouettes(chest: Hemithorax) -> Silhouettes:
    """Project one side from front to back."""
    d, h, w = chest.spacing_mm
    least = max(2, int(np.ceil(_THICK_MM / h)))
    lung = np.count_nonzero(chest.lung, axis=1) >= least
    cavity = (np.count_nonzero(chest.cavity, axis=1) >= least) | lung
    return Silhouettes(cast(Mask, lung), cast(Mask, cavity), (d, w), chest.side == "right")


def apex_row(mask: Mask, spacing_mm: tuple[float, float, float]) -> int | None:
    """First slice of a mask [D, H, W] that holds at least 25 mm2 of it; None for an empty mask."""
    least = max(2.0, _APEX_MM2 / (spacing_mm[1] * spacing_mm[2]))
    areas = np.count_nonzero(mask, axis=(1, 2))
    used = np.flatnonzero(areas >= min(least, max(1, int(areas.max()))))
    return int(used[0]) if areas.any() else None


def collins(shadow: Silhouettes, apex_to_cupola_mm: float, *, height: Callable[[float], float]) -> Collins | None:
    """The three distances and the formula; None where the lung casts no silhouette. `height` of a row is its z, mm."""
    rows = shadow.rows(shadow.lung)
    if rows is None:
        return None
    long = rows[1] - rows[0]
    upper, lower = rows[0] + 0.25 * long, rows[0] + 0.75 * long
    b, c = shadow.rim_mm(upper), shadow.rim_mm(lower)
    if b is None or c is None:
        return None
    a_cm, b_cm, c_cm = (value / 10.0 for value in (apex_to_cupola_mm, b, c))
    return Collins(a_cm, b_cm, c_cm, 4.2 + 4.7 * (a_cm + b_cm + c_cm), height(upper), height(lower))


def light(shadow: Silhouettes, level: float) -> Light | None:
    """Light index at a row; None where the hemithorax casts no silhouette there. A lung that does not reach it is 0."""
    hemithorax, rim = shadow.width_mm(level), shadow.rim_mm(level)
    if not hemithorax:
        return None
    lung = 0.0 if rim is None else max(0.0, hemithorax - rim)
    return Light(lung, hemithorax, 100.0 * (1.0 - (lung / hemithorax) ** 3))


def _extent(mask: Mask) -> NDArray[np.float64]:
    """Low and high edge (voxel borders) of each row [rows, 2]; NaN for an empty row."""
    width = mask.shape[1]
    low = np.argmax(mask, axis=1).astype(np.float64)
    high = width - np.argmax(mask[:, ::-1], axis=1).astype(np.float64)
    edges = np.stack([low, high], axis=1)
    edges[~mask.any(axis=1)] = np.nan
    return edges


def _median_mm(values: NDArray[np.float64], pitch_mm: float) -> float | None:
    finite = values[np.isfinite(values)]
    return float(max(0.0, float(np.median(finite))) * pitch_mm) if finite.size else None
