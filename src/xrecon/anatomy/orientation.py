"""Does the anatomy of a chest CT lie as its file says? Landmarks that show flipped voxels under an unchanged header.

Everything is measured on blocks of about 4 mm, in a fraction of a second, and needs no segmentation. Each axis has
landmarks of its own:

- front and back: the spine is the column of bone that runs through the whole height of the lungs;
- head and feet: the diaphragm rises into the bases of the lungs, and the apices are round;
- which axis is which: `anatomy.arrangement`;
- right and left: the liver below the right lung, the heart and the descending aorta left of the spine. No single one
  decides: a collapsed lung or air under tension moves the heart, but neither liver nor aorta to the other side.

Anatomy varies (situs inversus, dextrocardia), so a warning proves nothing; it says what to look at.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.arrangement import STATED, Doubt, doubted_order, reordered
from xrecon.anatomy.body import block_means
from xrecon.anatomy.coarse_chest import BLOCK_MM, CoarseChest
from xrecon.anatomy.morphology import Mask, depth_mm
from xrecon.volume import Volume

_INNER_MM, _RIM_MM = 30.0, 15.0
"""Distance from the outline of the lungs, seen along the table, of their middle and of their rim."""
_SPINE_BAND = 0.3
"""Share of the lungs' width, in the middle, that holds the spine."""
_BONE_QUARTILE = 25.0
"""Percentile of HU along the table: high only where bone runs through most of the lungs' height."""
_LEAST_BONE_HU = 50.0
_LEAST_SIDE = 0.1
"""A side with less of both lungs' volume shows no landmark: a lung without air is not seen here."""
_BELOW_MM = 40.0
_BESIDE_MM = 40.0
"""The domes of the diaphragm lie farther than this from the middle of the spine."""
_AORTA_MM = 45.0
_FAT_HU = -50.0
_DENSE_HU = 0.0
"""Liver and spleen are denser, the mean of stomach, gas and fat is not."""
_LEAST_SAMPLES = 40

_FRONT_BACK_LIMIT = -0.1
_HEAD_FEET_LIMIT_MM = -10.0
_LEFT_LIMIT = -0.4
"""Chosen on the 16 train CTs, where they are 0.19 to 0.39, 32 to 83 mm and 0.53 to 2.97; a flip changes the sign."""
_LIVER_SCALE, _HEART_SCALE_MM, _AORTA_SCALE_MM = 0.2, 24.0, 16.0
"""What the landmarks are divided by: about their usual values, the heart and the aorta counted by half."""
_ENDS = (("head", "feet"), ("front", "back"), ("right", "left"))
_LARGEST_LIVER, _LARGEST_OTHER = 1.5, 0.75
"""No landmark counts more than this, however far it lies."""


@dataclass(frozen=True)
class Landmarks:
    """Where landmarks lie by the file's axes; None where one cannot be seen.

    Attributes:
        spine_behind: how far behind the middle of the lungs the spine lies, as a share of the lungs' depth.
        domes_below_mm: how much higher the middle of the lungs' lower surface lies than its rim, less the same of the
            upper surface turned over.
        heart_left_mm: how far left of the spine the tissue between the lungs lies at the level of the heart.
        aorta_left_mm: the same of the tissue just in front of the spine.
        liver_right: share of dense tissue below the right lung, less that below the left.
        doubt: another order of the axes that fits the chest better; the other landmarks are then taken in that order.
    """

    spine_behind: float | None = None
    domes_below_mm: float | None = None
    heart_left_mm: float | None = None
    aorta_left_mm: float | None = None
    liver_right: float | None = None
    doubt: Doubt | None = None

    @property
    def reversed_axes(self) -> tuple[bool, bool, bool]:
        """Whether the patient's axis from head to feet, front to back and right to left runs the other way round."""
        score = self.left_score
        return (
            self.domes_below_mm is not None and self.domes_below_mm < _HEAD_FEET_LIMIT_MM,
            self.spine_behind is not None and self.spine_behind < _FRONT_BACK_LIMIT,
            score is not None and score < _LEFT_LIMIT,
        )

    @property
    def left_score(self) -> float | None:
        """Sum of what heart, aorta and liver say: positive if right and left are right; None without the heart."""
        if self.heart_left_mm is None:
            return None
        score = _limited(self.heart_left_mm / _HEART_SCALE_MM, _LARGEST_OTHER)
        if self.aorta_left_mm is not None:
            score += _limited(self.aorta_left_mm / _AORTA_SCALE_MM, _LARGEST_OTHER)
        if self.liver_right is not None:
            score += _limited(self.liver_right / _LIVER_SCALE, _LARGEST_LIVER)
        return score


def orientation_warnings(ct: Volume) -> tuple[str, ...]:
    """Sentences on axes along which the anatomy contradicts the file; empty for an ordinary chest.

    Args:
        ct: HU, any orientation.
    """
    places = landmarks(ct)
    upside_down, back_to_front, mirrored = places.reversed_axes
    if places.doubt is not None:
        return (_exchange_warning(places.doubt, places.reversed_axes),)
    sentences = []
    if back_to_front:
        sentences.append("the spine seems to lie in front: front and back may be swapped in the file")
    if upside_down:
        sentences.append("the diaphragm seems to lie above: head and feet may be swapped in the file")
    if mirrored:
        sentences.append(_mirror_warning(places))
    return tuple(sentences)


def with_orientation_notes(ct: Volume, place: str | os.PathLike[str]) -> Volume:
    """The CT with the sentences of `orientation_warnings` among its notes; each is also issued as a UserWarning.

    Args:
        ct: HU, any orientation.
        place: where it comes from, for the warning.
    """
    sentences = orientation_warnings(ct)
    for sentence in sentences:
        warnings.warn(f"{os.fspath(place)}: {sentence}", stacklevel=2)
    return replace(ct, notes=(*ct.notes, *sentences)) if sentences else ct


def _exchange_warning(doubt: Doubt, reversed_axes: tuple[bool, bool, bool]) -> str:
    shown = []
    for stated in STATED:
        true = doubt.order.index(stated)
        if true != stated:
            ends = _ENDS[true][::-1] if reversed_axes[true] else _ENDS[true]
            shown.append(
                f"from {_ENDS[stated][0]} to {_ENDS[stated][1]} it shows the patient from {ends[0]} to {ends[1]}"
            )
    listed = "; where it says ".join(shown)
    return (
        f"the axes of the CT look exchanged under an unchanged header: where the file says {listed}; every side, angle "
        "and shift that follows is wrong: convert the original again, or undo the exchange (a transpose or rotation of "
        "the array) in the script that wrote the file"
    )


def _mirror_warning(places: Landmarks) -> str:
    signs = (
        (places.liver_right is not None and places.liver_right < 0, "the liver lies on the left"),
        (
            (places.heart_left_mm or 0.0) < 0,
            f"the heart lies {-(places.heart_left_mm or 0.0):.0f} mm right of the spine",
        ),
        ((places.aorta_left_mm or 0.0) < 0, "the aorta lies right of the spine"),
    )
    seen = " and ".join(words for yes, words in signs if yes)
    return (
        f"the anatomy looks mirrored ({seen}): right and left may be swapped in the file, or the patient has "
        "dextrocardia or situs inversus; if the file is wrong, so is every side that follows"
    )


def _limited(value: float, largest: float) -> float:
    return float(np.clip(value, -largest, largest))


def landmarks(ct: Volume) -> Landmarks:
    """Measure the landmarks of a chest CT; without lungs in it there are none.

    An axis that the file states backwards is turned over before the next one is judged.

    Args:
        ct: HU, any orientation.
    """
    ct = ct.canonical()
    blocks = [max(1, min(round(BLOCK_MM / s), n)) for s, n in zip(ct.spacing_mm, ct.shape, strict=True)]
    steps = (blocks[0], blocks[1], blocks[2])
    hu = block_means(ct.hu, blocks)
    doubt = doubted_order(hu, ct.spacing_mm, steps)
    chest = _Chest.find(*reordered(hu, doubt.order if doubt else STATED, ct.spacing_mm, steps))
    if chest is None:
        return Landmarks()
    domes = chest.domes_below_mm()
    if domes is not None and domes < _HEAD_FEET_LIMIT_MM:
        chest = chest.turned(0)
    spine = chest.spine()
    if spine is None:
        return Landmarks(domes_below_mm=domes, doubt=doubt)
    behind = spine.behind
    if behind < _FRONT_BACK_LIMIT:
        chest = chest.turned(1)
        spine = chest.spine() or spine
    return Landmarks(
        spine_behind=behind,
        domes_below_mm=domes,
        heart_left_mm=chest.heart_left_mm(spine),
        aorta_left_mm=chest.aorta_left_mm(spine),
        liver_right=chest.liver_right(spine),
        doubt=doubt,
    )


@dataclass(frozen=True)
class _Spine:
    row: float
    column: float
    behind: float  # share of the lungs' depth behind their middle


class _Chest(CoarseChest):
    """A coarse chest that measures its landmarks."""

    def domes_below_mm(self) -> float | None:
        shadow = self.lungs.any(axis=0)
        depth = depth_mm(np.pad(shadow, 1)[None], self.spacing)[0, 1:-1, 1:-1]
        inner, rim = depth > _INNER_MM, shadow & (depth < _RIM_MM)
        if inner.sum() < _LEAST_SAMPLES or rim.sum() < _LEAST_SAMPLES:
            return None
        upper = np.argmax(self.lungs, axis=0) - self.low[0]
        lower = self.high[0] - self.lungs.shape[0] + np.argmax(self.lungs[::-1], axis=0)
        below = float(lower[inner].mean() - lower[rim].mean())
        above = float(upper[inner].mean() - upper[rim].mean())
        return (below - above) * self.spacing[0]

    def spine(self) -> _Spine | None:
        """The column of bone in the middle of the chest; None where there is none, or no lung on one of its sides."""
        beyond = self.size(1) // 4
        rows = slice(max(0, self.low[1] - beyond), min(self.hu.shape[1], self.high[1] + beyond))
        columns = self.rows(0.5 - _SPINE_BAND / 2, 0.5 + _SPINE_BAND / 2, axis=2)
        low = np.percentile(self.hu[self.low[0] : self.high[0], rows, columns], _BONE_QUARTILE, axis=0)
        if min(low.shape) < 3:
            return None
        bone = sum(low[r : r + low.shape[0] - 2, c : c + low.shape[1] - 2] for r in range(3) for c in range(3))
        row, column = np.unravel_index(int(np.argmax(bone)), np.shape(bone))
        if float(np.max(bone)) < 9 * _LEAST_BONE_HU:
            return None
        weights = np.clip(low[row : row + 3] - low.mean(), 0, None).sum(axis=0)
        middle = float(np.average(np.arange(len(weights)), weights=weights)) if weights.sum() > 0 else float(column + 1)
        place = float(row + 1 + rows.start)
        across = np.arange(self.lungs.shape[2]) - middle - columns.start
        volumes = [float(self.lungs[..., side].sum()) for side in (across < 0, across > 0)]
        if min(volumes) < _LEAST_SIDE * sum(volumes):
            return None
        return _Spine(place, middle + columns.start, (place - self.low[1]) / self.size(1) - 0.5)

    def _left_mm(self, spine: _Spine) -> NDArray[np.float64]:
        return np.asarray((np.arange(self.hu.shape[2]) - spine.column) * self.spacing[2], dtype=np.float64)

    def heart_left_mm(self, spine: _Spine) -> float | None:
        """Of the tissue between the lungs in the front 60 %, between 50 % and 80 % of their height."""
        lungs = self.lungs[self.rows(0.5, 0.8), self.rows(0.0, 0.6, axis=1)]
        between = ~lungs & (np.cumsum(lungs, axis=2) > 0) & (np.cumsum(lungs[..., ::-1], axis=2)[..., ::-1] > 0)
        return _mean_place(between, self._left_mm(spine))

    def aorta_left_mm(self, spine: _Spine) -> float | None:
        """Of the tissue up to 45 mm in front of the spine's middle, between 40 % and 75 % of the lungs' height."""
        rows = slice(max(0, int(spine.row - _AORTA_MM / self.spacing[1])), int(spine.row))
        box = (self.rows(0.4, 0.75), rows)
        across = self._left_mm(spine)
        tissue = (self.hu[box] > _FAT_HU) & ~self.lungs[box] & (np.abs(across) < _AORTA_MM)
        return _mean_place(tissue, across)

    def liver_right(self, spine: _Spine) -> float | None:
        """Dense share of the 40 mm below each lung, right less left."""
        has = self.lungs.any(axis=0)
        last = self.lungs.shape[0] - 1 - np.argmax(self.lungs[::-1], axis=0)
        level = np.arange(self.lungs.shape[0])[:, None, None]
        below = (level > last) & (level <= last + round(_BELOW_MM / self.spacing[0])) & has
        across = self._left_mm(spine)
        shares = []
        for side in (across < -_BESIDE_MM, across > _BESIDE_MM):
            values = self.hu[below & side]
            if len(values) < _LEAST_SAMPLES:
                return None
            shares.append(float((values > _DENSE_HU).mean()))
        return shares[0] - shares[1]


def _mean_place(mask: Mask, across: NDArray[np.float64]) -> float | None:
    counts = mask.sum(axis=(0, 1))
    return float(counts @ across / counts.sum()) if counts.sum() >= _LEAST_SAMPLES else None
