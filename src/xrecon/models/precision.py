"""A generator in the precision of choice: `run` for one pair of films, `prepare` for many.

For float32 alone a network needs none of this: in evaluation mode and without gradients `net(pa, lateral)` is as fast.
Here the mode does not matter, and bfloat16 and OpenVINO are a word each. docs/networks.md holds the measured time and
error of each precision.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from collections.abc import Callable, Iterator
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from xrecon.errors import ConfigError, InputError, MissingPartError
from xrecon.geometry import VIEWS
from xrecon.models.fast import FastGenerator
from xrecon.models.generator import Generator

Precision = Literal["float32", "bfloat16", "openvino"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

Runner = Callable[["Tensor | None", "Tensor | None"], Tensor]
"""A function (pa, lateral) to volume: [N, 1, S, S] each to [N, 1, D, H, W]."""


def run(
    net: Generator,
    pa: Float[Tensor, "batch 1 size size"] | None,
    lateral: Float[Tensor, "batch 1 size size"] | None,
    *,
    precision: Precision = "float32",
) -> Float[Tensor, "batch 1 size size size"]:
    """The volume of a pair of films by the fast path, without gradients.

    Args:
        net: the network; dropout is off here whatever its mode.
        pa, lateral: [N, 1, S, S] in 0..1; a network of a single view ignores the other, which may be None.
        precision: "float32": exact to rounding, every level by the fast path. "bfloat16": products and stored volumes
            in bfloat16, statistics in float32; fast only where the processor multiplies bfloat16. "openvino": OpenVINO
            on the CPU, in the precision that it prefers: bfloat16 where the processor multiplies it, else float32.

    Returns: [N, 1, D, H, W] float32 in the network range, not clipped.

    Raises:
        ConfigError: an unknown precision.
        InputError: films that do not fit; OpenVINO with a network on another device.
        MissingPartError: "openvino" without the package.
    """
    return prepare(net, precision=precision)(pa, lateral)


def prepare(net: Generator, *, precision: Precision = "float32") -> Runner:
    """A function (pa, lateral) to volume. For OpenVINO the network is converted once, with the weights it has now.

    Arguments and errors as for `run`.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision {precision!r}: expected one of {', '.join(PRECISIONS)}")
    if precision == "openvino":
        return _openvino(net)
    fast = FastGenerator(net)
    device = next(net.parameters()).device.type

    def runner(pa: Tensor | None, lateral: Tensor | None) -> Tensor:
        reduced: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if precision == "bfloat16":
            reduced = torch.autocast(device, dtype=torch.bfloat16)
        with _evaluating(net), torch.no_grad(), reduced:
            volume: Tensor = fast(pa, lateral)
        return volume.float()

    return runner


def _openvino(net: Generator) -> Runner:
    try:
        openvino = importlib.import_module("openvino")
    except ImportError as error:
        raise MissingPartError(
            "precision 'openvino' needs the package openvino, which is not installed: pip install 'xrecon[fast]', or "
            "take precision 'float32'"
        ) from error
    weight = next(net.parameters())
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        raise InputError(
            f"precision 'openvino' runs float32 networks on the CPU, this one is {weight.dtype} on {weight.device}; "
            "move it with net.to('cpu', torch.float32)"
        )
    size = net.config.size
    example = (torch.zeros(1, 1, size, size), torch.zeros(1, 1, size, size))
    with _evaluating(net), torch.no_grad(), _quiet():
        exported = torch.export.export(FastGenerator(net), example)
        compiled = openvino.compile_model(openvino.convert_model(exported), "CPU")
    # A film that the network ignores is no input of the converted model.
    used = [VIEWS.index(view) for view in VIEWS if view in net.config.views]
    takes = range(len(VIEWS)) if len(compiled.inputs) == len(VIEWS) else used

    def runner(pa: Tensor | None, lateral: Tensor | None) -> Tensor:
        films = net.checked_films(pa, lateral)
        count = next(iter(films.values())).shape[0]
        blank = torch.zeros(count, 1, size, size)
        inputs = [films.get(VIEWS[k], blank).detach().float().numpy() for k in takes]
        volumes = [compiled([film[n : n + 1] for film in inputs])[0] for n in range(count)]
        return torch.cat([torch.from_numpy(volume) for volume in volumes])

    return runner


@contextlib.contextmanager
def _evaluating(net: Generator) -> Iterator[None]:
    """Dropout off, the network's own mode afterwards."""
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Conversion prints and warns about its own internals."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
