"""Memory for volumes that come and go with every projection: kept by the process, so that it is mapped only once.

A gradient of 224^3 voxels lives for one training step. Where it is fresh memory each time, the system clears its pages
when they are first touched, which costs as much as a projection.
"""

from __future__ import annotations

import math
import threading
import weakref
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xrecon.projector.backends.simd import LANES

MOST_KEPT_BYTES = 2**28
"""Larger volumes are given back to the system."""

_lock = threading.RLock()  # a collection of garbage may run `_give_back` while the lock is held
_kept: list[NDArray[np.float32]] = []


class _Lease:
    """Lends a room to one array; numpy and torch keep it alive as long as anything views the memory."""

    def __init__(self, room: NDArray[np.float32]) -> None:
        self.__array_interface__: dict[str, Any] = room.__array_interface__
        self._room = room
        if room.nbytes <= MOST_KEPT_BYTES:
            weakref.finalize(self, _give_back, room).atexit = False


def _give_back(room: NDArray[np.float32]) -> None:
    with _lock:
        _kept[:] = [room]  # one is enough for a loop, and never more than that lies idle


def borrowed(shape: tuple[int, ...]) -> Tensor:
    """A float32 tensor on the CPU with arbitrary content that begins at a cache line; its memory may be used again.

    numpy asks for large pages and torch does not, so the memory is numpy's.
    """
    count = math.prod(shape)
    room = None
    with _lock:
        if _kept and _kept[0].size == count + LANES:
            room = _kept.pop()
    if room is None:
        forget()
        room = np.empty(count + LANES, np.float32)
    skip = -(room.ctypes.data // 4) % LANES
    return torch.from_numpy(np.asarray(_Lease(room)))[skip : skip + count].reshape(shape)


def forget() -> None:
    """Give what lies idle back to the system."""
    with _lock:
        _kept.clear()
