"""Independent work at the same time, for libraries and kernels that release the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def at_once(function: Callable[[_Item], _Result], items: Iterable[_Item], *, threads: int = 2) -> list[_Result]:
    """`function` of every item, in the order of the items; `threads` of them at a time.

    Raises:
        Whatever `function` raises, of the first item that did; items that had not begun are left out.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="xrecon") as pool:
        return list(pool.map(function, items))
