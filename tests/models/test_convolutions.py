"""Halves of a volume give what the whole gives, in value and gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor

from xrecon.models.convolutions import convolved, doubled, one_channel


def _plain(volume: Tensor, kernel: Tensor) -> Tensor:
    return functional.conv3d(volume, kernel, padding=1)


def _plain_up(volume: Tensor, kernel: Tensor) -> Tensor:
    return functional.conv_transpose3d(volume, kernel, stride=2, padding=1, output_padding=1)


@pytest.mark.parametrize(("fast", "plain"), [(convolved, _plain), (doubled, _plain_up)])
@pytest.mark.parametrize("shape", [(1, 3, 2, 5, 4), (1, 3, 8, 6, 7), (1, 3, 7, 6, 5), (2, 3, 4, 4, 4)])
def test_value_and_gradient(
    fast: Callable[[Tensor, Tensor], Tensor], plain: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...]
) -> None:
    draw = torch.Generator().manual_seed(0)
    volume, kernel = torch.randn(shape, generator=draw), torch.randn(3, 3, 3, 3, 3, generator=draw)
    results = []
    for function in (fast, plain):
        leaves = [one.clone().requires_grad_() for one in (volume, kernel)]
        out = function(*leaves)
        out.backward(torch.cos(torch.arange(out.numel(), dtype=torch.float32)).reshape(out.shape))
        results.append([out.detach(), *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*results, strict=True):
        assert ours.shape == theirs.shape
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("edge", [1, 3, 7])
@pytest.mark.parametrize("shape", [(1, 2, 8, 7, 9), (1, 2, 3, 7, 8), (2, 2, 8, 7, 9)])
def test_one_channel(edge: int, shape: tuple[int, ...]) -> None:
    draw = torch.Generator().manual_seed(1)
    leaves = [torch.randn(size, generator=draw) for size in (shape, (1, 2, edge, edge, edge), (1,))]
    results = []
    for function in (one_channel, lambda v, k, b: functional.conv3d(v, k, b, padding=edge // 2)):
        ours = [leaf.clone().requires_grad_() for leaf in leaves]
        out = function(*ours)
        out.backward(torch.cos(torch.arange(out.numel(), dtype=torch.float32)).reshape(out.shape))
        results.append([out.detach(), *(leaf.grad for leaf in ours)])
    for first, second in zip(*results, strict=True):
        assert first.shape == second.shape
        assert torch.allclose(first, second, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("autocast", [False, True])
def test_one_channel_in_bfloat16(autocast: bool) -> None:
    draw = torch.Generator().manual_seed(2)
    volume, kernel, bias = (torch.randn(size, generator=draw) for size in ((1, 2, 8, 7, 9), (1, 2, 7, 7, 7), (1,)))
    exact = functional.conv3d(volume, kernel, bias, padding=3)
    leaves = [leaf.to(torch.float32 if autocast else torch.bfloat16) for leaf in (volume, kernel, bias)]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        rounded = one_channel(*leaves)
    assert rounded.dtype == torch.bfloat16
    assert float((rounded.float() - exact).norm()) < 0.01 * float(exact.norm())
