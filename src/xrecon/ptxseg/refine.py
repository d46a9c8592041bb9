"""From the working grid back to the input's voxels; where these are finer, the boundary is decided among them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from numpy.typing import NDArray

from xrecon.ptxseg.air import EdgeLevels
from xrecon.ptxseg.grid import WorkingGrid
from xrecon.ptxseg.lungs import EDGE_HU

_THREADS = 2


def onto_input(grid: WorkingGrid, classes: NDArray[np.uint8], *, edges: EdgeLevels, air_hu: float) -> NDArray[np.uint8]:
    """Classes of every input voxel.

    Args:
        grid: ties working voxels to input voxels.
        classes: [D, H, W] on the working grid: 0 background, 1 right lung, 2 left lung, 3 air right, 4 air left.
        air_hu: level of free air.
        edges: HU of an input voxel that is half air.

    Returns:
        Classes [D, H, W] of the whole input in canonical orientation.
    """
    out = np.zeros(grid.source.shape, dtype=np.uint8)
    target = out[grid.box]
    if all(r.block == 1 and r.split == 1 for r in grid.ratios):
        target[...] = classes
        return out
    fine = np.asarray(grid.source.hu[grid.box])
    blocks = np.array([r.block for r in grid.ratios])
    splits = np.array([r.split for r in grid.ratios])
    coarse = np.ascontiguousarray(grid.volume.hu)
    levels = np.array(edges, dtype=np.float64)
    parts = np.array_split(np.arange(target.shape[0]), 4 * _THREADS)
    with ThreadPoolExecutor(_THREADS) as pool:
        jobs = [
            pool.submit(
                _decide, fine, coarse, classes, target, (int(p[0]), int(p[-1]) + 1), blocks, splits, air_hu, levels
            )
            for p in parts
            if len(p)
        ]
        for job in jobs:
            job.result()
    return out


@numba.njit(cache=True, nogil=True)
def _decide(fine, coarse, classes, out, rows, blocks, splits, air_hu, levels):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Classes of the input rows `rows[0]` to `rows[1]`, written to `out`."""
    depth, height, width = classes.shape
    refined = blocks.max() > 1
    count = np.zeros(5, dtype=np.int64)
    for d in range(rows[0], rows[1]):
        d0 = d * splits[0] // blocks[0]
        for h in range(fine.shape[1]):
            h0 = h * splits[1] // blocks[1]
            for w in range(fine.shape[2]):
                w0 = w * splits[2] // blocks[2]
                count[:] = 0
                for i in range(d0, d0 + splits[0]):
                    for j in range(h0, h0 + splits[1]):
                        for k in range(w0, w0 + splits[2]):
                            count[classes[i, j, k]] += 1
                base = count.argmax()
                out[d, h, w] = base
                if not refined:
                    continue
                # Voxels whose working neighbours agree keep their class; the others are decided by their own HU.
                count[:] = 0
                bright = np.float32(-3000.0)
                for i in range(max(0, d0 - 1), min(depth, d0 + splits[0] + 1)):
                    for j in range(max(0, h0 - 1), min(height, h0 + splits[1] + 1)):
                        for k in range(max(0, w0 - 1), min(width, w0 + splits[2] + 1)):
                            count[classes[i, j, k]] += 1
                            bright = max(bright, coarse[i, j, k])
                if count[base] == count.sum():
                    continue
                value = fine[d, h, w]
                air = 3 if count[3] >= count[4] else 4
                lung = 1 if count[1] >= count[2] else 2
                edge = 0.5 * (bright + air_hu)
                if bright >= levels[2]:
                    edge = min(max(edge, levels[1]), levels[0])
                if count[air] > 0 and value < edge:
                    out[d, h, w] = air
                elif count[lung] > 0 and value < EDGE_HU:
                    out[d, h, w] = lung
                elif base > 2:
                    out[d, h, w] = lung if count[lung] > count[0] else 0
