"""Compiled kernels on as many threads as torch uses."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

_pool: ThreadPoolExecutor | None = None
_pool_threads = 0


def ranges(size: int, *, multiple: int, count: int) -> list[tuple[int, int]]:
    """At most `count` ranges of about equal length that begin at multiples; the last one holds a whole multiple."""
    whole = max(1, size // multiple)
    edges = sorted({round(i * whole / min(count, whole)) * multiple for i in range(min(count, whole))})
    return list(zip(edges, [*edges[1:], size], strict=True))


def run_tasks(kernel: Callable[..., None], tasks: Sequence[tuple[Any, ...]]) -> None:
    """Call a kernel with the arguments of every task; kernels release the interpreter's lock."""
    global _pool, _pool_threads
    threads = min(torch.get_num_threads(), len(tasks))
    if threads <= 1:
        for task in tasks:
            kernel(*task)
        return
    # This thread takes a share: one thread fewer to wake up.
    if _pool is None or _pool_threads < threads - 1:
        _pool, _pool_threads = ThreadPoolExecutor(threads - 1, thread_name_prefix="xrecon-projector"), threads - 1
    waiting = iter(tasks)  # next() of an iterator over a sequence is safe between threads

    def work() -> None:
        for task in waiting:
            kernel(*task)

    others = [_pool.submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        for other in others:
            other.result()


def _forget_pool() -> None:
    """A forked process inherits the object but none of its threads."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
