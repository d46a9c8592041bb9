"""Signatures such as `Float[Tensor, "batch 1 depth height width"]` are checked at every call while the tests run.

jaxtyping's import hook wraps the functions of the modules below; beartype compares arguments and results. Only what
jaxtyping describes is checked, tensors and arrays: numbers and sequences come in more forms than signatures say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args

import jaxtyping
import pytest
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray

SHAPE_CHECKED = tuple(
    f"xrecon.{name}"
    for name in (
        "models.blocks",
        "models.convolutions",
        "models.discriminator",
        "models.fast.generator",
        "models.fast.linker",
        "models.generator",
        "models.lung_network",
        "models.precision",
        "projector.attenuation",
        "projector.backends.aligned",
        "projector.backends.backend",
        "projector.backends.buffers",
        "projector.backends.bundles",
        "projector.backends.compiled",
        "projector.backends.lines",
        "projector.backends.reference",
        "projector.backends.registry",
        "projector.detector",
        "projector.operator",
        "projector.prost",
        "projector.rays",
        "projector.scene",
        "projector.spectrum",
    )
)
"""Modules, or packages with all they hold, whose signatures are checked. Modules that numba compiles cannot be."""

_CONFIGURATION = BeartypeConf(is_pep484_tower=True)  # an int is a float


def check_shapes(modules: Sequence[str]) -> None:
    """Check the shapes in the signatures of these modules, which must not have been imported yet."""
    jaxtyping.install_import_hook(modules, "support.shapes.shape_checker")


def shape_checker(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let beartype check those arguments of a function, and its result, that jaxtyping describes."""
    hints = {name: hint for name, hint in function.__annotations__.items() if _describes_a_shape(hint)}
    function.__annotations__ = hints
    return beartype(conf=_CONFIGURATION)(function) if hints else function


def _describes_a_shape(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(_describes_a_shape(part) for part in get_args(hint))


@pytest.fixture
def without_shape_checks() -> Iterator[None]:
    """For a test that gives wrong shapes on purpose and expects the function's own message."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
