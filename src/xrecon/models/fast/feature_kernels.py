"""Compiled passes over feature volumes: normalise, add, collect statistics, average, contract.

Volumes lie channels last: [D, H, W, C] float32, seen here as rows [D * H, W * C]. Each pass reads its volume once.
Statistics are collected around a pivot near the mean, so that float32 sums of one task lose nothing to cancellation.
The tasks of a pass write disjoint rows; the kernels hold no lock of the interpreter.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from xrecon.compiled import compiled

NO_ADDEND, BY_HEIGHT, BY_WIDTH = 0, 1, 2
"""How the addend of `finish` varies: absent; five classes along H (PA), or along W (lateral)."""

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
ResultT = TypeVar("ResultT")

_kernel = compiled(fastmath={"contract", "nsz", "arcp", "reassoc"}, boundscheck=False, error_model="numpy")

_RANGES_PER_THREAD = 4


def in_parallel(task: Callable[[int, int], ResultT], rows: int) -> list[ResultT]:
    """Results of `task(first, last)` for ranges that cover `rows`, in their order, on as many threads as torch uses."""
    threads = torch.get_num_threads()
    if rows == 0:
        return []
    if threads == 1:
        return [task(0, rows)]
    # Threads of torch's own operations spin for a while after their work. Short ranges go to the cores that are free.
    count = min(_RANGES_PER_THREAD * threads, rows)
    edges = [rows * k // count for k in range(count + 1)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(task, edges[:-1], edges[1:]))


@_kernel
def normalise(
    source: Floats, mean: Floats, scale: Floats, target: Floats, layout: tuple[int, ...], first: int, last: int
) -> None:
    """target = relu((source - mean) * scale) for rows first..last of the source.

    Args:
        source: [rows, W * C].
        mean, scale: [W * C], those of the channels repeated.
        target: [rows', >= W * C'] where C' >= C is the number of channels of the target.
        layout: (H of the source, H of the target, first plane in the target, C, C', first channel in the target).
    """
    height, target_height, plane, channels, target_channels, begin = layout
    length = source.shape[1]
    for row in range(first, last):
        line = source[row]
        to = target[(row // height + plane) * target_height + row % height]
        if channels == target_channels:
            for i in range(length):
                to[i] = max((line[i] - mean[i]) * scale[i], np.float32(0))
        else:
            for w in range(length // channels):
                for c in range(channels):
                    i = w * channels + c
                    to[w * target_channels + begin + c] = max((line[i] - mean[i]) * scale[i], np.float32(0))


@_kernel
def finish(
    source: Floats, target: Floats, addend: Floats, layout: tuple[int, ...], statistics: Doubles, first: int, last: int
) -> None:
    """target = source + addend for rows first..last of the result, with the statistics of what is written.

    Args:
        source: [rows, W * C] of a convolution.
        target: [D' * H', W * C].
        addend: NO_ADDEND: [1, W * C] zeros. BY_HEIGHT: [5 * D', W * C]. BY_WIDTH: [D' * H', 5 * C].
        layout: (mode, rows per plane that count, rows per plane of the source, step between target rows and planes,
            first target plane, first target row, H' of the target, C).
        statistics: [3, C] float64, filled with pivot, sum and sum of squares around the pivot.
    """
    mode, height, source_height, step, plane, shift, target_height, channels = layout
    length = source.shape[1]
    width = length // channels
    depth = target.shape[0] // target_height
    built = np.zeros(length, np.float32)
    pivot = np.zeros(length, np.float32)
    total = np.zeros(length, np.float32)
    square = np.zeros(length, np.float32)
    middle = (first + last) // 2
    line = source[middle // height * source_height + middle % height]
    for c in range(channels):
        value = np.float32(0)
        for w in range(width):
            value += line[w * channels + c]
        for w in range(width):
            pivot[w * channels + c] = value / np.float32(width)
    for row in range(first, last):
        line = source[row // height * source_height + row % height]
        d, h = plane + row // height * step, shift + row % height * step
        to = target[d * target_height + h]
        more = addend[0]
        if mode == 1:
            kind = h if h < 2 else (2 if h < target_height - 2 else h - target_height + 5)
            more = addend[kind * depth + d]
        elif mode == 2:
            classes = addend[d * target_height + h]
            for w in range(width):
                kind = w if w < 2 else (2 if w < width - 2 else w - width + 5)
                for c in range(channels):
                    built[w * channels + c] = classes[kind * channels + c]
            more = built
        for i in range(length):
            value = line[i] + more[i]
            to[i] = value
            value -= pivot[i]
            total[i] += value
            square[i] += value * value
    for c in range(channels):
        channel_total, channel_square = 0.0, 0.0
        for w in range(width):
            channel_total += total[w * channels + c]
            channel_square += square[w * channels + c]
        statistics[0, c] = pivot[c]
        statistics[1, c] = channel_total
        statistics[2, c] = channel_square


@_kernel
def accumulate(
    source: Floats, mean: Floats, scale: Floats, factor: np.float32, target: Floats, first: int, last: int
) -> None:
    """target += factor * relu((source - mean) * scale), all [rows, W * C] but mean and scale [W * C]."""
    for row in range(first, last):
        line, to = source[row], target[row]
        for i in range(source.shape[1]):
            to[i] += factor * max((line[i] - mean[i]) * scale[i], np.float32(0))


@_kernel
def contract(
    source: Floats, mean: Floats, scale: Floats, weight: Floats, target: Floats, first: int, last: int
) -> None:
    """target[row, w] = sum over channels of weight * relu((source - mean) * scale); mean, scale, weight [C]."""
    channels = len(weight)
    for row in range(first, last):
        line, to = source[row], target[row]
        for w in range(len(to)):
            value = np.float32(0)
            for c in range(channels):
                value += weight[c] * max((line[w * channels + c] - mean[c]) * scale[c], np.float32(0))
            to[w] = value
