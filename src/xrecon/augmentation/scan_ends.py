"""The body beyond the first and last slice of a scan: a radiograph shows neck and abdomen that a chest CT may lack.

The end slices are repeated; towards the head the shoulders narrow to a neck, towards the feet the gas of the bowel is
filled, because a column of it would look like nothing in a patient. A scan that cuts the lungs ends where it ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xrecon.anatomy.healthy_lungs import ChestAir
from xrecon.anatomy.morphology import Floats, Mask, bounding_box, components
from xrecon.augmentation.variation_map import smoothstep
from xrecon.volume import Volume

_NECK_MM = (120.0, 125.0)
"""Extent of a neck along H and W."""
_SHOULDER_MM = 60.0
"""Over so much of the height the shoulders narrow to the neck."""
_GAS_BELOW_HU, _BOWEL_HU = -350.0, 20.0


@dataclass(frozen=True)
class ScanEnds:
    """Where the picture of a source goes on beyond its scan.

    Attributes:
        head: first slice, or None where the body ends with the scan.
        feet: last slice, or None.
        neck: index (h, w) round which the body narrows towards the head, and the factors along H and W, at least 1.
        slice_mm: distance of the slices.
    """

    head: float | None
    feet: float | None
    neck: tuple[float, float, float, float]
    slice_mm: float

    def carry_on(self, index: Floats) -> Mask:
        """Bring indices [3, P, Q, R] that lie beyond the ends back to them, in place; returns those below the feet end.

        Every array of a voxel's origin is changed so that the end slice is drawn there.
        """
        below: Mask = np.zeros(index.shape[1:], dtype=bool) if self.feet is None else index[0] > self.feet
        if self.head is not None:
            self._narrow(index)
        if self.head is not None or self.feet is not None:
            np.clip(index[0], self.head, self.feet, out=index[0])
        return below

    def _narrow(self, index: Floats) -> None:
        assert self.head is not None
        above = index[0] < self.head
        rows = np.flatnonzero(above.any(axis=(1, 2)))
        if not len(rows):
            return
        part = slice(0, int(rows[-1]) + 1)
        beyond = np.maximum(self.head - index[0, part], 0.0) * np.float32(self.slice_mm / _SHOULDER_MM)
        share = smoothstep(beyond)
        for axis, (centre, factor) in enumerate(zip(self.neck[:2], self.neck[2:], strict=True), start=1):
            away = index[axis, part] - np.float32(centre)
            index[axis, part] += away * (share * np.float32(factor - 1.0))


def scan_ends(ct: Volume, chest: ChestAir, *, head: bool, feet: bool) -> ScanEnds:
    """The ends of a source, carried on where asked for and where the scan does not cut the lungs."""
    lungs = chest.right | chest.left
    first = 0.0 if head and not lungs[:2].any() else None
    last = float(lungs.shape[0] - 1) if feet and not lungs[-2:].any() else None
    return ScanEnds(first, last, _neck(ct, chest), float(ct.spacing_mm[0]))


def _neck(ct: Volume, chest: ChestAir) -> tuple[float, float, float, float]:
    """Centre of the middle part of the first slice, and how much wider than a neck it is."""
    box = bounding_box(chest.right | chest.left)
    assert box is not None
    middle = np.array([(part.start + part.stop - 1) / 2 for part in box[1:]])
    labels, sizes = components(chest.body[:1])
    if not len(sizes):
        return float(middle[0]), float(middle[1]), 1.0, 1.0
    places = np.argwhere(labels[0] > 0)
    nearest = places[int(np.argmin(((places - middle) ** 2).sum(axis=1)))]
    part = bounding_box(labels == labels[0][tuple(nearest)])
    assert part is not None
    h, w = part[1], part[2]
    extent = [(p.stop - p.start) * s for p, s in zip((h, w), ct.spacing_mm[1:], strict=True)]
    factors = [max(1.0, e / neck) for e, neck in zip(extent, _NECK_MM, strict=True)]
    return (h.start + h.stop - 1) / 2, (w.start + w.stop - 1) / 2, factors[0], factors[1]


def without_gas(hu: Floats, below: Mask, body: Mask) -> None:
    """Fill the bowel of the carried-on abdomen, in place."""
    hu[below & body & (hu < _GAS_BELOW_HU)] = _BOWEL_HU
