"""The priors' file: what comes back, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.numpy import save_file

from xrecon.errors import CheckpointError, MissingPartError, OutputExistsError
from xrecon.io.guards.files import sha256_of
from xrecon.priors.asset import SCHEMA, PriorAsset, load_priors


@pytest.fixture(scope="module")
def original(asset: PriorAsset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return asset.save(tmp_path_factory.mktemp("priors") / "small.safetensors")


@pytest.fixture
def file(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    for suffix in (".safetensors", ".json"):
        shutil.copy(original.with_suffix(suffix), tmp_path / f"small{suffix}")
    return tmp_path / "small.safetensors"


def test_round_trip_within_the_quantisation(asset: PriorAsset, original: Path) -> None:
    loaded = load_priors(original)
    before, after = asset.prior, loaded.prior
    # Half a step of the row's root mean square (asset._STEPS), counted over its non-zero values.
    for name, step in {"template": 0.01, "linear_mean": 0.01, "deviation": 0.03, "density_modes": 0.15}.items():
        was, now = getattr(before, name), getattr(after, name)
        assert was.shape == now.shape and now.dtype == torch.float32
        rms = was[was != 0].square().mean().sqrt()
        assert float((was - now).square().mean().sqrt()) < step * float(rms)
        assert float((was - now).abs().max()) > 0.0
    modes, again = before.linear_modes, after.linear_modes
    assert float((modes - again).norm() / modes.norm()) < 0.12
    for name in ("shape_mean", "shape_modes"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name), rtol=1e-3, atol=1e-4)
    assert after.ridge == before.ridge
    assert loaded.sha256 == sha256_of(original)


def test_saving_twice_gives_the_same_bytes_and_a_loaded_asset_can_be_saved(
    asset: PriorAsset, original: Path, tmp_path: Path
) -> None:
    assert asset.save(tmp_path / "again.safetensors").read_bytes() == original.read_bytes()
    copied = load_priors(original).save(tmp_path / "copy.safetensors")
    assert load_priors(copied).prior.information["sha256"] == sha256_of(copied)


def test_side_car_says_what_it_is(asset: PriorAsset, original: Path) -> None:
    side_car = json.loads(original.with_suffix(".json").read_text(encoding="utf-8"))
    assert side_car["schema"] == SCHEMA and side_car["cases"] == 4 and side_car["settings"]["seed"] == 0
    assert "NOT FOR DIAGNOSIS" in side_car["notice"]
    assert side_car["sha256"] == sha256_of(original) and side_car["bytes"] == original.stat().st_size
    assert side_car["ridge"] == asset.prior.ridge
    errors = {float(k): v for k, v in side_car["cross_validated_squared_error_per_mm2"].items()}
    assert min(errors, key=errors.__getitem__) == side_car["ridge"]
    assert "patient" not in json.dumps(side_car), "no case names"


def test_an_existing_file_is_kept(asset: PriorAsset, file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(OutputExistsError):
        asset.save(file)
    assert file.read_bytes() == before
    assert asset.save(file, overwrite=True) == file


def test_a_flipped_byte_is_noticed(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match=r"small\.safetensors is damaged or was changed"):
        load_priors(file)


def test_a_missing_side_car_is_named(file: Path) -> None:
    file.with_suffix(".json").unlink()
    with pytest.raises(CheckpointError, match=r"small\.json.*copy both files"):
        load_priors(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "found 'list'"),
        ('{"schema": "xrecon-priors/99"}', "expected schema 'xrecon-priors/1', found 'xrecon-priors/99'"),
    ],
)
def test_another_side_car_is_refused(file: Path, text: str, message: str) -> None:
    file.with_suffix(".json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        load_priors(file)


@pytest.mark.parametrize("content", ["text", "tensors"])
def test_a_foreign_file_is_refused(file: Path, content: str) -> None:
    if content == "text":
        file.write_bytes(b"not tensors at all" * 10)
    else:
        save_file({"weight": torch.zeros(3).numpy()}, file)
    side_car = file.with_suffix(".json")
    information = json.loads(side_car.read_text(encoding="utf-8")) | {"sha256": sha256_of(file)}
    side_car.write_text(json.dumps(information), encoding="utf-8")
    with pytest.raises(CheckpointError, match="does not hold chest priors"):
        load_priors(file)


def test_a_side_car_without_a_ridge_is_refused(file: Path) -> None:
    side_car = file.with_suffix(".json")
    information = json.loads(side_car.read_text(encoding="utf-8")) | {"ridge": None}
    side_car.write_text(json.dumps(information), encoding="utf-8")
    with pytest.raises(CheckpointError, match="does not hold chest priors"):
        load_priors(file)


def test_no_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(MissingPartError, match=r"no priors file at mine\.safetensors.*xrecon train priors"):
        load_priors(tmp_path / "mine.safetensors")
