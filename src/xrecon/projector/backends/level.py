"""Films square to the patient: the volume is read once, voxel row by voxel row, nearly in the order of memory.

There a row of pixels meets a plane at one height and a column at one width, so sampling is separable. A voxel row is
interpolated to the detector's columns once; what comes of a few planes is kept, and every row of pixels collects its
share of the two slabs that it lies between, several planes at a time, so that a pixel is loaded and stored once for
them. Sums, weights and rays are those of `kernels`, in another order.

For rays along W, the axis that is contiguous in memory, what is seen of a slab is first transposed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xrecon.compiled import inlined
from xrecon.projector.backends.kernels import clamped, kernel, lower_neighbour, slab_share
from xrecon.projector.backends.simd import (
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
_FEW_PLANES = 8
"""Planes of H whose samples are kept before pixels collect them: they stay in the second-level cache."""
_MANY_SAMPLES = 2**20
"""More samples than this are not kept for planes of W, where fewer planes at a time cost more reading."""
GROUP = 4
"""Planes that are added to a pixel at a time."""
_LEVEL_VOXELS = 1e-4
"""How far a detector row may leave a slab's plane: well below what float32 positions tell apart."""


class _ColumnPlaces(NamedTuple):
    """How every plane is interpolated to the detector's columns.

    Attributes:
        lowers: [planes * padded columns] lower neighbours, counted from the first voxel of their block of 16 columns.
        fractions: [planes * padded columns] weights of the upper neighbours.
        lefts: [planes * blocks] first voxel of a block; -1 where its columns lie too far apart for `lookup` and the
            neighbours count from 0.
    """

    lowers: NDArray[np.int32]
    fractions: NDArray[np.float32]
    lefts: NDArray[np.int64]


class _RayEnds(NamedTuple):
    """Where rays enter and leave, for rows of pixels and planes that are visited together.

    Attributes:
        k0: [rows, padded columns] plane coordinates at which rays enter.
        k1: the same where they leave.
        blocks: as in `kernels`.
        whole: [rows of the task, blocks, 2] first and last plane whose slab all rays of a block cross entirely.
        everywhere: whether these planes are such for all blocks.
    """

    k0: NDArray[np.float32]
    k1: NDArray[np.float32]
    blocks: NDArray[np.int32]
    whole: NDArray[np.float32]
    everywhere: bool


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


@kernel
def _transpose_strip(volume, start, ahead, width, planes, size_v, d, seen, scratch, pitch):
    """scratch[(w - first) * pitch + h] = volume[start + h * width + w] for w in `planes` and what is `seen` of slab d.

    The same piece of the next slab, `ahead` floats further, is asked for.
    """
    strip, end = planes
    low, high = size_v, 0
    for part in range(strip // LANES, (end + LANES - 1) // LANES):
        if seen[part, 0] <= d < seen[part, 1]:
            low, high = min(low, seen[part, 2]), max(high, seen[part, 3])
    whole_h, whole_w = min(high, size_v // LANES * LANES), strip + (end - strip) // LANES * LANES
    for h in range(low // LANES * LANES, whole_h, LANES):
        for w in range(strip, whole_w, LANES):
            part = w // LANES
            if d < seen[part, 0] or d >= seen[part, 1] or h + LANES <= seen[part, 2] or h >= seen[part, 3]:
                continue
            corner = start + h * width + w
            for i in range(LANES):
                prefetch(volume, corner + ahead + i * width)
            transpose(volume, corner, width, scratch, (w - strip) * pitch + h, pitch)
    for h in range(low // LANES * LANES, high):
        for w in range(strip if h >= whole_h else whole_w, end):
            scratch[(w - strip) * pitch + h] = volume[start + h * width + w]


@kernel
def _seen(u0, du, v0, dv, rows, sizes):
    """What rows of pixels see of every 16 planes: slabs (first, one after the last) and voxels on the axis of v."""
    size_k, size_u, size_v = sizes
    parts = (size_k + LANES - 1) // LANES
    seen = np.empty((parts, 4), np.int64)
    for part in range(parts):
        planes = part * LANES, min((part + 1) * LANES, size_k)
        seen[part, 0], seen[part, 1] = seen_slabs(u0, du, rows, planes, size_u)
        low, high = np.float32(size_v - 1), np.float32(0)
        for k in (planes[0], planes[1] - 1):
            for col in range(v0.shape[1]):
                v = v0[rows[0], col] + np.float32(k) * dv[rows[0], col]
                low, high = min(low, v), max(high, v)
        # A clamped position may take both of the outermost voxels.
        seen[part, 2] = min(max(np.int64(np.floor(low - np.float32(0.01))), 0), size_v - 2)
        seen[part, 3] = max(min(np.int64(np.floor(high + np.float32(0.01))) + 2, size_v), 2)
    return seen


@kernel
def _column_places(line_v0, line_dv, size_k, size_v, length):
    """`_ColumnPlaces` of all planes, for one row of pixels: in a level view they are those of every row."""
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
            far = col + LANES - 1
            v_first, v_last = line_v0[col] + plane * line_dv[col], line_v0[far] + plane * line_dv[far]
            left = np.int64(min(max(min(v_first, v_last) - margin, zero), most))
            left = max(min(left, length - WINDOW), 0)
            close = abs(v_first - v_last) < np.float32(WINDOW - 3)
            number = k * blocks + block
            lefts[number] = left if close else -1
            store(lowers, number * LANES, lower - splat(np.int32(left if close else 0)))
            store(fractions, number * LANES, v - as_float(lower))
    return _ColumnPlaces(lowers, fractions, lefts)


@kernel
def _whole_planes(k0, k1, blocks, first, last):
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


@kernel
def forward_level(volume, offset, strides, sizes, u0, du, v0, dv, k0, k1, blocks, film, first, last, along_w):
    """film[first:last] += sums over planes of H, or of W where `along_w`; u is D.

    `strides`: (plane, u); `sizes`: (planes, u, v); `film` is flat, `blocks` as in `kernels`. All rays have the same
    dominant axis; see `is_level`.
    """
    size_k, size_u, size_v = sizes
    columns = blocks.shape[1]
    width = columns * LANES
    lowest, highest = size_k, 0
    for row in range(first, last):
        for block in range(columns):
            if blocks[row, block, 1] > blocks[row, block, 0]:
                lowest, highest = min(lowest, blocks[row, block, 0]), max(highest, blocks[row, block, 1])
    if lowest >= highest:
        return
    pitch = max(WINDOW, (size_v + LANES - 1) // LANES * LANES) if along_w else size_v
    places = _column_places(v0[first], dv[first], size_k, size_v, pitch)
    whole, all_low, all_high = _whole_planes(k0, k1, blocks, first, last)
    begin, end = seen_slabs(u0, du, (first, last), (lowest, highest), size_u)
    strip = STRIP if along_w else _FEW_PLANES
    while strip > LANES and (end - begin) * strip * width > _MANY_SAMPLES:
        strip //= 2
    scratch = np.zeros(strip * pitch if along_w else 1, np.float32)
    samples = np.empty((end - begin) * strip * width, np.float32)
    slabs, shares = np.empty((last - first, GROUP), np.int64), np.empty((last - first, 2 * GROUP), np.float32)
    seen = _seen(u0, du, v0, dv, (first, last), sizes)
    for start in range(lowest // strip * strip, highest, strip):
        low, high = max(start, lowest), min(start + strip, highest)
        near, beyond = seen_slabs(u0, du, (first, last), (low, high), size_u)
        for d in range(near, beyond):
            slab = offset + d * strides[1]
            target = ((d - begin) * strip - start) * width
            if not along_w:
                slab += low * strides[0]
                target += low * width
                _sample_slab(volume, slab, strides[0], strides[1], low, high, places, samples, target, columns)
                continue
            transposed = start, min(start + strip, size_k)
            _transpose_strip(volume, slab, strides[1], size_k, transposed, size_v, d, seen, scratch, pitch)
            for part in range(start // LANES, (high + LANES - 1) // LANES):
                if seen[part, 0] <= d < seen[part, 1]:
                    begin_k, end_k = max(low, part * LANES), min(high, (part + 1) * LANES)
                    place = (begin_k - start) * pitch
                    goal = target + begin_k * width
                    _sample_slab(scratch, place, pitch, 0, begin_k, end_k, places, samples, goal, columns)
        for k in range(low, high, GROUP):
            planes = k, min(k + GROUP, high)
            steps = strip * width, width
            _row_weights(u0, du, first, last, planes, (begin, k - start), steps, size_u, slabs, shares)
            everywhere = all_low <= np.float32(k) and np.float32(planes[1] - 1) <= all_high
            ends = _RayEnds(k0, k1, blocks, whole, everywhere)
            _collect(film, first, last, planes, samples, steps[0], slabs, shares, ends)


@kernel
def _sample_slab(source, start, stride, ahead, low, high, places, samples, target, columns):
    """samples[target...] = a slab's voxel rows on planes low to high, interpolated to the detector's columns.

    Plane `low` begins at source[start], the next one `stride` floats further. Where `ahead` is not 0, the same piece of
    the next slab is asked for.
    """
    following = splat(np.int32(1))
    plane = start
    for k in range(low, high):
        for block in range(columns):
            number = k * columns + block
            left = places.lefts[number]
            index = load(places.lowers, number * LANES)
            if ahead > 0:
                prefetch(source, plane + ahead + left)
                prefetch(source, plane + ahead + left + LANES)
            if left >= 0:
                p, q = lookup(source, plane + left, index), lookup(source, plane + left, index + following)
            else:
                p, q = gather(source, plane, index), gather(source, plane + 1, index)
            store(samples, target, p + load(places.fractions, number * LANES) * (q - p))
            target += LANES
        plane += stride


@kernel
def _row_weights(u0, du, first, last, planes, begin, steps, size_u, slabs, shares):
    """For every row of pixels and plane of a group: where in `samples` the slab before it begins, and both weights.

    `begin`: slab and plane of samples[0], the latter counted from the group's first; `steps`: samples per slab and per
    plane. Beyond the outermost centres the outermost slab counts. Planes that the group lacks weigh nothing.
    """
    k, end = planes
    for row in range(first, last):
        number = row - first
        for j in range(GROUP):
            plane = min(k + j, end - 1)
            u = u0[row, 0] + np.float32(plane) * du[row, 0]
            u = min(max(u, np.float32(0)), np.float32(size_u - 1))
            d = min(np.int64(u), size_u - 2)
            share = u - np.float32(d)
            slabs[number, j] = (d - begin[0]) * steps[0] + (plane - k + begin[1]) * steps[1]
            shares[number, 2 * j] = np.float32(1) - share if k + j < end else np.float32(0)
            shares[number, 2 * j + 1] = share if k + j < end else np.float32(0)


@inlined
def _between(samples, slab_samples, slabs, shares, number, j, col):
    """Samples of 16 columns between two slabs, for a row of pixels on one plane."""
    at = slabs[number, j] + col
    near, far = load(samples, at), load(samples, at + slab_samples)
    return splat(shares[number, 2 * j]) * near + splat(shares[number, 2 * j + 1]) * far


@kernel
def _collect(film, first, last, planes, samples, slab_samples, slabs, shares, ends):
    """film[first:last] += what the rays collect on the planes of a group."""
    columns = ends.blocks.shape[1]
    for row in range(first, last):
        number = row - first
        for block in range(columns):
            col = block * LANES
            place = row * columns * LANES + col
            value = load(film, place)
            if ends.everywhere:
                for j in range(GROUP):
                    value = value + _between(samples, slab_samples, slabs, shares, number, j, col)
                store(film, place, value)
                continue
            for k in range(max(planes[0], ends.blocks[row, block, 0]), min(planes[1], ends.blocks[row, block, 1])):
                sample = _between(samples, slab_samples, slabs, shares, number, k - planes[0], col)
                plane = np.float32(k)
                if not ends.whole[number, block, 0] <= plane <= ends.whole[number, block, 1]:
                    sample = sample * slab_share(splat(plane), load(ends.k0[row], col), load(ends.k1[row], col))
                value = value + sample
            store(film, place, value)


@kernel
def seen_slabs(u0, du, rows, planes, size_u):
    """First slab, and the one after the last, that rows of pixels see between two planes; at least two.

    Beyond the outermost centres a position still lies between two slabs, of which one weighs nothing and is read.
    """
    top, bottom = np.float32(size_u), np.float32(-1)
    for row in (rows[0], rows[1] - 1):
        for k in (planes[0], planes[1] - 1):
            u = u0[row, 0] + np.float32(k) * du[row, 0]
            top, bottom = min(top, u), max(bottom, u)
    # The margin covers the rounding of positions.
    begin = np.int64(np.floor(max(top, np.float32(0)) - np.float32(0.01)))
    end = np.int64(np.floor(bottom + np.float32(0.01))) + 2
    return max(min(begin, size_u - 2), 0), max(min(end, size_u), 2)
