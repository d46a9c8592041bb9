"""Memory for gradients that come and go with every training step: the process keeps it, so that it is mapped once.

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
from jaxtyping import Float32
from numpy.typing import NDArray
from torch import Tensor

from xrecon.projector.backends.simd import LANES

LARGEST_IDLE_BYTES = 2**28
"""Memory of larger volumes is given back to the system at once."""

_lock = threading.RLock()  # a collection of garbage may run `_give_back` while the lock is held
_idle: list[NDArray[np.float32]] = []


class _Lease:
    """Lends memory to one array; numpy and torch keep the lease alive as long as anything views the memory."""

    def __init__(self, memory: NDArray[np.float32]) -> None:
        self.__array_interface__: dict[str, Any] = memory.__array_interface__
        self._memory = memory
        if memory.nbytes <= LARGEST_IDLE_BYTES:
            weakref.finalize(self, _give_back, memory).atexit = False


def _give_back(memory: NDArray[np.float32]) -> None:
    with _lock:
        _idle[:] = [memory]  # one is enough for a loop, and never more than that lies idle


def borrowed(shape: tuple[int, ...]) -> Float32[Tensor, "*shape"]:
    """A float32 tensor on the CPU that begins at a cache line; its content is whatever the memory held before.

    numpy asks for large pages and torch does not, so the memory is numpy's.
    """
    count = math.prod(shape)
    memory = None
    with _lock:
        if _idle and _idle[0].size == count + LANES:
            memory = _idle.pop()
    if memory is None:
        forget()
        memory = np.empty(count + LANES, np.float32)
    skip = -(memory.ctypes.data // 4) % LANES
    return torch.from_numpy(np.asarray(_Lease(memory)))[skip : skip + count].reshape(shape)


def idle_bytes() -> int:
    """Memory that lies idle and waits for the next volume of its size."""
    with _lock:
        return sum(memory.nbytes for memory in _idle)


def forget() -> None:
    """Give idle memory back to the system."""
    with _lock:
        _idle.clear()
