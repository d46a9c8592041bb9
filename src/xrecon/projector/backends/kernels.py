"""Joseph's projector and its exact transpose as compiled loops over vectors of 16 floats.

All kernels share the sampling of `reference`: along a ray, plane k of its dominant axis is met at
(u, v) = (u0 + k du, v0 + k dv) in index coordinates of the two other axes, sampled bilinearly and weighted with the
part of the slab [k - 1/2, k + 1/2] that lies between the ray's ends k0 and k1.

Two loop orders. Where rays run along D or H, a vector holds 16 neighbouring detector columns: their samples in a plane
lie on a short piece of a few voxel rows, so each of these rows is read once and the samples are picked from registers.
Where rays run along W, the axis that is contiguous in memory, a vector holds 16 consecutive planes of one ray: every
voxel row near that piece of the ray is read (and, in the transpose, written) as it lies in memory. No kernel writes
where another thread writes, so results do not depend on the number of threads.

Arrays: `volume` is flat float32; the ray arrays are [rows, padded columns] float32; `offset` is where the volume
begins; a stride counts floats. `blocks` is [rows, padded columns / 16, 3] int32: first plane, plane after the last, and
whether the columns of the block lie close enough together for `lookup`.
"""

from __future__ import annotations

import numpy as np

from xrecon.compiled import compiled, inlined
from xrecon.projector.backends.simd import (
    LANES,
    WINDOW,
    add_pair,
    as_float,
    gather,
    lane_numbers,
    larger,
    load,
    lookup,
    magnitude,
    prefetch,
    smaller,
    splat,
    store,
    store_pairs,
    total,
    truncated,
)

PLANES_PER_PASS = 8
"""Planes that all rays pass before the next ones: what neighbouring rays share must stay in the second-level cache.

Only forward: the transpose takes plane by plane, because it also writes.
"""
VECTORS_PER_PASS = 4
"""The same in vectors of planes, where rays run along W."""
MOST_ROWS = 6
"""Beyond this many voxel rows per vector and axis, picking single voxels is faster than reading whole pieces."""
FEW_ROWS = 5
"""Voxel rows that a vector of planes touches at most when the view is tilted by less than about 10 degrees."""
MOST_SPAN = 20
"""Voxel rows that 16 planes of a ray can touch on one axis: a ray moves at most one row per plane."""

kernel = compiled(fastmath={"contract", "nsz", "arcp"}, boundscheck=False, error_model="numpy")
"""Decorator of all kernels of the projector."""


@inlined
def slab_share(k, k0, k1):
    """Part of the slab of plane k between k0 and k1."""
    half = splat(np.float32(0.5))
    inside = smaller(k + half, k1) - larger(k - half, k0)
    return larger(inside, splat(np.float32(0)))


@inlined
def clamped(position, size):
    """The position moved into the range of voxel centres."""
    return smaller(larger(position, splat(np.float32(0))), splat(np.float32(size - 1)))


@inlined
def lower_neighbour(position, size):
    """Lower neighbour of a clamped position; the upper one is inside the axis, too."""
    return truncated(smaller(position, splat(np.float32(size - 1.5))))


@inlined
def tent(position, row):
    """Weight of a voxel row in linear interpolation at the position."""
    distance = magnitude(position - splat(np.float32(row)))
    return larger(splat(np.float32(1)) - distance, splat(np.float32(0)))


@inlined
def _span(first, last, size):
    """First row, and the one after the last, that interpolation between two positions on an axis can touch.

    The margin covers the rounding of positions that other instructions computed.
    """
    low = min(max(min(first, last) - np.float32(0.01), np.float32(0)), np.float32(size - 1))
    high = min(max(max(first, last) + np.float32(0.01), np.float32(0)), np.float32(size - 1))
    return np.int64(low), min(np.int64(high) + 2, size)


@inlined
def _least(start, step, col, plane):
    """Start and step of the outer ray of 16 that has the smaller coordinate, less a margin for rounding.

    Rays of a row of pixels meet only in the source, so it has the smaller coordinate in all planes.
    """
    far = col + LANES - 1
    if start[col] + plane * step[col] > start[far] + plane * step[far]:
        col = far
    return start[col] - np.float32(0.01), step[col]


@inlined
def _rows(start, step, col, first, last):
    """Most voxel rows that interpolation at 16 rays can touch in the planes first..last."""
    far = col + LANES - 1
    apart, growth = start[far] - start[col], step[far] - step[col]
    return np.int64(max(abs(apart + first * growth), abs(apart + last * growth)) + np.float32(0.02)) + 3


@inlined
def _picked(volume, base, stride_u, u, v, size_u, size_v):
    """Bilinear samples at (u, v), voxel by voxel; v runs along the contiguous axis."""
    iu, iv = lower_neighbour(u, size_u), lower_neighbour(v, size_v)
    fu, fv = u - as_float(iu), v - as_float(iv)
    index = iu * splat(np.int32(stride_u)) + iv
    a, b = gather(volume, base, index), gather(volume, base + 1, index)
    c, d = gather(volume, base + stride_u, index), gather(volume, base + stride_u + 1, index)
    near, far = a + fv * (b - a), c + fv * (d - c)
    return near + fu * (far - near)


@inlined
def _upwards(u0, du, row, plane):
    """Whether the next row of pixels crosses a plane at a larger u: there lie the voxels worth asking for early."""
    following = min(row + 1, u0.shape[0] - 1)
    u, next_u = u0[row, 0] + plane * du[row, 0], u0[following, 0] + plane * du[following, 0]
    return next_u >= u


@kernel
def forward_rows(volume, offset, strides, sizes, u0, du, v0, dv, k0, k1, blocks, film, first, last):
    """film[first:last] += sums over planes of D or H; v is W. `strides`, `sizes`: (plane, u); (planes, u, v)."""
    stride_k, stride_u = strides
    size_k, size_u, size_v = sizes
    for group in range(0, size_k, PLANES_PER_PASS):
        for row in range(first, last):
            line_u0, line_du, line_v0, line_dv = u0[row], du[row], v0[row], dv[row]
            line_k0, line_k1, line = k0[row], k1[row], film[row]
            upwards = _upwards(u0, du, row, group)
            for block in range(blocks.shape[1]):
                low = max(group, blocks[row, block, 0])
                high = min(group + PLANES_PER_PASS, blocks[row, block, 1])
                if low >= high:
                    continue
                col = block * LANES
                a_u, b_u, a_v, b_v = load(line_u0, col), load(line_du, col), load(line_v0, col), load(line_dv, col)
                start_k, end_k = load(line_k0, col), load(line_k1, col)
                result = load(line, col)
                least_u, step_u = _least(line_u0, line_du, col, np.float32(high - 1))
                least_v, step_v = _least(line_v0, line_dv, col, np.float32(high - 1))
                # As many rows in all planes of the pass: a count that changes costs the processor wrong guesses.
                count = min(_rows(line_u0, line_du, col, np.float32(low), np.float32(high - 1)), size_u)
                for k in range(low, high):
                    plane = np.float32(k)
                    kk = splat(plane)
                    u, v = clamped(a_u + kk * b_u, size_u), clamped(a_v + kk * b_v, size_v)
                    share = slab_share(kk, start_k, end_k)
                    base = offset + k * stride_k
                    if blocks[row, block, 2] == 0:
                        result = result + share * _picked(volume, base, stride_u, u, v, size_u, size_v)
                        continue
                    near = min(np.int64(max(least_u + plane * step_u, np.float32(0))), size_u - count)
                    left = min(np.int64(max(least_v + plane * step_v, np.float32(0))), size_v - WINDOW)
                    beyond = near + count
                    ahead = base + (beyond if upwards else near - 1) * stride_u + left
                    prefetch(volume, ahead)
                    prefetch(volume, ahead + LANES)
                    lower = lower_neighbour(v, size_v)
                    fraction = v - as_float(lower)
                    index = lower - splat(np.int32(left))
                    following = index + splat(np.int32(1))
                    sample = splat(np.float32(0))
                    for r in range(near, beyond):
                        piece = base + r * stride_u + left
                        p, q = lookup(volume, piece, index), lookup(volume, piece, following)
                        sample = sample + tent(u, r) * (p + fraction * (q - p))
                    result = result + share * sample
                store(line, col, result)


@kernel
def forward_along(volume, offset, strides, sizes, u0, du, v0, dv, k0, k1, blocks, film, first, last):
    """film[first:last] += sums over planes of W, the contiguous axis. `strides`, `sizes`: (u, v); (planes, u, v)."""
    stride_u, stride_v = strides
    size_k, size_u, size_v = sizes
    step = np.float32(LANES - 1)
    tents = np.empty((MOST_ROWS * MOST_ROWS + 1) * LANES, np.float32)
    for group in range(0, size_k, VECTORS_PER_PASS * LANES):
        for row in range(first, last):
            upwards = _upwards(u0, du, row, group)
            for col in range(k0.shape[1]):
                if k1[row, col] <= k0[row, col]:
                    continue
                a_u, b_u, a_v, b_v = u0[row, col], du[row, col], v0[row, col], dv[row, col]
                start_k, end_k = splat(k0[row, col]), splat(k1[row, col])
                result = splat(np.float32(0))
                low = max(np.int64(np.floor(k0[row, col] + np.float32(0.5))), group) // LANES * LANES
                high = min(
                    np.int64(np.floor(k1[row, col] + np.float32(0.5))) + 1,
                    min(group + VECTORS_PER_PASS * LANES, size_k),
                )
                for start in range(low, high, LANES):
                    k = min(start, size_k - LANES)
                    kk = splat(np.float32(k)) + lane_numbers()
                    share = slab_share(kk, larger(start_k, splat(np.float32(start) - np.float32(0.5))), end_k)
                    u, v = a_u + np.float32(k) * b_u, a_v + np.float32(k) * b_v
                    near, beyond = _span(u, u + step * b_u, size_u)
                    left, right = _span(v, v + step * b_v, size_v)
                    ahead = beyond if upwards else near - 1
                    prefetch(volume, offset + ahead * stride_u + (left + right) // 2 * stride_v + k)
                    lanes_u = clamped(splat(a_u) + kk * splat(b_u), size_u)
                    lanes_v = clamped(splat(a_v) + kk * splat(b_v), size_v)
                    sample = splat(np.float32(0))
                    if (beyond - near) * (right - left) > MOST_ROWS * MOST_ROWS:
                        iu, iv = lower_neighbour(lanes_u, size_u), lower_neighbour(lanes_v, size_v)
                        fu, fv = lanes_u - as_float(iu), lanes_v - as_float(iv)
                        index = iu * splat(np.int32(stride_u)) + iv * splat(np.int32(stride_v))
                        index = index + truncated(lane_numbers())
                        base = offset + k
                        p, q = gather(volume, base, index), gather(volume, base + stride_v, index)
                        r, s = gather(volume, base + stride_u, index), gather(volume, base + stride_u + stride_v, index)
                        nearer, farther = p + fv * (q - p), r + fv * (s - r)
                        sample = nearer + fu * (farther - nearer)
                    else:
                        if right - left <= FEW_ROWS:
                            left = min(left, size_v - FEW_ROWS)
                            for j in range(FEW_ROWS):
                                store(tents, j * LANES, tent(lanes_v, left + j))
                            right = left + FEW_ROWS
                        else:
                            for j in range(left, right):
                                store(tents, (j - left) * LANES, tent(lanes_v, j))
                        for i in range(near, beyond):
                            across = splat(np.float32(0))
                            line = offset + i * stride_u + left * stride_v + k
                            if right - left <= FEW_ROWS:
                                # A fixed count is unrolled and spares the processor a wrong guess per row.
                                for j in range(FEW_ROWS):
                                    across = across + load(tents, j * LANES) * load(volume, line + j * stride_v)
                            else:
                                for j in range(right - left):
                                    across = across + load(tents, j * LANES) * load(volume, line + j * stride_v)
                            sample = sample + tent(lanes_u, i) * across
                    result = result + share * sample
                film[row, col] += total(result)


@kernel
def adjoint_rows(volume, offset, strides, sizes, u0, du, v0, dv, k0, k1, blocks, film, first, last, clear):
    """Transpose of `forward_rows` for the planes first..last: volume += film. The film holds value times path.

    With `clear` the planes are set to zero before, shortly before they are needed.
    """
    stride_k, stride_u = strides
    _, size_u, size_v = sizes
    columns = blocks.shape[1] * LANES
    where = np.empty(columns, np.int32)
    near_pairs, far_pairs = np.empty(2 * columns, np.float32), np.empty(2 * columns, np.float32)
    unit = splat(np.float32(1))
    # One plane at a time, so that the voxels around a row of pixels stay in the first-level cache between rows.
    for k in range(first, last):
        kk = splat(np.float32(k))
        base = offset + k * stride_k
        if clear:
            for i in range(size_u):
                start = base + i * stride_u
                volume[start : start + size_v] = np.float32(0)
        for row in range(blocks.shape[0]):
            line_u0, line_du, line_v0, line_dv = u0[row], du[row], v0[row], dv[row]
            line_k0, line_k1, line = k0[row], k1[row], film[row]
            ahead = 2 * stride_u if _upwards(u0, du, row, k) else -stride_u
            used = 0
            for block in range(blocks.shape[1]):
                if k < blocks[row, block, 0] or k >= blocks[row, block, 1]:
                    continue
                col = block * LANES
                u = clamped(load(line_u0, col) + kk * load(line_du, col), size_u)
                v = clamped(load(line_v0, col) + kk * load(line_dv, col), size_v)
                value = slab_share(kk, load(line_k0, col), load(line_k1, col)) * load(line, col)
                iu, iv = lower_neighbour(u, size_u), lower_neighbour(v, size_v)
                fu, fv = u - as_float(iu), v - as_float(iv)
                far = fu * value
                near = value - far
                store(where, used, iu * splat(np.int32(stride_u)) + iv)
                store_pairs(near_pairs, 2 * used, near * (unit - fv), near * fv)
                store_pairs(far_pairs, 2 * used, far * (unit - fv), far * fv)
                for lane in (0, LANES // 2, LANES - 1):
                    prefetch(volume, base + where[used + lane] + ahead)
                used += LANES
            # Neighbouring rays hit the same voxels, and a sum that was just written is slow to read again: take
            # every 16th ray in turn.
            for lane in range(LANES):
                for ray in range(lane, used, LANES):
                    index = base + where[ray]
                    add_pair(volume, index, near_pairs, 2 * ray)
                    add_pair(volume, index + stride_u, far_pairs, 2 * ray)


@kernel
def adjoint_along(volume, offset, strides, sizes, u0, du, v0, dv, k0, k1, blocks, film, first, last, clear):
    """Transpose of `forward_along` for the planes first..last (first a multiple of 16): volume += film.

    With `clear` the planes are set to zero before.

    The last range of planes must hold at least 16, because its final vector begins 16 planes before the end.
    """
    stride_u, stride_v = strides
    size_k, size_u, size_v = sizes
    step = np.float32(LANES - 1)
    tents = np.empty(MOST_SPAN * LANES, np.float32)
    if clear:
        for i in range(size_u):
            for j in range(size_v):
                start = offset + i * stride_u + j * stride_v
                volume[start + first : start + last] = np.float32(0)
    for row in range(k0.shape[0]):
        upwards = _upwards(u0, du, row, first)
        for col in range(k0.shape[1]):
            if k1[row, col] <= k0[row, col]:
                continue
            a_u, b_u, a_v, b_v = u0[row, col], du[row, col], v0[row, col], dv[row, col]
            start_k, end_k, value = splat(k0[row, col]), splat(k1[row, col]), splat(film[row, col])
            low = max(np.int64(np.floor(k0[row, col] + np.float32(0.5))), first) // LANES * LANES
            high = min(np.int64(np.floor(k1[row, col] + np.float32(0.5))) + 1, last)
            for start in range(low, high, LANES):
                k = min(start, size_k - LANES)
                kk = splat(np.float32(k)) + lane_numbers()
                share = value * slab_share(kk, larger(start_k, splat(np.float32(start) - np.float32(0.5))), end_k)
                u, v = a_u + np.float32(k) * b_u, a_v + np.float32(k) * b_v
                near, beyond = _span(u, u + step * b_u, size_u)
                left, right = _span(v, v + step * b_v, size_v)
                ahead = beyond if upwards else near - 1
                prefetch(volume, offset + ahead * stride_u + (left + right) // 2 * stride_v + k)
                lanes_u = clamped(splat(a_u) + kk * splat(b_u), size_u)
                lanes_v = clamped(splat(a_v) + kk * splat(b_v), size_v)
                if right - left <= FEW_ROWS:
                    left = min(left, size_v - FEW_ROWS)
                    for j in range(FEW_ROWS):
                        store(tents, j * LANES, tent(lanes_v, left + j))
                    right = left + FEW_ROWS
                else:
                    for j in range(left, right):
                        store(tents, (j - left) * LANES, tent(lanes_v, j))
                for i in range(near, beyond):
                    along = share * tent(lanes_u, i)
                    line = offset + i * stride_u + left * stride_v + k
                    if right - left <= FEW_ROWS:
                        for j in range(FEW_ROWS):
                            place = line + j * stride_v
                            store(volume, place, load(volume, place) + along * load(tents, j * LANES))
                    else:
                        for j in range(right - left):
                            place = line + j * stride_v
                            store(volume, place, load(volume, place) + along * load(tents, j * LANES))


@kernel
def sensitivities(volume, offset, strides, sizes, u0, du, v0, dv, k0, k1, blocks, result, first, last):
    """Derivatives of a film's plane sums by the ray's parameters; result [6, rows, padded columns].

    By u0, du, v0, dv, k0 and k1, for any dominant axis; `strides` (plane, u, v), `sizes` (planes, u, v).
    """
    stride_k, stride_u, stride_v = strides
    size_k, size_u, size_v = sizes
    zero = splat(np.float32(0))
    for row in range(first, last):
        for block in range(blocks.shape[1]):
            col = block * LANES
            a_u, b_u, a_v, b_v = load(u0[row], col), load(du[row], col), load(v0[row], col), load(dv[row], col)
            start_k, end_k = load(k0[row], col), load(k1[row], col)
            by_u0, by_du, by_v0, by_dv, at_start, at_end = zero, zero, zero, zero, zero, zero
            for k in range(blocks[row, block, 0], blocks[row, block, 1]):
                kk = splat(np.float32(k))
                free_u, free_v = a_u + kk * b_u, a_v + kk * b_v
                u, v = clamped(free_u, size_u), clamped(free_v, size_v)
                iu, iv = lower_neighbour(u, size_u), lower_neighbour(v, size_v)
                fu, fv = u - as_float(iu), v - as_float(iv)
                index = iu * splat(np.int32(stride_u)) + iv * splat(np.int32(stride_v))
                base = offset + k * stride_k
                p, q = gather(volume, base, index), gather(volume, base + stride_v, index)
                r, s = gather(volume, base + stride_u, index), gather(volume, base + stride_u + stride_v, index)
                share = slab_share(kk, start_k, end_k)
                nearer, farther = p + fv * (q - p), r + fv * (s - r)
                slope_u = share * (farther - nearer) * _equal(u, free_u)
                slope_v = share * ((q - p) + fu * ((s - r) - (q - p))) * _equal(v, free_v)
                by_u0, by_du = by_u0 + slope_u, by_du + kk * slope_u
                by_v0, by_dv = by_v0 + slope_v, by_dv + kk * slope_v
                sample = nearer + fu * (farther - nearer)
                at_start = at_start + _holds(kk, start_k, size_k) * sample
                at_end = at_end + _holds(kk, end_k, size_k) * sample
            store(result[0, row], col, by_u0)
            store(result[1, row], col, by_du)
            store(result[2, row], col, by_v0)
            store(result[3, row], col, by_dv)
            store(result[4, row], col, zero - at_start)
            store(result[5, row], col, at_end)


@inlined
def _equal(first, second):
    """1 where two vectors agree to rounding, else 0: a clamped position does not move."""
    huge = splat(np.float32(1e9))
    unit = splat(np.float32(1))
    return larger(unit - magnitude(first - second) * huge, splat(np.float32(0)))


@inlined
def _holds(plane, end, size):
    """1 where the end lies in the plane's slab, else 0; ends on the far face belong to the last plane."""
    inside = smaller(larger(end, splat(np.float32(-0.5))), splat(np.float32(size - 0.5)))
    number = as_float(truncated(smaller(inside + splat(np.float32(0.5)), splat(np.float32(size - 1)))))
    return _equal(number, plane)
