"""The discriminators: sizes, coordinates, condition, gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from xrecon.errors import ConfigError, InputError
from xrecon.models.discriminator import Discriminator, conditional_input, coordinate_channels
from xrecon.models.registry import DISCRIMINATORS, create_discriminator, parameter_count


def trio(size: int, batch: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(2)
    shapes = ((batch, 1, size, size, size), (batch, 1, size, size), (batch, 1, size, size))
    ct, pa, lateral = (torch.rand(shape, generator=rng) for shape in shapes)
    return ct, pa, lateral


def test_parameter_counts() -> None:
    assert parameter_count(create_discriminator("coordconv", device="meta")) == 11_067_457
    assert parameter_count(create_discriminator("plain", device="meta")) == 11_055_169


@pytest.mark.parametrize(("size", "scores"), [(64, 11), (128, 19), (224, 31)])
def test_published_score_sizes(size: int, scores: int) -> None:
    net = create_discriminator("coordconv", device="meta", base_channels=2)
    ct, pa, lateral = (one.to("meta") for one in (torch.empty(1, 1, size, size, size), *trio(size)[1:]))
    assert net(ct, pa, lateral).shape == (1, 1, scores, scores, scores)


def test_coordinates_run_from_minus_one_to_one_along_their_axis() -> None:
    grid = coordinate_channels(torch.empty(2, 3, 4, 5, 6))
    assert grid.shape == (2, 3, 4, 5, 6)
    for axis, n in enumerate((4, 5, 6)):
        line = grid[0, axis].movedim(axis, 0)
        torch.testing.assert_close(line[:, 0, 0], torch.linspace(-1, 1, n))
        assert torch.equal(line, line[:, :1, :1].expand_as(line)), "constant across the other axes"


def test_condition_is_the_films_along_their_rays_then_the_volume() -> None:
    ct, pa, lateral = trio(8)
    x = conditional_input(ct, pa, lateral)
    assert x.shape == (1, 3, 8, 8, 8)
    torch.testing.assert_close(x[:, 0:1].mean(3), pa)
    torch.testing.assert_close(x[:, 1:2].mean(4), lateral)
    assert float(x[:, 0].std(2).max()) < 1e-6 and float(x[:, 1].std(3).max()) < 1e-6
    assert torch.equal(x[:, 2:], ct)


def test_only_coordinates_tell_where_a_patch_lies() -> None:
    """A constant volume gives constant inner scores without coordinates, and graded ones with them."""
    ct, film = torch.full((1, 1, 64, 64, 64), 0.5), torch.full((1, 1, 64, 64), 0.5)
    for name, graded in (("plain", False), ("coordconv", True)):
        net = create_discriminator(name, base_channels=2, layers=1)
        with torch.inference_mode():
            inner = net(ct, film, film)[..., 8:-8, 8:-8, 8:-8]
        assert (float(inner.std()) > 1e-4 * float(inner.abs().mean())) is graded


@pytest.mark.parametrize("name", sorted(DISCRIMINATORS))
def test_gradients_reach_the_volume_and_every_parameter_but_not_the_films(name: str) -> None:
    net = create_discriminator(name, base_channels=4)
    ct, pa, lateral = (one.requires_grad_() for one in trio(64))
    scores = net(ct, pa, lateral)
    maps = scores if isinstance(scores, tuple) else (scores,)
    torch.stack([(one - 1).square().mean() for one in maps]).sum().backward()
    assert ct.grad is not None and float(ct.grad.abs().sum()) > 0
    assert pa.grad is None and lateral.grad is None
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().sum()) > 0, key


def test_biases_stand_in_the_first_and_last_layer_only() -> None:
    names = [name for name, _ in create_discriminator("plain", device="meta").named_parameters() if "bias" in name]
    assert names == ["scales.0.layers.0.conv.bias", "scales.0.layers.4.conv.bias"]


def test_features_are_the_layers_before_the_scores() -> None:
    net = create_discriminator("coordconv", base_channels=4)
    with torch.inference_mode():
        scores, features = net(*trio(64), features=True)
        torch.testing.assert_close(net(*trio(64)), scores)
    assert [one.shape[1:3] for one in features[0]] == [(4, 33), (8, 17), (16, 9), (32, 10)]


@pytest.mark.parametrize(("name", "edges"), [("multiscale", (11, 7)), ("coordconv-same", (8,))])
def test_variants_have_their_own_score_maps(name: str, edges: tuple[int, ...]) -> None:
    with torch.inference_mode():
        scores = create_discriminator(name, base_channels=2)(*trio(64, batch=2))
    maps = scores if isinstance(scores, tuple) else (scores,)
    assert [tuple(one.shape) for one in maps] == [(2, 1, n, n, n) for n in edges]


def test_equal_seeds_give_equal_networks() -> None:
    def first(seed: int) -> Tensor:
        net = create_discriminator("plain", base_channels=2, rng=torch.Generator().manual_seed(seed))
        assert isinstance(net, Discriminator)
        return next(net.parameters())

    assert torch.equal(first(1), first(1)) and not torch.equal(first(1), first(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, p, q: (c[0], p, q), "expected a CT"),
        (lambda c, p, q: (c[..., :4], p, q), "expected a CT"),
        (lambda c, p, q: (c, p[..., :4], q), r"the pa film has the shape \(1, 1, 8, 4\)"),
        (lambda c, p, q: (c, p, q.repeat(2, 1, 1, 1)), "the lateral film has the shape"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        conditional_input(*change(*trio(8)))


def test_unknown_names_and_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="did you mean 'coordconv'"):
        create_discriminator("coordcon")
    with pytest.raises(ConfigError, match="unknown key 'layer'; did you mean 'layers'"):
        create_discriminator(layer=3)
