"""Films: simulated from a CT, and as the networks see them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xrecon.films.normalisation import network_film as network_film
    from xrecon.films.simulation import film_pair as film_pair
    from xrecon.films.simulation import simulate as simulate

_HOME = {
    "film_pair": "xrecon.films.simulation",
    "network_film": "xrecon.films.normalisation",
    "simulate": "xrecon.films.simulation",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'xrecon.films' has no attribute {name!r}")
