"""The fast path is the same function as the plain forward: values, gradients, every setting, every way to run it."""

from __future__ import annotations

import functools
import shutil
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from xrecon.errors import ConfigError, InputError, MissingPartError
from xrecon.models import Discriminator, Generator, create, create_discriminator
from xrecon.models.blocks import ConvNormReLU, Linker, initialise
from xrecon.models.fast import FastGenerator, fast_forward
from xrecon.models.fast import stream as fast_stream
from xrecon.models.fast.feature_kernels import BY_HEIGHT, BY_WIDTH
from xrecon.models.fast.linker import joined_slices, linker_slices
from xrecon.models.fast.stream import Lazy, Streaming
from xrecon.models.precision import prepare, run
from xrecon.models.registry import GENERATORS
from xrecon.projector import MultiAngleProjectionLoss

SIZE = 64
SLIM = {
    "size": SIZE,
    "stem_channels": 4,
    "growth": 2,
    "dense_layers": (1, 2, 1, 1, 1),
    "decoder_channels": (2, 3, 4, 4, 5, 6),
}
TOLERANCE = 1e-4
"""Of the issue, against the plain forward; results are of the order of 1."""


def network(name: str = "xrecon", **changes: object) -> Generator:
    net = create(name, **{**SLIM, **changes})
    assert isinstance(net, Generator)
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in net.parameters():
            # Larger than the initial weights, biases included: nothing is hidden by a value near zero.
            fan = max(parameter[0].numel(), 1)
            parameter.normal_(0.0, (2.0 / fan) ** 0.5 if parameter.dim() > 1 else 0.2, generator=rng)
    return net.eval()


def films(batch: int = 1) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(3)
    pa, lateral = torch.rand(2, batch, 1, SIZE, SIZE, generator=rng)
    return pa, lateral


@pytest.mark.parametrize("name", GENERATORS)
def test_every_architecture_gives_the_plain_result_both_ways(name: str) -> None:
    net = network(name)
    with torch.no_grad():
        plain, streamed = net.forward_plain(*films()), fast_forward(net, *films())
    differentiable = fast_forward(net, *films())
    assert differentiable.requires_grad and not streamed.requires_grad
    assert plain.std() > 1e-3, "a constant result would hide differences"
    torch.testing.assert_close(streamed, plain, atol=TOLERANCE, rtol=1e-4)
    torch.testing.assert_close(differentiable.detach(), plain, atol=TOLERANCE, rtol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"views": ("lateral", "pa")},
        {"views": ("pa",), "fusion_feedback": False},
        {"trunk_connection": False, "linkers": False},
        {"mfusionren": False, "linkers": False},
        {"fusion_feedback": False, "linkers": False, "activation": "relu"},
    ],
    ids=str,
)
def test_combined_ablations(changes: dict[str, object]) -> None:
    net = network(**changes)
    with torch.no_grad():
        torch.testing.assert_close(fast_forward(net, *films()), net.forward_plain(*films()), atol=TOLERANCE, rtol=1e-4)


@pytest.mark.parametrize(("planes", "threads"), [(1, 1), (3, 2), (7, 3)])
def test_slabs_and_threads_do_not_change_the_volume(planes: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net = network()
    with torch.no_grad():
        expected = net.forward_plain(*films())
        monkeypatch.setattr(fast_stream, "planes_per_slab", lambda data: min(planes, len(data)))
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        torch.testing.assert_close(fast_forward(net, *films()), expected, atol=TOLERANCE, rtol=1e-4)


def test_wide_channels_and_a_batch_run_case_by_case() -> None:
    net = network(decoder_channels=(16, 16, 8, 8, 8, 8))
    pa, lateral = films(batch=2)
    with torch.no_grad():
        both = fast_forward(net, pa, lateral)
        torch.testing.assert_close(both, net.forward_plain(pa, lateral), atol=TOLERANCE, rtol=1e-4)
        torch.testing.assert_close(both[1:], fast_forward(net, pa[1:], lateral[1:]), atol=0, rtol=0)


def test_without_the_library_that_conv3d_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network()
    with torch.no_grad():
        expected = net.forward_plain(*films())
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        torch.testing.assert_close(fast_forward(net, *films()), expected, atol=TOLERANCE, rtol=1e-4)


def gradients(net: Generator, forward: torch.nn.Module) -> dict[str, Tensor | None]:
    net.zero_grad()
    kind = next(net.parameters()).dtype
    weight = torch.rand(1, 1, SIZE, SIZE, SIZE, generator=torch.Generator().manual_seed(8)).to(kind)
    (forward(*(film.to(kind) for film in films())) * weight).mean().backward()
    return {name: parameter.grad for name, parameter in net.named_parameters()}


@pytest.mark.parametrize("name", ["xrecon", pytest.param("xrecon-without-mfusionren", marks=pytest.mark.slow)])
def test_gradients_equal_those_of_the_plain_forward(name: str) -> None:
    net = network(name, dropout=0.0).double().train()
    fast = FastGenerator(net)
    plain, quick, again = (gradients(net, forward) for forward in (net, fast, FastGenerator(net, checkpointing=True)))
    dead = fast.dead_parameter_names()
    assert {key for key, value in quick.items() if value is None} == dead
    for key, expected in plain.items():
        if key in dead:
            assert again[key] is None
            assert expected is None or expected.abs().max() < 1e-12, key
        else:
            # A bias ahead of a normalisation has a gradient of rounding errors, which may be exactly zero.
            assert expected is not None and (key.endswith("bias") or expected.abs().max() > 0), key
            torch.testing.assert_close({key: quick[key]}, {key: expected}, atol=1e-12, rtol=1e-6)
            torch.testing.assert_close({key: again[key]}, {key: expected}, atol=1e-12, rtol=1e-6)


def test_checkpointing_repeats_the_same_dropout() -> None:
    net = network(dropout=0.5).train()
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(11)
        found.append(gradients(net, FastGenerator(net, checkpointing=checkpointing)))
    for key, expected in found[0].items():
        torch.testing.assert_close({key: found[1][key]}, {key: expected}, atol=1e-6, rtol=1e-3)


def test_no_parameters_of_its_own() -> None:
    net = network()
    fast = FastGenerator(net)
    assert [id(one) for one in fast.parameters()] == [id(one) for one in net.parameters()]
    with torch.no_grad():
        before = fast(*films())
        net.trunk.rendering.heads[4].bias += 1.0
        after = fast(*films())
    assert float((after - before).mean()) > 0.1


@pytest.mark.usefixtures("without_shape_checks")
def test_films_of_another_size_are_refused() -> None:
    with pytest.raises(InputError, match=r"expected the shape \[N, 1, 64, 64\]"):
        fast_forward(network(), torch.zeros(1, 1, 96, 96), torch.zeros(1, 1, 64, 64))


@settings(deadline=None, max_examples=12)
@given(edge=st.integers(4, 9), inputs=st.integers(1, 4), outputs=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_linker_slices_stand_for_the_whole_volume(edge: int, inputs: int, outputs: int, seed: int) -> None:
    linker = Linker(3, inputs)
    following = ConvNormReLU(inputs, outputs)
    rng = torch.Generator().manual_seed(seed)
    for module in (linker, following):
        initialise(module, rng)
    encoded = torch.rand(2, 3, edge, edge, generator=rng)
    with torch.no_grad():
        whole = linker(encoded)
        slices = linker_slices(linker, encoded)
        volume = torch.cat([slices[:, :1], slices[:, 1:2].expand(-1, edge - 2, -1, -1, -1), slices[:, 2:]], dim=1)
        # Channels of nearly no variance divide by the root of the 1e-5 in the normalisation: they amplify rounding.
        torch.testing.assert_close(volume.transpose(1, 2), whole, atol=2e-4, rtol=1e-3)
        kernel = following.conv.weight
        five = joined_slices(slices, kernel)
        joined = torch.cat([five[:, :2], five[:, 2:3].expand(-1, edge - 4, -1, -1, -1), five[:, 3:]], dim=1)
        expected = torch.nn.functional.conv3d(whole, kernel, padding=1)
        torch.testing.assert_close(joined.transpose(1, 2), expected, atol=1e-4, rtol=1e-3)


@settings(deadline=None, max_examples=12)
@given(offset=st.floats(-1e3, 1e3), seed=st.integers(0, 10**6))
def test_statistics_keep_their_digits_far_from_zero(offset: float, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    data = torch.rand(5, 6, 7, 4, generator=rng) + offset
    plain = Lazy(data, torch.zeros(4).numpy(), torch.ones(4).numpy())
    block = ConvNormReLU(4, 4, kernel=3)
    with torch.no_grad():
        block.conv.weight.zero_()
        for channel in range(4):
            block.conv.weight[channel, channel, 1, 1, 1] = 1.0
        found = Streaming().conv([plain], block, None)
    exact = data.clamp(min=0).double()
    deviation = (exact.var((0, 1, 2), correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(torch.from_numpy(found.mean).double(), exact.mean((0, 1, 2)), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(torch.from_numpy(1 / found.scale).double(), deviation, rtol=1e-4, atol=1e-6)


def test_addend_modes_name_the_axes_of_the_views() -> None:
    five = torch.zeros(1, 5, 2, 6, 6)
    assert fast_stream.linker_addend(five, "pa")[1] == BY_HEIGHT
    assert fast_stream.linker_addend(five, "lateral")[1] == BY_WIDTH


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_run_leaves_the_mode_alone_and_drops_nothing_out(precision: str) -> None:
    net = network().train()
    first, second = (run(net, *films(), precision=precision) for _ in range(2))
    assert net.training and first.dtype == torch.float32
    assert torch.equal(first, second)
    with torch.no_grad():
        plain = net.eval().forward_plain(*films())
    error = (first - plain).abs().mean() / plain.std()
    assert error < (1e-5 if precision == "float32" else 0.3)


def test_bfloat16_trains() -> None:
    net = network(dropout=0.0).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        volume = FastGenerator(net, checkpointing=True)(*films())
    volume.float().mean().backward()
    gradient = net.trunk.rendering.heads[4].weight.grad
    assert gradient is not None and torch.isfinite(gradient).all() and gradient.abs().max() > 0


def test_an_unknown_precision_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'int8': expected one of float32, bfloat16, openvino"):
        run(network(), *films(), precision="int8")  # type: ignore[arg-type]


def test_without_openvino_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingPartError, match=r"pip install 'xrecon\[fast\]'"):
        run(network(), *films(), precision="openvino")


@pytest.mark.slow
@pytest.mark.parametrize("views", [("pa", "lateral"), ("lateral",)])
@pytest.mark.parametrize(("hint", "limit"), [("f32", 1e-4), (None, 0.3)])
def test_openvino_gives_the_plain_result(
    views: tuple[str, ...], hint: str | None, limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino = pytest.importorskip("openvino", reason="the package openvino (extra [fast]) is not installed")
    if hint is not None:
        # Left to itself OpenVINO takes bfloat16 on processors that have it; the graph itself is judged in float32.
        config = {"INFERENCE_PRECISION_HINT": hint}
        monkeypatch.setattr(openvino, "compile_model", functools.partial(openvino.compile_model, config=config))
    net = network(views=views)
    pa, lateral = films(batch=2)
    runner = prepare(net, precision="openvino")
    found = runner(pa if "pa" in views else None, lateral)
    with torch.no_grad():
        expected = net.forward_plain(pa, lateral)
    assert (found - expected).abs().mean() < limit * expected.std()


def test_export_keeps_the_function() -> None:
    net = network(dense_layers=(1, 1, 1, 1, 1))
    with torch.no_grad():
        expected = net.forward_plain(*films())
        exported = torch.export.export(FastGenerator(net), films())
        torch.testing.assert_close(exported.module()(*films()), expected, atol=TOLERANCE, rtol=1e-4)


@pytest.mark.usefixtures("without_shape_checks")
def test_the_compiler_sees_the_whole_graph() -> None:
    net = network(views=("lateral",), dense_layers=(1, 1, 1, 1, 1))
    compiled = torch.compile(FastGenerator(net), backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*films()), net.forward_plain(*films()), atol=TOLERANCE, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("without_shape_checks")
def test_compiled_code_keeps_the_function() -> None:
    if not any(map(shutil.which, ("g++", "c++", "clang++", "cl"))):
        pytest.skip("torch.compile needs a C++ compiler, none was found")
    net = network(views=("pa",), dense_layers=(1, 1, 1, 1, 1))
    compiled = torch.compile(FastGenerator(net))
    with torch.no_grad():
        torch.testing.assert_close(compiled(*films()), net.forward_plain(*films()), atol=TOLERANCE, rtol=1e-4)


def test_one_gan_step_reaches_every_live_parameter() -> None:
    net = network(dropout=0.0).train()
    fast = FastGenerator(net, checkpointing=True)
    judge = create_discriminator("coordconv", base_channels=4)
    assert isinstance(judge, Discriminator)
    pa, lateral = films()
    real = torch.rand(1, 1, SIZE, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    fake = fast(pa, lateral)
    scores = judge(fake, pa, lateral)
    assert isinstance(scores, Tensor)
    projection = MultiAngleProjectionLoss()(fake, real, spacing_mm=6.0, generator=torch.Generator().manual_seed(0))
    loss = (scores - 1).square().mean() + 10 * (fake - real).square().mean() + 0.1 * projection
    before = {name: one.detach().clone() for name, one in net.named_parameters()}
    loss.backward()
    torch.optim.Adam(net.parameters(), lr=1e-3).step()
    moved = {name for name, one in net.named_parameters() if not torch.equal(one, before[name])}
    assert moved == set(before) - fast.dead_parameter_names()
