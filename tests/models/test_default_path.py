"""Which path the plain call `net(pa, lateral)` takes, and that every path is the same function."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from xrecon.models import Generator, create, fast
from xrecon.models.config import GeneratorConfig
from xrecon.models.fast.generator import published_levels
from xrecon.models.registry import GENERATORS

Films = tuple[Tensor, Tensor]


def network(slim: dict[str, Any], name: str = "xrecon", **changes: Any) -> Generator:
    net = create(name, size=64, **{**slim, **changes})
    assert isinstance(net, Generator)
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in net.parameters():
            fan = max(parameter[0].numel(), 1)
            parameter.normal_(0.0, (2.0 / fan) ** 0.5 if parameter.dim() > 1 else 0.2, generator=rng)
    return net.eval()


@pytest.fixture
def fast_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Generator]]:
    """The networks whose calls took the fast path."""
    calls: list[Generator] = []
    computed = fast.volume_without_gradients

    def spy(net: Generator, films: Any) -> Tensor:
        calls.append(net)
        return computed(net, films)

    monkeypatch.setattr(fast, "volume_without_gradients", spy)
    yield calls


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", GENERATORS)
def test_the_plain_call_is_fast_and_the_same_function(
    slim: dict[str, Any], films: Films, fast_calls: list[Generator], name: str, guard: Callable[[], Any]
) -> None:
    net = network(slim, name)
    with guard():
        volume, plain = net(*films), net.forward_plain(*films)
    assert fast_calls == [net]
    assert plain.std() > 1e-3, "a constant result would hide differences"
    torch.testing.assert_close(volume, plain, atol=1e-4, rtol=1e-4)


def test_frozen_weights_need_no_guard(slim: dict[str, Any], films: Films, fast_calls: list[Generator]) -> None:
    net = network(slim).requires_grad_(False)
    volume = net(*films)
    assert fast_calls == [net] and not volume.requires_grad
    torch.testing.assert_close(volume, net.forward_plain(*films), atol=1e-4, rtol=1e-4)


def test_gradients_reach_weights_and_films(slim: dict[str, Any], films: Films, fast_calls: list[Generator]) -> None:
    net = network(slim)
    net(*films).mean().backward()
    assert all(p.grad is not None for n, p in net.named_parameters() if n not in net.dead_parameter_names())
    pa = films[0].clone().requires_grad_()
    net.requires_grad_(False)(pa, films[1]).mean().backward()
    assert pa.grad is not None and float(pa.grad.abs().sum()) > 0
    assert fast_calls == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forward_derivatives_reach_the_films(slim: dict[str, Any], films: Films, fast_calls: list[Generator]) -> None:
    net = network(slim)
    with torch.no_grad():
        _, derivative = torch.func.jvp(lambda pa: net(pa, films[1]), (films[0],), (torch.ones_like(films[0]),))
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(films[0], torch.ones_like(films[0]))
            tangent = torch.autograd.forward_ad.unpack_dual(net(dual, films[1])).tangent
    assert tangent is not None and fast_calls == []
    torch.testing.assert_close(derivative, tangent)


def test_training_mode_keeps_the_plain_pass_and_its_dropout(
    slim: dict[str, Any], films: Films, fast_calls: list[Generator]
) -> None:
    net = network(slim).train()
    with torch.no_grad():
        assert not torch.equal(net(*films), net(*films))
    assert fast_calls == []


def test_changed_weights_count_at_the_next_call(
    slim: dict[str, Any], films: Films, fast_calls: list[Generator]
) -> None:
    net, other = network(slim), create("xrecon", size=64, rng=torch.Generator().manual_seed(9), **slim).eval()

    def check(volume: Tensor) -> None:
        torch.testing.assert_close(volume, net.forward_plain(*films), atol=1e-4, rtol=1e-4)

    with torch.no_grad():
        volumes = [net(*films)]
        for block in (net.trunk.stage(3).compress, net.branch("pa").stage(4).compress):
            block.conv.get_parameter("weight").mul_(torch.linspace(-1, 2, 3))  # in place
            volumes.append(net(*films))
            check(volumes[-1])
        net.load_state_dict(other.state_dict())
        volumes.append(net(*films))
        check(volumes[-1])
        head = net.trunk.rendering.heads[4]  # type: ignore[union-attr, index]
        head.weight.data = head.weight.data + 0.5  # another memory
        volumes.append(net(*films))
        check(volumes[-1])
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(volumes))
    assert len(fast_calls) == len(volumes)


def test_a_copy_has_its_own_weights(slim: dict[str, Any], films: Films) -> None:
    net = network(slim)
    with torch.no_grad():
        before = net(*films)
        twin = copy.deepcopy(net)
        for parameter in twin.parameters():
            parameter.add_(0.01)
        assert torch.equal(net(*films), before) and not torch.equal(twin(*films), before)
    assert net.state_dict().keys() == twin.state_dict().keys()


def test_a_batch_and_repeated_calls(slim: dict[str, Any], films: Films, fast_calls: list[Generator]) -> None:
    net = network(slim)
    pa, lateral = (torch.cat([film, film.flip(-1), film.flip(-2)]) for film in films)
    with torch.inference_mode():
        volumes = net(pa, lateral)
        assert volumes.shape == (3, 1, 64, 64, 64) and torch.equal(volumes, net(pa, lateral))
        torch.testing.assert_close(volumes, net.forward_plain(pa, lateral), atol=1e-4, rtol=1e-4)
    assert fast_calls == [net, net]


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-9), (torch.bfloat16, 0.3)])
def test_weights_of_another_precision(
    slim: dict[str, Any], films: Films, fast_calls: list[Generator], dtype: torch.dtype, limit: float
) -> None:
    net = network(slim).to(dtype)
    with torch.inference_mode():
        volume, plain = (call(*(film.to(dtype) for film in films)) for call in (net, net.forward_plain))
    assert volume.dtype == plain.dtype == dtype and fast_calls == [net]
    assert (volume - plain).abs().mean() < limit * plain.std()


def test_autocast(slim: dict[str, Any], films: Films, fast_calls: list[Generator]) -> None:
    net = network(slim)
    with torch.inference_mode():
        exact = net.forward_plain(*films)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            volume = net(*films)
    assert fast_calls == [net]
    assert (volume.float() - exact).abs().mean() < 0.3 * exact.std()


def _listen(net: Generator) -> None:
    net.trunk.stage(1).register_forward_hook(lambda *_: None)


def _parametrise(net: Generator) -> None:
    nn.utils.parametrizations.weight_norm(net.trunk.stage(3).compress.conv)


def _replace(net: Generator) -> None:
    class Doubled(nn.Conv3d):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    assert net.trunk.rendering is not None
    before = net.trunk.rendering.heads[4]
    assert isinstance(before, nn.Conv3d)
    after = Doubled(before.in_channels, 1, 1)
    after.load_state_dict(before.state_dict())
    net.trunk.rendering.heads[4] = after


@pytest.mark.parametrize("change", [_listen, _parametrise, _replace], ids=lambda change: change.__name__)
def test_changed_parts_keep_the_plain_pass(
    slim: dict[str, Any], films: Films, fast_calls: list[Generator], change: Callable[[Generator], None]
) -> None:
    net = network(slim)
    change(net)
    with torch.no_grad():
        assert torch.equal(net(*films), net.forward_plain(*films))
    assert fast_calls == []


def test_hooks_on_the_network_itself_fire(slim: dict[str, Any], films: Films, fast_calls: list[Generator]) -> None:
    net = network(slim)
    shapes: list[torch.Size] = []
    net.register_forward_hook(lambda _module, _inputs, volume: shapes.append(volume.shape))
    with torch.no_grad():
        net(*films)
    assert shapes == [(1, 1, 64, 64, 64)] and fast_calls == [net]


def test_exported_graphs_hold_the_published_modules(
    slim: dict[str, Any], films: Films, fast_calls: list[Generator]
) -> None:
    net = network(slim, dense_layers=(1, 1, 1, 1, 1))
    with torch.no_grad():
        plain = net.forward_plain(*films)
        exported = torch.export.export(net, films).module()
        assert torch.equal(exported(*films), plain)
    assert fast_calls == []


def test_a_batch_of_none_gives_none(slim: dict[str, Any], fast_calls: list[Generator]) -> None:
    with torch.no_grad():
        volumes = network(slim)(torch.rand(0, 1, 64, 64), torch.rand(0, 1, 64, 64))
    assert volumes.shape == (0, 1, 64, 64, 64) and fast_calls == []


@pytest.mark.parametrize(("size", "levels"), [(64, 4), (96, 3), (128, 3), (224, 2), (512, 1)])
def test_coarse_levels_are_computed_as_published(size: int, levels: int) -> None:
    assert published_levels(GeneratorConfig(size=size)) == levels


def test_few_voxels_are_rounded_as_published(slim: dict[str, Any], films: Films) -> None:
    """Normalisation over nearly constant volumes multiplies rounding; the coarse levels are spared another rounding."""
    net = network(slim)
    with torch.no_grad():
        for view in ("pa", "lateral"):
            # Two base volumes of nearly one value: their normalisation divides by nearly nothing.
            net.branch(view).base_link.linear.weight.mul_(1e-5)
            net.branch(view).base_link.linear.bias.fill_(0.1)
        plain, default, every_level = net.forward_plain(*films), net(*films), fast.fast_forward(net, *films)
    assert (default - plain).abs().max() < 0.5 * (every_level - plain).abs().max()
