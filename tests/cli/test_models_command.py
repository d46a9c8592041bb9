from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from xrecon.cli.app import build_app
from xrecon.models.checkpoint import load_model
from xrecon.models.generator import Generator
from xrecon.models.published import export_published
from xrecon.models.registry import create, create_discriminator

SLIM: dict[str, Any] = {"stem_channels": 4, "growth": 2, "decoder_channels": (1, 2, 1, 2, 3, 2)}


def run_program(*arguments: object) -> Any:
    return CliRunner().invoke(build_app(), ["models", *map(str, arguments)])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slim generator as its authors would have saved it."""
    file = tmp_path_factory.mktemp("published") / "200_net_G.pth"
    state = export_published(create("xrecon", size=96, rng=torch.Generator().manual_seed(2), **SLIM))
    torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in state.items()}, "epoch": 200}, file)
    return file


def test_import_writes_weights_that_load(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "slim"
    done = run_program("import", checkpoint, "-o", folder, "--training-data", "phantoms", "--licence", "CC0", "--json")
    assert done.exit_code == 0, done.stderr
    output = json.loads(done.stdout)
    assert (output["name"], output["training_data"], output["licence"]) == ("200_net_G", "phantoms", "CC0")
    assert "RESEARCH ONLY" in output["notice"] and output["architecture"]["size"] == 96
    net, information = load_model(folder)
    assert information.sha256 == output["sha256"]
    original = torch.load(checkpoint, weights_only=True)["state_dict"]
    exported = export_published(net)
    assert all(torch.equal(weight, exported[key.removeprefix("module.")]) for key, weight in original.items())


def test_import_takes_a_discriminator_and_settings(checkpoint: Path, tmp_path: Path) -> None:
    torch.save(export_published(create_discriminator("plain", base_channels=2)), tmp_path / "net_D.pth")
    done = run_program("import", tmp_path / "net_D.pth", "-o", tmp_path / "d")
    assert done.exit_code == 0, done.stderr
    assert "discriminator" in done.stdout and "not stated" in done.stderr
    done = run_program("import", checkpoint, "-o", tmp_path / "g", "--set", "activation=relu", "--name", "mine")
    assert done.exit_code == 0, done.stderr
    net, information = load_model(tmp_path / "g")
    assert isinstance(net, Generator) and net.config.activation == "relu" and information.name == "mine"


def test_import_refuses_what_it_cannot_use_and_writes_nothing(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights", encoding="utf-8")
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "other.pth")
    for arguments, message in (
        ((tmp_path / "text.pth",), "text.pth: cannot be read"),
        ((tmp_path / "other.pth",), "neither a generator nor a discriminator"),
        ((tmp_path / "absent.pth",), "does not exist"),
        ((checkpoint, "--set", "size=128"), "base_link.0.weight has the shape"),
        ((checkpoint, "--set", "sise=96"), "unknown key 'sise'; did you mean 'size'"),
    ):
        done = run_program("import", *arguments, "-o", tmp_path / "out")
        assert done.exit_code == 2
        assert message in done.stderr
        assert not (tmp_path / "out").exists()


def test_import_keeps_an_earlier_model_unless_told(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("mine", encoding="utf-8")
    done = run_program("import", checkpoint, "-o", tmp_path)
    assert done.exit_code == 2 and "model.json: exists already" in done.stderr
    assert (tmp_path / "model.json").read_text(encoding="utf-8") == "mine"
    assert run_program("import", checkpoint, "-o", tmp_path, "--overwrite").exit_code == 0
    assert load_model(tmp_path)[1].name == "200_net_G"


def test_list_names_networks_with_their_parameters() -> None:
    done = run_program("list", "--json")
    assert done.exit_code == 0, done.stderr
    networks = {network["name"]: network for network in json.loads(done.stdout)["networks"]}
    assert networks["xrecon"]["parameters"] == 98_799_735 and networks["xrecon"]["size"] == 224
    assert networks["coordconv"]["parameters"] == 11_067_457 and networks["coordconv"]["kind"] == "discriminator"
    done = run_program("list")
    assert "98,799,735" in done.stdout and "x2ct-gan" in done.stdout


def test_list_names_the_models_that_reconstruct() -> None:
    done = run_program("list", "--json")
    entries = {entry["name"]: entry for entry in json.loads(done.stdout)["reconstruction_models"]}
    assert list(entries) == ["atlas", "pca", "deform", "deform+bank", "deform+films", "xrecon"]
    assert entries["deform+bank"]["needs"] == "priors, CTs of other patients"
    done = run_program("list")
    assert "Models for --model" in done.stdout and entries["deform"]["summary"] in done.stdout
