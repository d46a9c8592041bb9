"""When the plain call of a generator may take the fast path."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from xrecon.geometry import View
from xrecon.models import blocks
from xrecon.models.generator import FusionTrunk, Generator, MFusionRen, ViewBranch

_PARTS = frozenset(
    (
        *(Generator, ViewBranch, FusionTrunk, MFusionRen),
        *(blocks.Stem, blocks.EncoderStage, blocks.DenseLayer, blocks.BaseLink, blocks.Linker),
        *(blocks.DecoderStage, blocks.ConvNormReLU, blocks.UpBlock),
        *(nn.ModuleDict, nn.ModuleList, nn.Sequential),
        *(nn.Conv2d, nn.Conv3d, nn.ConvTranspose3d, nn.Linear),
        *(nn.InstanceNorm2d, nn.InstanceNorm3d, nn.Dropout),
    )
)
"""What an unchanged generator is made of."""


def applies(net: Generator, films: Mapping[View, Tensor]) -> bool:
    """Whether `net(pa, lateral)` may take the fast path instead of its plain forward pass.

    It may in evaluation mode where nobody asks for gradients, forward-mode derivatives included, no graph is recorded
    (give `FastGenerator` to torch.compile and torch.export), and the network is made of its own plain modules.
    The fast path reads the weights of modules that it does not call. So hooks on a part of the network, parametrised
    weights, and parts that were replaced, as quantisation and sharding do, keep the plain pass, which honours them.
    """
    return (
        not net.training
        and not torch.compiler.is_compiling()
        and all(_is_plain(film) for film in films.values())
        and not (torch.is_grad_enabled() and _asks_for_gradients(net, films))
        and not nn.modules.module._has_any_global_hook()  # type: ignore[no-untyped-call]
        and type(net) is Generator
        and all(_is_own(module) for module in net.modules() if module is not net)
    )


def _is_plain(film: Tensor) -> bool:
    """Whether this is a tensor with values, at least one case, of no transform such as vmap or a forward derivative."""
    return (
        type(film) is Tensor
        and film.shape[0] > 0
        and not film.is_meta
        and not torch._C._functorch.is_functorch_wrapped_tensor(film)
        and forward_ad.unpack_dual(film).tangent is None  # type: ignore[no-untyped-call]
    )


def _asks_for_gradients(net: Generator, films: Mapping[View, Tensor]) -> bool:
    return any(film.requires_grad for film in films.values()) or any(p.requires_grad for p in net.parameters())


def _is_own(module: nn.Module) -> bool:
    """Whether a part is unchanged, nobody listens to its calls, and its weights are ordinary tensors."""
    listened_to = module._forward_hooks or module._forward_pre_hooks
    return (
        type(module) in _PARTS
        and not listened_to
        and all(type(weight) in (nn.Parameter, Tensor) for weight in module._parameters.values() if weight is not None)
    )
