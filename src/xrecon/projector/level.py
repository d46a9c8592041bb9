"""Films square to the patient: the volume is read once, voxel row by voxel row, in the order of memory.

There a row of pixels meets a plane at one height and a column at one width, so sampling is separable: a voxel row is
interpolated to the detector's columns once, and added to the few rows of pixels that see it. Sums, weights and rays are
those of `kernels`, in another order.

For rays along W, the axis that is contiguous in memory, what is seen of a slab is first transposed.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from xrecon.projector.kernels import clamped, compiled, lower_neighbour, slab_share
from xrecon.projector.simd import (
    LANES,
    WINDOW,
    as_float,
    gather,
    load,
    lookup,
    prefetch,
    splat,
    store,
    transpose,
)

STRIP = 4 * LANES
"""Planes of W that are transposed at a time: whole pieces of memory, and few enough for the nearest cache."""
_LEVEL_VOXELS = 1e-4
"""How far a detector row may leave a slab's plane: well below what float32 positions tell apart."""


def is_level(values: NDArray[np.float32], planes: int) -> bool:
    """Whether u is the same along every detector row and v along every column, up to 1e-4 voxel on every plane.

    Args:
        values: [7, rows, cols], as `lines.Lines.values`.
        planes: of the dominant axis.
    """
    u0, du, v0, dv = values[:4]
    along = np.abs(u0 - u0[:, :1]).max() + planes * np.abs(du - du[:, :1]).max()
    across = np.abs(v0 - v0[:1]).max() + planes * np.abs(dv - dv[:1]).max()
    return bool(max(along, across) < _LEVEL_VOXELS)


@compiled
def _transpose_strip(volume, start, ahead, width, strip, heights, scratch, pitch):
    """scratch[(w - strip) * pitch + h] = volume[start + h * width + w] for `STRIP` columns w, rows h in `heights`.

    The same piece of the next slab, `ahead` floats further, is asked for.
    """
    height, low, high = heights
    end = min(strip + STRIP, width)
    whole_h, whole_w = min(high, height // LANES * LANES), strip + (end - strip) // LANES * LANES
    for h in range(low // LANES * LANES, whole_h, LANES):
        for w in range(strip, whole_w, LANES):
            here = start + h * width + w
            for i in range(LANES):
                prefetch(volume, here + ahead + i * width)
            transpose(volume, here, width, scratch, (w - strip) * pitch + h, pitch)
    for h in range(low // LANES * LANES, high):
        for w in range(strip if h >= whole_h else whole_w, end):
            scratch[(w - strip) * pitch + h] = volume[start + h * width + w]


@compiled
def _seen_heights(line_v0, line_dv, size_k, size_v):
    """For every `STRIP` planes the voxels on the axis of v, first and the one after the last, that any pixel needs."""
    strips = (size_k + STRIP - 1) // STRIP
    seen = np.empty((strips, 2), np.int64)
    for strip in range(strips):
        low, high = np.float32(size_v - 1), np.float32(0)
        for k in (strip * STRIP, min((strip + 1) * STRIP, size_k) - 1):
            for col in range(line_v0.size):
                v = line_v0[col] + np.float32(k) * line_dv[col]
                low, high = min(low, v), max(high, v)
        seen[strip, 0] = max(np.int64(np.floor(low - np.float32(0.01))), 0)
        seen[strip, 1] = min(np.int64(np.floor(high + np.float32(0.01))) + 2, size_v)
    # A clamped position may take both of the outermost voxels.
    seen[:, 0] = np.minimum(seen[:, 0], size_v - 2)
    seen[:, 1] = np.maximum(seen[:, 1], 2)
    return seen


@compiled
def _columns(line_v0, line_dv, size_k, size_v, length):
    """How every plane is interpolated to the detector's columns: lower neighbours, fractions, first voxel of a block.

    Neighbours count from the first voxel of their block of 16 columns; where it is -1 they lie too far apart for
    `lookup` and count from 0.
    """
    blocks = line_v0.size // LANES
    lowers, fractions = np.empty(size_k * blocks * LANES, np.int32), np.empty(size_k * blocks * LANES, np.float32)
    lefts = np.empty(size_k * blocks, np.int64)
    margin, zero, most = np.float32(0.01), np.float32(0), np.float32(size_v - 1)
    for k in range(size_k):
        plane = np.float32(k)
        for block in range(blocks):
            col = block * LANES
            v = clamped(load(line_v0, col) + splat(plane) * load(line_dv, col), size_v)
            lower = lower_neighbour(v, size_v)
            one, other = (
                line_v0[col] + plane * line_dv[col],
                line_v0[col + LANES - 1] + plane * line_dv[col + LANES - 1],
            )
            left = np.int64(min(max(min(one, other) - margin, zero), most))
            left = max(min(left, length - WINDOW), 0)
            close = abs(one - other) < np.float32(WINDOW - 3)
            number = k * blocks + block
            lefts[number] = left if close else -1
            store(lowers, number * LANES, lower - splat(np.int32(left if close else 0)))
            store(fractions, number * LANES, v - as_float(lower))
    return lowers, fractions, lefts


@compiled
def _whole(k0, k1, blocks, first, last):
    """Planes whose slab all rays of a block of 16 cross from face to face, and those where all of the rows do."""
    columns = blocks.shape[1]
    whole = np.empty((last - first, columns, 2), np.float32)
    low, high = np.float32(-np.inf), np.float32(np.inf)
    for row in range(first, last):
        for block in range(columns):
            enter, leave = k0[row, block * LANES], k1[row, block * LANES]
            for col in range(block * LANES, (block + 1) * LANES):
                enter, leave = max(enter, k0[row, col]), min(leave, k1[row, col])
            enter, leave = enter + np.float32(0.5), leave - np.float32(0.5)
            whole[row - first, block, 0], whole[row - first, block, 1] = enter, leave
            low, high = max(low, enter), min(high, leave)
    return whole, low, high


@compiled
def forward_level(volume, offset, along_w, strides, sizes, u0, du, v0, dv, k0, k1, blocks, film, first, last):
    """film[first:last] += sums over planes of H, or of W; u is D. `strides`, `sizes`: (plane, u); (planes, u, v).

    `film` is flat, `blocks` as in `kernels`. All rays have the same dominant axis; see `is_level`.
    """
    stride_k, stride_u = strides
    size_k, size_u, size_v = sizes
    columns = blocks.shape[1]
    width = columns * LANES
    pitch = max(WINDOW, (size_v + LANES - 1) // LANES * LANES)
    scratch = np.zeros(STRIP * pitch if along_w else 1, np.float32)
    source = scratch if along_w else volume
    lowers, fractions, lefts = _columns(v0[first], dv[first], size_k, size_v, pitch if along_w else size_v)
    whole, all_low, all_high = _whole(k0, k1, blocks, first, last)
    lowest, highest = size_k, 0
    for row in range(first, last):
        for block in range(columns):
            if blocks[row, block, 1] > blocks[row, block, 0]:
                lowest, highest = min(lowest, blocks[row, block, 0]), max(highest, blocks[row, block, 1])
    begin, end = _slabs(u0, du, (first, last), (lowest, highest), size_u)
    heights = _seen_heights(v0[first], dv[first], size_k, size_v)
    weights = np.empty(last - first, np.float32)
    following = splat(np.int32(1))
    for d in range(begin, end):
        transposed = -1
        for k in range(lowest, highest):
            plane = np.float32(k)
            near, beyond = _rows_at(u0, du, first, last, plane, d)
            while near < beyond and _weight(u0, du, near, plane, d, size_u) == 0:
                near += 1
            while near < beyond and _weight(u0, du, beyond - 1, plane, d, size_u) == 0:
                beyond -= 1
            if near >= beyond:
                continue
            for row in range(near, beyond):
                weights[row - first] = _weight(u0, du, row, plane, d, size_u)
            if along_w and transposed != k // STRIP:
                transposed = k // STRIP
                seen = size_v, heights[transposed, 0], heights[transposed, 1]
                _transpose_strip(
                    volume, offset + d * stride_u, stride_u, size_k, transposed * STRIP, seen, scratch, pitch
                )
            here = (k - transposed * STRIP) * pitch if along_w else offset + d * stride_u + k * stride_k
            everywhere = all_low <= plane <= all_high
            for block in range(columns):
                number = k * columns + block
                left = lefts[number]
                index = load(lowers, number * LANES)
                if not along_w:
                    prefetch(volume, here + stride_u + left)
                    prefetch(volume, here + stride_u + left + LANES)
                if left >= 0:
                    p, q = lookup(source, here + left, index), lookup(source, here + left, index + following)
                else:
                    p, q = gather(source, here, index), gather(source, here + 1, index)
                sample = p + load(fractions, number * LANES) * (q - p)
                col = block * LANES
                if everywhere:
                    for row in range(near, beyond):
                        place = row * width + col
                        store(film, place, load(film, place) + splat(weights[row - first]) * sample)
                    continue
                for row in range(near, beyond):
                    if not blocks[row, block, 0] <= k < blocks[row, block, 1]:
                        continue
                    value = splat(weights[row - first]) * sample
                    if not whole[row - first, block, 0] <= plane <= whole[row - first, block, 1]:
                        value = value * slab_share(splat(plane), load(k0[row], col), load(k1[row], col))
                    place = row * width + col
                    store(film, place, load(film, place) + value)


@compiled
def _slabs(u0, du, rows, planes, size_u):
    """First slab, and the one after the last, that rows of pixels see between two planes."""
    top, bottom = np.float32(size_u), np.float32(-1)
    for row in (rows[0], rows[1] - 1):
        for k in (planes[0], planes[1] - 1):
            u = u0[row, 0] + np.float32(k) * du[row, 0]
            top, bottom = min(top, u), max(bottom, u)
    # The margin covers the rounding of positions.
    begin = np.int64(np.floor(max(top, np.float32(0)) - np.float32(0.01)))
    end = np.int64(np.floor(bottom + np.float32(0.01))) + 2
    return max(begin, 0), min(end, size_u)


@njit(inline="always")
def _rows_at(u0, du, first, last, plane, d):
    """Rows of pixels, first and the one after the last, that may see slab d at a plane: u is linear in the row."""
    start = u0[first, 0] + plane * du[first, 0]
    step = (u0[last - 1, 0] + plane * du[last - 1, 0] - start) / np.float32(max(1, last - 1 - first))
    if abs(step) <= np.float32(1e-3):
        return first, last
    middle, reach = (np.float32(d) - start) / step, np.float32(1.01) / abs(step)
    near = first + np.int64(np.ceil(middle - reach))
    beyond = first + np.int64(np.floor(middle + reach)) + 1
    return min(max(near, first), last), min(max(beyond, first), last)


@njit(inline="always")
def _weight(u0, du, row, plane, d, size_u):
    """Weight of slab d in the interpolation for a row of pixels; beyond the outermost centres the outermost count."""
    u = min(max(u0[row, 0] + plane * du[row, 0], np.float32(0)), np.float32(size_u - 1))
    return max(np.float32(1) - abs(u - np.float32(d)), np.float32(0))
