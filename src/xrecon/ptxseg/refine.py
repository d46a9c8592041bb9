"""From the working grid back to the input's voxels; where these are finer, the boundary is decided among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.anatomy.morphology import bounding_box
from xrecon.compiled import compiled
from xrecon.jobs import at_once
from xrecon.ptxseg.hemithoraces.lungs import EDGE_HU
from xrecon.ptxseg.levels import EdgeLevels
from xrecon.ptxseg.work_grid import WorkingGrid
from xrecon.ptxseg.working_labels import AIR_CLASS
from xrecon.segmentation import Label
from xrecon.volume import Volume

_THREADS = 2


def onto_input(
    grid: WorkingGrid, classes: NDArray[np.uint8], *, edges: Sequence[EdgeLevels], air_hu: float
) -> NDArray[np.uint8]:
    """Classes of every input voxel.

    Args:
        grid: ties working voxels to input voxels.
        classes: [D, H, W] on the working grid: 0 background, 1 right lung, 2 left lung, 3 air right, 4 air left.
        air_hu: level of free air.
        edges: HU of an input voxel that is half air, on the right and on the left side.

    Returns:
        Classes [D, H, W] of the whole input in canonical orientation.
    """
    out = np.zeros(grid.source.shape, dtype=np.uint8)
    target = out[grid.box]
    if all(r.block == 1 and r.split == 1 for r in grid.ratios):
        target[...] = classes
        return out
    # Only where classes meet is there anything to decide, and only among voxels finer than the working grid's.
    used = bounding_box(classes > 0, margin=2)
    if used is None:
        return out
    mixed = np.zeros(classes.shape, dtype=np.bool_)
    highest, lowest = at_once(lambda of: of(classes[used], 3), (ndimage.maximum_filter, ndimage.minimum_filter))
    mixed[used] = highest != lowest
    pairs = zip(used, grid.ratios, strict=True)
    rows = [slice(part.start * r.block // r.split, -(-part.stop * r.block // r.split)) for part, r in pairs]
    task = _BoundaryTask(
        np.asarray(grid.source.hu[grid.box]),
        np.ascontiguousarray(grid.volume.hu),
        classes,
        mixed,
        np.array([[r.block, r.split] for r in grid.ratios]),
        np.array([[air_hu, *levels] for levels in edges], dtype=np.float64),
    )
    parts = np.array_split(np.arange(rows[0].start, rows[0].stop), 4 * _THREADS)
    boxes = [np.array([p[0], p[-1] + 1, *_ends(rows[1]), *_ends(rows[2])]) for p in parts if len(p)]
    at_once(lambda box: _decide(*task, target, box), boxes, threads=_THREADS)
    return out


def as_stored(ct: Volume, classes: NDArray[np.uint8], canonical: Volume) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Labels and air side in the axis order of the input.

    Args:
        ct: the input.
        classes: [D, H, W] as `onto_input` gives them; changed.
        canonical: the input with canonical axes.

    Returns:
        As `Segmentation.labels` and `Segmentation.air_side`, on the grid of `ct`.
    """
    back = np.linalg.solve(ct.affine, canonical.affine)[:3, :3].round().astype(int)  # [input axis, canonical axis]
    order = [int(np.flatnonzero(row)[0]) for row in back]
    flips = tuple(slice(None, None, int(row.sum())) for row in back)
    stored = np.ascontiguousarray(classes.transpose(order)[flips])
    air_side = np.maximum(stored, np.uint8(AIR_CLASS))
    air_side -= np.uint8(AIR_CLASS)
    return np.minimum(stored, np.uint8(Label.AIR), out=stored), air_side


class _BoundaryTask(NamedTuple):
    """What all threads of `_decide` share: its first arguments."""

    fine: NDArray[np.float32]
    coarse: NDArray[np.float32]
    classes: NDArray[np.uint8]
    mixed: NDArray[np.bool_]
    ratios: NDArray[np.int64]
    levels: NDArray[np.float64]


def _ends(part: slice) -> tuple[int, int]:
    return part.start, part.stop


@compiled()
def _decide(  # pragma: no cover
    fine: NDArray[np.float32],
    coarse: NDArray[np.float32],
    classes: NDArray[np.uint8],
    mixed: NDArray[np.bool_],
    ratios: NDArray[np.int64],
    levels: NDArray[np.float64],
    out: NDArray[np.uint8],
    box: NDArray[np.int64],
) -> None:
    """Classes of the input voxels of `box` (first and end per axis), written to `out`.

    `ratios` holds block and split per axis, `levels` for each side air, wall, pleura, the limit of plain lung and bare
    lung, HU.
    """
    depth, height, width = classes.shape
    refined = ratios[:, 0].max() > 1
    split_d, split_h, split_w = ratios[0, 1], ratios[1, 1], ratios[2, 1]
    count = np.zeros(5, dtype=np.int64)
    for d in range(box[0], box[1]):
        d0 = d * split_d // ratios[0, 0]
        for h in range(box[2], box[3]):
            h0 = h * split_h // ratios[1, 0]
            for w in range(box[4], box[5]):
                w0 = w * split_w // ratios[2, 0]
                if not mixed[d0, h0, w0] and split_d * split_h * split_w == 1:
                    out[d, h, w] = classes[d0, h0, w0]
                    continue
                count[:] = 0
                for i in range(d0, d0 + split_d):
                    for j in range(h0, h0 + split_h):
                        for k in range(w0, w0 + split_w):
                            count[classes[i, j, k]] += 1
                base = count.argmax()
                out[d, h, w] = base
                if not refined:
                    continue
                count[:] = 0
                bright = np.float32(-3000.0)
                for i in range(max(0, d0 - 1), min(depth, d0 + split_d + 1)):
                    for j in range(max(0, h0 - 1), min(height, h0 + split_h + 1)):
                        for k in range(max(0, w0 - 1), min(width, w0 + split_w + 1)):
                            count[classes[i, j, k]] += 1
                            bright = max(bright, coarse[i, j, k])
                if count[base] == count.sum():
                    continue
                value = fine[d, h, w]
                air = 3 if count[3] >= count[4] else 4
                lung = 1 if count[1] >= count[2] else 2
                level = levels[air - 3]
                edge = 0.5 * (bright + level[0])
                if bright >= level[3]:
                    edge = min(max(edge, level[2]), level[1])
                if base == 1 or base == 2:
                    # The pleura may lie between this voxel and the air.
                    edge = min(edge, level[4])
                if count[air] > 0 and value < edge:
                    out[d, h, w] = air
                elif count[lung] > 0 and value < EDGE_HU:
                    out[d, h, w] = lung
                elif base > 2:
                    out[d, h, w] = lung if count[lung] > count[0] else 0
