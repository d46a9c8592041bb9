"""The generator: shapes, axes, parameter counts, gradients, ablations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from xrecon.errors import ConfigError, InputError
from xrecon.geometry import VIEWS, View
from xrecon.models.blocks import expand_film, to_dhw, to_view
from xrecon.models.config import GeneratorConfig
from xrecon.models.generator import Generator, MFusionRen
from xrecon.models.registry import GENERATORS, build, create, parameter_count

Films = tuple[Tensor, Tensor]
ABLATIONS = sorted(GENERATORS)


def count(module: torch.nn.Module) -> int:
    return parameter_count(module)


def slim_net(slim: dict[str, Any], name: str = "xrecon", size: int = 64, **fields: Any) -> Generator:
    """With large weights, so that no signal dies on its way through a narrow network."""
    net = create(name, size=size, **{**slim, **fields})
    assert isinstance(net, Generator)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0.0, 0.5, generator=rng)
    return net.eval()


# --- sizes and axes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [64, 96, 128])
def test_two_films_give_a_cube_of_their_size(slim: dict[str, Any], size: int) -> None:
    net = slim_net(slim, size=size)
    with torch.inference_mode():
        batch = 2 if size == 64 else 1
        ct = net(torch.rand(batch, 1, size, size), torch.rand(batch, 1, size, size))
    assert ct.shape == (batch, 1, size, size, size)
    assert bool(torch.isfinite(ct).all()) and float(ct.std()) > 0


@settings(deadline=None, max_examples=10)
@given(shape=st.tuples(*(st.integers(1, 5) for _ in range(5))), view=st.sampled_from(VIEWS))
def test_view_axes_and_back_is_the_identity(shape: tuple[int, ...], view: View) -> None:
    volume = torch.arange(torch.Size(shape).numel()).reshape(shape)
    assert torch.equal(to_dhw(to_view(volume, view), view), volume)
    assert torch.equal(to_view(to_dhw(volume, view), view), volume)


def test_view_axes_are_depth_rows_columns() -> None:
    volume = torch.empty(1, 1, 2, 3, 4)  # D 2, H 3, W 4
    assert to_view(volume, "pa").shape[2:] == (3, 2, 4)  # depth H, rows D, columns W
    assert to_view(volume, "lateral").shape[2:] == (4, 2, 3)  # depth W, rows D, columns H


def test_an_expanded_film_is_constant_along_its_rays() -> None:
    film = torch.rand(1, 1, 4, 4)
    for h in range(4):
        assert torch.equal(expand_film(film, "pa")[:, :, :, h, :], film)
        assert torch.equal(expand_film(film, "lateral")[:, :, :, :, h], film)


def test_each_film_moves_the_result(slim: dict[str, Any], films: Films) -> None:
    net, (pa, lateral) = slim_net(slim), films
    with torch.inference_mode():
        ct = net(pa, lateral)
        assert not torch.allclose(ct, net(pa.flip(-1), lateral))
        assert not torch.allclose(ct, net(pa, lateral.flip(-1)))
        assert torch.equal(ct, net(pa, lateral)), "the same input gives the same bits"


# --- published parameter counts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("xrecon", {"size": 224}, 98_799_735),
        ("xrecon", {"size": 128}, 37_517_943),
        ("xrecon-without-mfusionren", {"size": 224}, 98_804_707),
        ("xrecon-without-mfusionren", {"size": 128}, 37_522_915),
    ],
)
def test_parameter_counts(name: str, fields: dict[str, Any], expected: int) -> None:
    assert count(create(name, device="meta", **fields)) == expected


def test_x2ct_gan_has_its_published_size() -> None:
    assert round(count(create("x2ct-gan", device="meta")) / 1e6, 1) == 61.7
    assert round(count(create("x2ct-gan", size=224, device="meta")) / 1e6, 1) == 162.4


def test_parameter_counts_of_the_parts() -> None:
    net = create("xrecon", size=128, device="meta")
    assert isinstance(net, Generator)
    for view in VIEWS:
        branch = net.branch(view)
        assert count(branch) == 17_275_705
        assert count(branch.base_link) == 7_028_736
        assert count(branch.stem) == 3_200
        assert [count(one) for one in branch.encoder] == [260_896, 654_352, 1_960_328, 2_008_804, 1_136_572]
        assert [count(one) for one in branch.linkers] == [7_968, 8_480, 33_344, 132_736, 481_024]
        compress = [count(branch.stage(level).compress) for level in range(5)]
        assert compress == [884_864, 221_248, 55_328, 13_840, 13_840]
        finish = [count(branch.stage(level)) - compress[level] for level in range(5)]
        assert [count(branch.base_up), *finish] == [884_864, 1_106_240, 276_640, 69_200, 20_784, 6_928]
        assert count(branch.head) == 5_489
    trunk = net.trunk
    assert count(trunk) == 2_966_533
    assert [count(one) for one in trunk.stages] == [1_548_608, 387_232, 96_848, 27_696, 20_768]
    assert trunk.rendering is not None
    assert [count(one) for one in trunk.rendering.heads] == [257, 129, 65, 33, 33]


# --- MFusionRen ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "weight"), list(enumerate([1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2])))
def test_rendering_weights_from_coarse_to_fine(level: int, weight: float) -> None:
    rendering = MFusionRen([2] * 5, "leaky_relu")
    with torch.no_grad():
        for k, head in enumerate(rendering.heads):
            head.weight.zero_()
            head.bias.fill_(1.0 if k == level else 0.0)
    ct = rendering([torch.rand(1, 2, 2 * 2**k, 2 * 2**k, 2 * 2**k) for k in range(5)])
    assert ct.shape == (1, 1, 32, 32, 32)
    torch.testing.assert_close(ct, torch.full_like(ct, weight))


def test_rendering_of_negative_values_is_leaky_twice() -> None:
    rendering = MFusionRen([1] * 5, "leaky_relu")
    with torch.no_grad():
        for head in rendering.heads:
            head.weight.zero_()
            head.bias.fill_(-1.0)
    ct = rendering([torch.rand(1, 1, 2**k, 2**k, 2**k) for k in range(5)])
    torch.testing.assert_close(ct, torch.full_like(ct, -31 / 32 * 0.01**2))


# --- gradients and dead parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ABLATIONS)
def test_gradients_reach_every_live_parameter_and_no_dead_one(slim: dict[str, Any], films: Films, name: str) -> None:
    net = slim_net(slim, name)
    ct = net(*films)
    assert ct.shape == (1, 1, 64, 64, 64)
    (ct - 0.3).square().mean().backward()
    without = {key for key, one in net.named_parameters() if one.grad is None}
    assert without == net.dead_parameter_names()
    for key, parameter in net.named_parameters():
        # A bias ahead of a normalisation has gradient zero, a weight has not.
        if parameter.grad is not None and key.endswith("weight"):
            assert float(parameter.grad.abs().sum()) > 0, key


def test_the_published_network_has_45602_dead_parameters() -> None:
    net = create("xrecon", device="meta")
    assert isinstance(net, Generator)
    dead = net.dead_parameter_names()
    assert sum(one.numel() for name, one in net.named_parameters() if name in dead) == 45_602


def test_the_views_own_volumes_leave_the_result_unchanged(slim: dict[str, Any], films: Films) -> None:
    net = slim_net(slim)
    ct, own = net.forward_with_views(*films)
    with torch.inference_mode():
        torch.testing.assert_close(net(*films), ct.detach())
    assert set(own) == set(VIEWS) and all(one.shape == ct.shape for one in own.values())
    sum(one.sum() for one in own.values()).backward()  # type: ignore[union-attr]
    assert net.branch("pa").head.weight.grad is not None


# --- ablations -------------------------------------------------------------------------------------------------------


def test_each_ablation_removes_its_connection(slim: dict[str, Any], films: Films) -> None:
    full = slim_net(slim)
    assert len(slim_net(slim, linkers=False).branch("pa").linkers) == 0
    assert slim_net(slim, "xrecon-without-mfusionren").trunk.rendering is None
    alone = slim_net(slim, "xrecon-without-connection").trunk.stage(0).compress.conv.weight
    joined = full.trunk.stage(0).compress.conv.weight
    assert alone.shape[1] * 2 == joined.shape[1]
    changed = slim_net(slim)
    changed.config = changed.config.model_copy(update={"fusion_feedback": False})
    with torch.inference_mode():
        assert not torch.allclose(full(*films), changed(*films))


def test_a_single_view_ignores_the_other_film(slim: dict[str, Any], films: Films) -> None:
    pa, lateral = films
    with torch.inference_mode():
        net = slim_net(slim, "xrecon-pa-only")
        assert torch.equal(net(pa, None), net(pa, lateral))
        assert set(net.branches) == {"pa"}
        net = slim_net(slim, "xrecon-lateral-only")
        assert torch.equal(net(None, lateral), net(pa, lateral))


def test_output_activation_bounds_the_values(slim: dict[str, Any], films: Films) -> None:
    with torch.inference_mode():
        assert float(slim_net(slim, activation="relu")(*films).min()) >= 0


# --- determinism, modes ----------------------------------------------------------------------------------------------


def test_initial_weights_come_from_the_generator_given(slim: dict[str, Any]) -> None:
    def weights(seed: int | None) -> Tensor:
        rng = None if seed is None else torch.Generator().manual_seed(seed)
        return torch.cat([one.flatten() for one in create("xrecon", size=64, rng=rng, **slim).parameters()])

    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert torch.equal(weights(None), weights(0)) and torch.equal(weights(7), weights(7))
    assert not torch.equal(weights(7), weights(8))
    assert torch.equal(torch.get_rng_state(), before), "the global generator is left alone"


def test_initial_weights_are_normal_with_deviation_002_and_no_bias(slim: dict[str, Any]) -> None:
    net = create("xrecon", size=64, **{**slim, "stem_channels": 64})
    weights = torch.cat([one.detach().flatten() for key, one in net.named_parameters() if key.endswith("weight")])
    assert abs(float(weights.std()) - 0.02) < 5e-4 and abs(float(weights.mean())) < 5e-4
    assert all(not bool(one.any()) for name, one in net.named_parameters() if name.endswith("bias"))
    direct = Generator(GeneratorConfig(size=64, **{**slim, "stem_channels": 64}))
    for one, other in zip(net.parameters(), direct.parameters(), strict=True):
        assert torch.equal(one, other)


def test_dropout_acts_in_training_only_and_statistics_are_those_of_the_input(
    slim: dict[str, Any], films: Films
) -> None:
    net = slim_net(slim)
    assert not list(net.buffers()), "no running statistics"
    with torch.inference_mode():
        quiet = net(*films)
        net.train()
        assert not torch.equal(net(*films), net(*films))
        still = slim_net(slim, dropout=0.0).train()
        torch.testing.assert_close(still(*films), quiet)


def test_device_and_dtype_by_argument(slim: dict[str, Any]) -> None:
    net = create("xrecon", size=64, dtype=torch.float64, **slim)
    assert {one.dtype for one in net.parameters()} == {torch.float64}
    assert create("xrecon", device="meta", dtype=torch.bfloat16).branches.pa.stem.conv.weight.is_meta
    assert next(build(GeneratorConfig()).parameters()).is_meta


# --- wrong use -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("pa", "lateral", "message"),
    [
        ((1, 1, 64, 64), (1, 1, 96, 96), r"lateral film: expected the shape \[N, 1, 64, 64\], found \(1, 1, 96, 96\)"),
        ((1, 3, 64, 64), (1, 1, 64, 64), r"pa film: expected .* found \(1, 3, 64, 64\)"),
        ((64, 64), (1, 1, 64, 64), r"pa film: expected .* found \(64, 64\)"),
        ((2, 1, 64, 64), (1, 1, 64, 64), r"different batch sizes \[1, 2\]"),
    ],
)
def test_films_of_another_shape_are_refused(
    slim: dict[str, Any], pa: tuple[int, ...], lateral: tuple[int, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        create("xrecon", size=64, **slim)(torch.rand(pa), torch.rand(lateral))


def test_a_missing_film_is_named(slim: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"lateral film: .* found None"):
        create("xrecon", size=64, **slim)(torch.rand(1, 1, 64, 64), None)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("xrekon", {}, "no network is called 'xrekon'; did you mean 'xrecon'"),
        ("xrecon", {"size": 100}, "size = 100: .*multiple of 32"),
        ("xrecon", {"size": 32}, "size = 32: .*greater than or equal to 64"),
        ("xrecon", {"linker": False}, "unknown key 'linker'; did you mean 'linkers'"),
        ("xrecon", {"qqqq": 1}, "unknown key 'qqqq'; known keys: size, views"),
        ("xrecon", {"views": ()}, "views must name"),
        ("xrecon", {"views": ("pa", "pa")}, "each once"),
        ("xrecon", {"mfusionren": False, "head_connection": False}, "part of MFusionRen"),
        ("xrecon", {"dense_layers": (1, 2)}, "dense_layers"),
        ("xrecon", {"dense_layers": (1, 2, 0, 1, 1)}, r"dense_layers\.2 = 0"),
    ],
)
def test_wrong_settings_are_named(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create(name, device="meta", **fields)
