"""Weights on disk: what comes back, and what is refused for which reason."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from xrecon.errors import CheckpointError, InputError, OutputExistsError
from xrecon.io.guards.files import sha256_of
from xrecon.models.checkpoint import INFORMATION_NAME, WEIGHTS_NAME, load_information, load_model, save_model
from xrecon.models.config import GeneratorConfig
from xrecon.models.generator import Generator
from xrecon.models.registry import create, create_discriminator, parameter_count

STATED = {"name": "slim", "training_data": "phantoms", "licence": "Apache-2.0"}


@pytest.fixture(scope="module")
def net(slim: dict[str, Any]) -> torch.nn.Module:
    return create("xrecon", size=64, rng=torch.Generator().manual_seed(9), **slim)


@pytest.fixture(scope="module")
def original(net: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "slim"
    return save_model(net, folder, **STATED, metrics={"PSNR peak 2500 HU, phantoms": 21.5}, frame_mm=360.0)


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "slim"))


def rewrite(folder: Path, **changes: Any) -> None:
    """Change `model.json`; a value of None removes the key."""
    file = folder / INFORMATION_NAME
    values = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps({key: one for key, one in values.items() if one is not None}), encoding="utf-8")


def replace_weights(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Other weights with a hash that fits them."""
    save_file(tensors, folder / WEIGHTS_NAME)
    rewrite(folder, sha256=sha256_of(folder / WEIGHTS_NAME))


def test_round_trip(net: torch.nn.Module, original: Path) -> None:
    for path in (original, original / WEIGHTS_NAME, original / INFORMATION_NAME):
        loaded, information = load_model(path)
        assert isinstance(loaded, Generator) and not loaded.training
        assert loaded.config == net.config
        assert all(torch.equal(one, two) for one, two in zip(net.parameters(), loaded.parameters(), strict=True))
        assert all(one.requires_grad for one in loaded.parameters())
    assert (information.name, information.frame_mm) == ("slim", 360.0)
    assert information.metrics == {"PSNR peak 2500 HU, phantoms": 21.5}


def test_model_json_says_what_it_is(net: torch.nn.Module, original: Path) -> None:
    values = json.loads((original / INFORMATION_NAME).read_text(encoding="utf-8"))
    assert values["schema_name"] == "xrecon-model/1" and values["family"] == "generator"
    assert "RESEARCH ONLY / NOT FOR DIAGNOSIS" in values["notice"]
    assert GeneratorConfig.model_validate(values["architecture"]) == net.config
    assert values["parameters"] == parameter_count(net)
    assert values["inputs"].startswith("pa and lateral [N, 1, 64, 64]") and "64, 64, 64]" in values["output"]
    assert values["value_range"] == "(HU + 1024) / 2500, clipped to 0..1; films 0..1"
    assert (values["training_data"], values["licence"]) == ("phantoms", "Apache-2.0")
    weights = original / WEIGHTS_NAME
    assert (values["sha256"], values["bytes"]) == (sha256_of(weights), weights.stat().st_size)


def test_equal_weights_are_equal_files(net: torch.nn.Module, original: Path, tmp_path: Path) -> None:
    again = save_model(net, tmp_path / "again", **STATED)
    assert (again / WEIGHTS_NAME).read_bytes() == (original / WEIGHTS_NAME).read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="permissions of this kind are those of POSIX systems")
def test_whoever_reads_the_description_reads_the_weights(original: Path) -> None:
    modes = {(original / name).stat().st_mode for name in (WEIGHTS_NAME, INFORMATION_NAME)}
    assert len(modes) == 1


def test_dtype_by_argument_and_discriminators(original: Path, tmp_path: Path) -> None:
    loaded, _ = load_model(original, dtype=torch.bfloat16)
    assert {one.dtype for one in loaded.parameters()} == {torch.bfloat16}
    judge = create_discriminator("plain", base_channels=2)
    loaded, information = load_model(save_model(judge, tmp_path / "d", **STATED))
    assert information.family == "discriminator" and information.output.startswith("patch scores")
    assert all(torch.equal(one, two) for one, two in zip(judge.parameters(), loaded.parameters(), strict=True))


def test_an_earlier_model_is_kept_unless_told(net: torch.nn.Module, folder: Path) -> None:
    before = (folder / WEIGHTS_NAME).read_bytes()
    with pytest.raises(OutputExistsError, match=r"model\.safetensors: exists already"):
        save_model(net, folder, **STATED)
    assert (folder / WEIGHTS_NAME).read_bytes() == before
    save_model(net, folder, **{**STATED, "name": "second"}, overwrite=True)
    assert load_model(folder)[1].name == "second"
    assert sorted(one.name for one in folder.iterdir()) == [INFORMATION_NAME, WEIGHTS_NAME]


def test_a_failed_save_leaves_nothing(net: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="metrics"):
        save_model(net, tmp_path / "new", **STATED, metrics={"mae": object()})
    with pytest.raises(InputError, match="its settings are no Config"):
        save_model(torch.nn.Linear(1, 1), tmp_path / "new", **STATED)
    assert list(tmp_path.iterdir()) == []


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [0, 0.5, 0.999])
def test_a_flipped_bit_is_noticed(folder: Path, position: float) -> None:
    data = bytearray((folder / WEIGHTS_NAME).read_bytes())
    data[int(position * len(data))] ^= 1
    (folder / WEIGHTS_NAME).write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged or changed: sha256 .* model\.json says"):
        load_model(folder)


def test_a_pickle_is_refused_unread(net: torch.nn.Module, folder: Path) -> None:
    torch.save(net.state_dict(), folder / WEIGHTS_NAME)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: a pickle .*`xrecon models import`"):
        load_model(folder)
    with pytest.raises(CheckpointError, match=r"net\.pth: a PyTorch checkpoint.*`xrecon models import`"):
        load_model(folder / "net.pth")


def test_missing_parts_are_named(folder: Path, tmp_path: Path) -> None:
    (folder / WEIGHTS_NAME).unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors: does not exist, though model\.json"):
        load_model(folder)
    (folder / INFORMATION_NAME).unlink()
    with pytest.raises(CheckpointError, match=r"model\.json: does not exist; weights are a pair"):
        load_model(folder)
    with pytest.raises(CheckpointError, match="does not exist"):
        load_model(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a model description in JSON"),
        ("[1]", "expected a mapping, found list"),
        ("", "empty"),
        ("{}", "expected the schema xrecon-model/1, found 'None'"),
        ('{"schema_name": "xrecon-priors/1"}', "found 'xrecon-priors/1'"),
        (
            '{"schema_name": "xrecon-model/2"}',
            "written by a newer xrecon .schema xrecon-model/2, this one reads up to 1",
        ),
        ('{"schema_name": "xrecon-model/0"}', "there is no schema xrecon-model/0"),
        ('{"schema_name": "xrecon-model/1"}', "key 'name' is required"),
    ],
)
def test_another_description_is_refused(folder: Path, text: str, message: str) -> None:
    (folder / INFORMATION_NAME).write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        load_information(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licence": None}, "key 'licence' is required"),
        ({"lisence": "x"}, "unknown key 'lisence'; did you mean 'licence'"),
        ({"sha256": "abc"}, "sha256 = 'abc': expected 64 hexadecimal digits"),
        ({"frame_mm": -1.0}, "frame_mm = -1.0: "),
        ({"family": "transformer"}, "unknown network family 'transformer'; known: generator"),
        ({"architecture": {"size": 65}}, "size = 65: "),
        ({"architecture": {"depth": 3}}, "unknown key 'depth'"),
    ],
)
def test_wrong_fields_are_named(folder: Path, changes: dict[str, Any], message: str) -> None:
    rewrite(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


def test_weights_that_do_not_fit_are_named(net: torch.nn.Module, folder: Path) -> None:
    tensors = {name: one.detach().clone() for name, one in net.state_dict().items()}
    tensors["trunk.head.weight"] = torch.zeros(2)
    tensors["trunk.base_up.conv.bias"] = torch.zeros(5)
    del tensors["branches.pa.stem.conv.weight"]
    replace_weights(folder, tensors)
    with pytest.raises(CheckpointError) as caught:
        load_model(folder)
    assert "3 entries" in str(caught.value)
    assert "missing branches.pa.stem.conv.weight (6, 1, 7, 7)" in str(caught.value)
    assert "extra trunk.head.weight (2,)" in str(caught.value)
    assert "trunk.base_up.conv.bias has the shape (5,), the network (4,)" in str(caught.value)


def test_weights_of_another_size_are_refused_without_allocating_it(folder: Path) -> None:
    values = json.loads((folder / INFORMATION_NAME).read_text(encoding="utf-8"))
    rewrite(folder, architecture=values["architecture"] | {"size": 1024, "decoder_channels": [4096] * 6})
    with pytest.raises(CheckpointError, match=r"base_link\.linear\.weight has the shape"):
        load_model(folder)


def test_text_under_a_fitting_hash_is_refused(folder: Path) -> None:
    (folder / WEIGHTS_NAME).write_bytes(b"not tensors at all" * 10)
    rewrite(folder, sha256=sha256_of(folder / WEIGHTS_NAME))
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        load_model(folder)
