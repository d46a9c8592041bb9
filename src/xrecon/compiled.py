"""Functions compiled by numba: one decorator for all of them, which also works where nothing can be written.

numba keeps compiled code on disk, beside the source or in the user's cache folder, and refuses to compile at all where
neither can be written ("no locator available"), as in many containers. There `compiled` compiles without keeping.
Importing this module loads numba: only modules that hold compiled functions import it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def compiled(**options: Any) -> Callable[[FunctionT], FunctionT]:
    """Decorator: compile at the first call, without the interpreter's lock, and keep the result on disk where possible.

    Args:
        options: further ones of `numba.njit`, such as `parallel` or `fastmath`.

    Example:
        >>> @compiled()
        ... def double(x):
        ...     return 2 * x
        >>> double(3)
        6
    """
    options = {"nogil": True, **options}

    def decorate(function: FunctionT) -> FunctionT:
        try:
            return cast("FunctionT", njit(cache=True, **options)(function))
        except RuntimeError:  # no folder for the cache: it would be compiled in every process
            return cast("FunctionT", njit(**options)(function))

    return decorate


def inlined(function: FunctionT) -> FunctionT:
    """Decorator for a small helper of compiled functions: its body is copied into each caller, and kept there."""
    return cast("FunctionT", njit(inline="always")(function))
