"""Published checkpoints: names, strict loading, round trip, and the golden numbers of the reference."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from xrecon.errors import CheckpointError, InputError
from xrecon.models.config import DiscriminatorConfig, GeneratorConfig
from xrecon.models.generator import Generator
from xrecon.models.published import (
    config_of_published,
    export_published,
    load_published,
    read_published,
)
from xrecon.models.registry import GENERATORS, create, create_discriminator

State = dict[str, Tensor]
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
NAMES = sorted(GENERATORS)


def reference_names(file: Path, size: int = 128) -> dict[str, tuple[int, ...]]:
    """Name and shape of every published entry, for a network of another size where asked."""
    names = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        name, shape, _ = line.split("\t")
        names[name] = tuple(ast.literal_eval(shape))
        if "base_link.0" in name:
            names[name] = ((size // 32) ** 3 * 256, *names[name][1:])
    return names


def formula_state(names: dict[str, tuple[int, ...]]) -> State:
    """The deterministic weights of the reference folder's README."""
    state: State = {}
    k = 0
    for name, shape in names.items():
        if name.endswith(STATISTICS):
            state[name] = torch.zeros(shape, dtype=torch.int64 if name.endswith("tracked") else torch.float32)
            continue
        n = int(np.prod(shape))
        amplitude = (2 / (n / shape[0])) ** 0.5 if len(shape) > 1 else 0.05
        j = torch.arange(1, n + 1, dtype=torch.float64)
        state[name] = (amplitude * torch.sin(0.37 * j * (1 + 0.01 * (k % 97)) + k)).reshape(shape).float()
        k += 1
    return state


@pytest.fixture(scope="module")
def slim_state(slim: dict[str, Any]) -> State:
    return export_published(create("xrecon", size=64, rng=torch.Generator().manual_seed(4), **slim))


def fresh(slim: dict[str, Any]) -> Generator:
    net = create("xrecon", size=64, **slim)
    assert isinstance(net, Generator)
    return net


# --- against the reference -------------------------------------------------------------------------------------------


def test_names_shapes_and_order_are_the_published_ones(reference: Path) -> None:
    for net, file in (
        (create("xrecon", size=128, device="meta"), "generator_keys_128.tsv"),
        (create_discriminator("coordconv", device="meta"), "discriminator_keys.tsv"),
    ):
        found = {name: tuple(one.shape) for name, one in export_published(net).items()}
        expected = reference_names(reference / file)
        assert list(found.items()) == list(expected.items())


def test_discriminator_gives_the_golden_scores(reference: Path) -> None:
    films = np.load(reference / "generator_golden_64.npz")
    golden = torch.from_numpy(np.load(reference / "discriminator_golden_64.npz")["scores"])
    net = create_discriminator("coordconv")
    load_published(net, formula_state(reference_names(reference / "discriminator_keys.tsv")))
    ct, pa, lateral = (torch.from_numpy(films[name])[None, None] for name in ("ct", "pa", "lateral"))
    with torch.inference_mode():
        scores = net(ct.clamp(0, 1), pa, lateral)
    torch.testing.assert_close(scores[0, 0], golden, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_generator_follows_the_golden_volumes(reference: Path) -> None:
    """As far as they determine the function: the golden weights amplify rounding errors of float32 a millionfold.

    The weight matrices of the formula have rank 2, so that normalisation after normalisation divides by what little
    is left of a signal. In float32 the result depends on the number of threads and on the processor: two threads of an
    AMD EPYC with bfloat16 instructions give the golden volumes bit for bit (docs/networks.md), two of an Intel Xeon
    differ by 0.003 on average, one thread of either by 0.07, and the golden volume is no nearer to the value in float64
    (0.065) than that. So the test compares with float64, which every machine computes alike, and asks for the
    correlation that the right function reaches (0.754 and 0.674). Wrong ones stay below: no feedback 0.59, normalised
    linker inputs 0.71, other order of the base 0.70.
    """
    net = create("xrecon", size=64)
    assert isinstance(net, Generator) and net.trunk.rendering is not None
    load_published(net, formula_state(reference_names(reference / "generator_keys_128.tsv", 64)))
    net.eval().double()
    plain = np.load(reference / "generator_golden_64.npz")
    negative = np.load(reference / "generator_golden_64_negative.npz")
    pa, lateral = (torch.from_numpy(plain[name])[None, None].double() for name in ("pa", "lateral"))
    features: list[Any] = []
    net.trunk.rendering.register_forward_pre_hook(lambda _, inputs: features.extend(inputs))
    with torch.inference_mode():
        volumes = [net(pa, lateral)]
        for head in net.trunk.rendering.heads:
            head.bias -= 1.0
        volumes.append(net.trunk.rendering(features[0]))
    for volume, golden, expected in zip(volumes, (plain["ct"], negative["ct"]), (0.7542, 0.6740), strict=True):
        assert float(np.corrcoef(volume.flatten(), golden.ravel())[0, 1]) == pytest.approx(expected, abs=0.005)
        assert float(volume.std()) == pytest.approx(float(golden.std()), rel=0.1)


# --- round trip and forms of a checkpoint ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_round_trip_of_every_generator(slim: dict[str, Any], name: str) -> None:
    net = create(name, size=64, rng=torch.Generator().manual_seed(4), **slim)
    other = create(name, size=64, **slim)
    load_published(other, export_published(net))
    for (key, one), two in zip(net.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two), key


@pytest.mark.parametrize("name", ["coordconv", "plain", "coordconv-same"])
def test_round_trip_of_the_discriminators(name: str) -> None:
    net = create_discriminator(name, base_channels=2, rng=torch.Generator().manual_seed(4))
    state = export_published(net)
    other = create_discriminator(name, base_channels=2)
    load_published(other, state)
    assert all(torch.equal(one, two) for one, two in zip(net.parameters(), other.parameters(), strict=True))
    assert ("model.0.conv.weight" in state) is (name != "plain")


def equal_to(state: State, net: torch.nn.Module) -> bool:
    return all(torch.equal(one, state[name]) for name, one in export_published(net).items())


@pytest.mark.parametrize(
    "form",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 200, "iters": 7},
        lambda state: {"state_dict": {f"module.{name}": one for name, one in state.items()}},
        lambda state: {name: one for name, one in state.items() if not name.endswith(STATISTICS)},
        lambda state: {name: one for name, one in state.items() if not name.endswith("num_batches_tracked")},
        lambda state: {n: one + 3 if n.endswith(STATISTICS) else one for n, one in state.items()},
    ],
    ids=["bare", "dictionary", "parallel", "parameters only", "old torch", "other statistics"],
)
def test_forms_of_a_checkpoint(slim: dict[str, Any], slim_state: State, tmp_path: Path, form: Any) -> None:
    net = fresh(slim)
    load_published(net, form(slim_state))
    assert equal_to(slim_state, net)
    torch.save(form(slim_state), tmp_path / "net.pth")
    net = fresh(slim)
    load_published(net, tmp_path / "net.pth")
    assert equal_to(slim_state, net)


def test_half_precision_is_widened(slim: dict[str, Any], slim_state: State) -> None:
    net = fresh(slim)
    load_published(net, {n: one if one.dtype == torch.int64 else one.half() for n, one in slim_state.items()})
    weight = net.branch("pa").stem.conv.weight
    assert weight.dtype == torch.float32
    torch.testing.assert_close(weight, slim_state["view1Model.encoder_layer.1.weight"], rtol=1e-3, atol=1e-4)


# --- strictness ------------------------------------------------------------------------------------------------------


def test_every_wrong_entry_is_named_and_nothing_is_changed(slim: dict[str, Any], slim_state: State) -> None:
    state = dict(slim_state)
    del state["tohu_layer-1.0.bias"], state["view2Model.linker_layer4.0.conv_block.0.weight"]
    del state["decoder_layer0.1.running_var"]
    state["view3Model.encoder_layer.1.weight"] = torch.zeros(2)
    state["decoder_layer0.0.weight"] = state["decoder_layer0.0.weight"][:, :1]
    state["decoder_layer1.1.running_mean"] = torch.zeros(99)
    net = fresh(slim)
    before = export_published(net)
    with pytest.raises(CheckpointError) as caught:
        load_published(net, state)
    message = str(caught.value)
    assert "6 entries" in message
    for expected in (
        "missing tohu_layer-1.0.bias (1,)",
        "missing view2Model.linker_layer4.0.conv_block.0.weight (4, 4, 3, 3, 3)",
        "missing decoder_layer0.1.running_var (2,)",
        "extra view3Model.encoder_layer.1.weight (2,)",
        "decoder_layer0.0.weight has the shape (2, 1, 3, 3, 3), the network (2, 4, 3, 3, 3)",
        "decoder_layer1.1.running_mean has the shape (99,), the network (3,)",
    ):
        assert expected in message
    assert equal_to(before, net), "a refused checkpoint changes nothing"


def test_another_size_is_said_by_the_base_link(slim: dict[str, Any], slim_state: State) -> None:
    with pytest.raises(CheckpointError, match=r"\(4 entries\).*\n(.*\n)*.*view1Model\.base_link\.0\.weight has the"):
        load_published(create("xrecon", size=96, **slim), slim_state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {**s, "tohu_layer0.0.bias": torch.tensor([float("nan")])}, "NaN or infinite.*tohu_layer0"),
        (
            lambda s: {**s, "tohu_layer0.0.bias": torch.tensor([1])},
            r"floating-point.*tohu_layer0\.0\.bias \(torch\.int",
        ),
        (lambda s: {**s, "epoch": 3}, "these entries are none: epoch"),
        (lambda s: {**s, "module.tohu_layer0.0.bias": s["tohu_layer0.0.bias"]}, "occur twice"),
        (lambda s: {}, "empty"),
        (lambda s: {"state_dict": [1]}, "no mapping"),
    ],
)
def test_odd_contents_are_refused(slim: dict[str, Any], slim_state: State, change: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_published(fresh(slim), change(slim_state))


class Payload:
    """What unpickling must not run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("owned"),))


def test_no_code_of_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"a": Payload()}}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"evil\.pth: cannot be read as a PyTorch checkpoint of plain tensors"):
        read_published(tmp_path / "evil.pth")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("content", [b"no checkpoint at all", b"PK\x03\x04 cut", b"\x80\x02}q"])
def test_files_that_are_no_checkpoints(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"net\.pth: cannot be read"):
        read_published(tmp_path / "net.pth")


def test_a_truncated_checkpoint_and_a_missing_one(tmp_path: Path, slim_state: State) -> None:
    torch.save(slim_state, tmp_path / "net.pth")
    data = (tmp_path / "net.pth").read_bytes()
    (tmp_path / "net.pth").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_published(tmp_path / "net.pth")
    with pytest.raises(InputError, match="does not exist"):
        read_published(tmp_path / "absent.pth")
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    with pytest.raises(CheckpointError, match="expected a state dict, found Tensor"):
        read_published(tmp_path / "tensor.pth")


def test_networks_without_published_weights_are_refused() -> None:
    with pytest.raises(InputError, match="Linear: no checkpoint"):
        load_published(torch.nn.Linear(1, 1), {"weight": torch.zeros(1, 1)})
    with pytest.raises(InputError, match="Discriminator: no checkpoint"):
        export_published(create_discriminator("multiscale", device="meta"))


# --- the architecture in a checkpoint --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_read_from_names_and_shapes(slim: dict[str, Any], name: str) -> None:
    net = create(name, size=96, **{**slim, "growth": 3})
    found = config_of_published(export_published(net), where="test")
    assert isinstance(found, GeneratorConfig)
    # Two fields leave no trace in the weights: the activation is guessed, the feedback taken as published.
    assert isinstance(net, Generator)
    guessed = {"activation": "leaky_relu" if found.mfusionren else "relu", "fusion_feedback": True}
    assert found == net.config.model_copy(update=guessed)


def test_settings_of_a_discriminator_are_read() -> None:
    for config in (DiscriminatorConfig(base_channels=2), DiscriminatorConfig(coordinates=False, layers=2)):
        net = create_discriminator("coordconv", **config.model_dump())
        assert config_of_published(export_published(net), where="test") == config


def test_a_foreign_state_dict_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"neither a generator nor a discriminator.*starts with fc\.weight"):
        config_of_published({"fc.weight": torch.zeros(2, 2)}, where="test")
