"""Padding that looks like tissue: a constant round the field of view, at the border of its slice, such as 0 HU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, label

_CORNER = 3
_ABOVE_HU = -900.0
"""Padding darker than this is air already."""
_LEAST_AREA = 0.005
_FLAT = 0.3
"""Share of equal neighbours in tissue, above which an image has no noise and a constant region may be tissue."""
_LEAST_PAIRS = 200
_LEAST_JUMP = 0.1
_AIR_HU = -700.0
_UNEVEN = 0.05


@dataclass
class _Evidence:
    """What was counted over all slices with a constant region at a corner."""

    edge: int = 0
    jump: int = 0
    lines: int = 0
    broken: int = 0
    pairs: int = 0
    equal: int = 0

    def is_padding(self, *, highest: bool) -> bool:
        """The image is noisy elsewhere, or the region ends at air round a field of view without notches.

        The highest value of an image may be the end of a window (`highest`): it is judged by its shape alone.
        """
        noisy = self.pairs >= _LEAST_PAIRS and self.equal < _FLAT * self.pairs
        return (noisy and not highest) or (self.jump > _LEAST_JUMP * self.edge and self.broken <= _UNEVEN * self.lines)


def clear_border_fill(hu: NDArray[np.float32], axis: int, outside_hu: float) -> tuple[str, ...]:
    """Set padding round the field of view to `outside_hu`, in place, and say so.

    Padding is one exact value above air that fills corners of slices, is connected to their border, and is not the
    lowest value (a clipped window). It is cleared only where the rest of the image has noise, which
    tissue would have too, or where it ends at air all round a field of view without notches.

    Args:
        hu: three axes, HU.
        axis: across the slices.
        outside_hu: what is outside.
    """
    planes = np.moveaxis(hu, axis, 0)
    if min(planes.shape[1:]) < 4 * _CORNER:
        return ()
    fills = _corner_values(planes)
    if not fills:
        return ()
    low, high = float(hu[hu >= -1100].min(initial=np.inf)), float(hu.max())
    evidence = _Evidence()
    regions: dict[int, NDArray[np.bool_]] = {}
    for k, fill in fills.items():
        region = at_border(planes[k] == np.float32(fill))
        if fill <= low or region.mean() < _LEAST_AREA:
            continue
        regions[k] = region
        if not region.all():
            _count(planes[k], region, evidence)
    if not regions or not evidence.is_padding(highest=max(fills[k] for k in regions) >= high):
        return ()
    values = sorted({f"{fills[k]:g}" for k in regions})[:3]
    for k, region in regions.items():
        planes[k][region] = outside_hu
    total = sum(int(region.sum()) for region in regions.values())
    what = f"{total} voxels of exactly {' or '.join(values)} HU, connected to the border of their slices,"
    return (f"{what} are padding round the field of view: set to {outside_hu:g} HU",)


def _corner_values(planes: NDArray[np.float32]) -> dict[int, float]:
    """Slice -> value above air that fills one of its corners."""
    first, last = slice(None, _CORNER), slice(-_CORNER, None)
    fills: dict[int, float] = {}
    for rows in (first, last):
        for columns in (first, last):
            corner = planes[:, rows, columns].reshape(len(planes), -1)
            even = (np.ptp(corner, axis=1) == 0) & (corner[:, 0] > _ABOVE_HU)
            fills.update({int(k): float(corner[k, 0]) for k in np.flatnonzero(even)})
    return fills


def at_border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The parts of a mask [rows, cols] that reach its border, without diagonal links."""
    labels, _ = label(mask)
    touching = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return np.asarray(np.isin(labels, touching[touching > 0]))


def _count(plane: NDArray[np.float32], region: NDArray[np.bool_], evidence: _Evidence) -> None:
    ring = binary_dilation(region) & ~region
    evidence.edge += int(ring.sum())
    evidence.jump += int(np.count_nonzero(plane[ring] < _AIR_HU))
    view = ~region
    for lines in (view, view.T):
        starts = lines[:, 0].astype(int) + np.count_nonzero(lines[:, 1:] & ~lines[:, :-1], axis=1)
        evidence.lines += int(np.count_nonzero(starts))
        evidence.broken += int(np.count_nonzero(starts > 1))
    tissue = view & (plane > -500)
    both = tissue[:, 1:] & tissue[:, :-1]
    evidence.pairs += int(both.sum())
    evidence.equal += int(np.count_nonzero(both & (plane[:, 1:] == plane[:, :-1])))
