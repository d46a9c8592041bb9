"""Follow a steady velocity field from many points at once: compiled, because a collapse takes millions of samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrecon.compiled import compiled, inlined


@inlined
def _corner(x: float, count: int) -> tuple[int, float]:
    """Lower neighbour and fraction of a position, held inside the grid."""
    x = min(max(x, 0.0), count - 1.001)
    low = int(x)
    return low, x - low


@compiled()
def _sample(fields: NDArray[Any], d: float, h: float, w: float, out: NDArray[Any]) -> None:
    """All fields [D, H, W, K] at one position in voxels, linear between voxels."""
    i, a = _corner(d, fields.shape[0])
    j, b = _corner(h, fields.shape[1])
    k, c = _corner(w, fields.shape[2])
    for f in range(fields.shape[3]):
        front = (fields[i, j, k, f] * (1 - c) + fields[i, j, k + 1, f] * c) * (1 - b) + (
            fields[i, j + 1, k, f] * (1 - c) + fields[i, j + 1, k + 1, f] * c
        ) * b
        rear = (fields[i + 1, j, k, f] * (1 - c) + fields[i + 1, j, k + 1, f] * c) * (1 - b) + (
            fields[i + 1, j + 1, k, f] * (1 - c) + fields[i + 1, j + 1, k + 1, f] * c
        ) * b
        out[f] = front * (1 - a) + rear * a


@compiled()
def step_back(place: NDArray[np.float32], fields: NDArray[np.float32], step: float) -> NDArray[np.float32]:
    """One midpoint step against the flow.

    Args:
        place: [N, 4] position (d, h, w) in voxels, and the logarithm of the density gathered so far.
        fields: [D, H, W, 4] velocity (d, h, w) in voxels per unit of time, and its divergence; each axis has at least
            two voxels.
        step: of time.
    """
    out = np.empty_like(place)
    rate = np.empty(4, dtype=np.float32)
    for n in range(place.shape[0]):
        d, h, w = place[n, 0], place[n, 1], place[n, 2]
        _sample(fields, d, h, w, rate)
        half = 0.5 * step
        _sample(fields, d - half * rate[0], h - half * rate[1], w - half * rate[2], rate)
        for a in range(4):
            out[n, a] = place[n, a] - step * rate[a]
    return out


@compiled()
def inside_share(place: NDArray[np.float32], depth: NDArray[np.float32], weight: NDArray[np.float32]) -> float:
    """Weighted number of points [N, 4] whose depth [D, H, W, 1] (in voxels) is above 0; soft over one voxel."""
    total = 0.0
    value = np.empty(1, dtype=np.float32)
    for n in range(place.shape[0]):
        _sample(depth, place[n, 0], place[n, 1], place[n, 2], value)
        total += weight[n] * min(max(value[0] + 0.5, 0.0), 1.0)
    return total
