"""A trained network behind `reconstruct`: fed with films as in training, drawn in the frame, told of honestly."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xrecon.errors import CheckpointError, ConfigError, InputError
from xrecon.films.normalisation import network_film
from xrecon.films.simulation import film_pair, simulate
from xrecon.geometry import FRAME_MM
from xrecon.inference.models import find_model
from xrecon.inference.network_model import load_network
from xrecon.inference.reconstruct import reconstruct
from xrecon.models import create, create_discriminator
from xrecon.models.checkpoint import save_model
from xrecon.models.config import HU_OFFSET, HU_SCALE
from xrecon.models.precision import run
from xrecon.phantoms.thorax import thorax_phantom
from xrecon.priors.asset import PriorAsset
from xrecon.priors.films import FilmPair
from xrecon.priors.framing import FilmedChest
from xrecon.radiograph import Radiograph

SLIM = {
    "size": 64,
    "stem_channels": 4,
    "growth": 4,
    "dense_layers": (1, 1, 1, 1, 1),
    "decoder_channels": (2, 2, 4, 4, 8, 8),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small generator with random weights, as `xrecon train` would write it."""
    network = create("xrecon", rng=torch.Generator().manual_seed(3), **SLIM)
    place = tmp_path_factory.mktemp("network") / "model"
    return save_model(network, place, name="slim", training_data="none: random weights", licence="Apache-2.0")


@pytest.fixture(scope="module")
def films(cases: tuple[FilmedChest, ...]) -> tuple[Radiograph, Radiograph]:
    return cases[4].films.films


def test_the_cube_is_what_the_network_gives(
    folder: Path, films: tuple[Radiograph, Radiograph], asset: PriorAsset
) -> None:
    made = reconstruct(*films, model=str(folder), size=64, refine=False, assets=asset)
    network = load_network(folder, device=torch.device("cpu")).network
    given = [torch.from_numpy(network_film(film.image))[None, None] for film in FilmPair(films).radiographs(64)]
    with torch.inference_mode():
        direct = network(*given)[0, 0].clamp(0, 1) * HU_SCALE - HU_OFFSET
    inside = made.volume.hu > -990  # elsewhere the films exclude tissue, and the hull's edge is soft
    assert inside.mean() > 0.1
    assert (np.abs(made.volume.hu - direct.numpy())[inside] < 1.0).mean() > 0.97
    assert made.volume.spacing_mm == pytest.approx((FRAME_MM / 64,) * 3)
    told = made.provenance
    assert told["model"] == "slim"
    assert told["network"]["training_data"] == "none: random weights"
    assert told["network"]["size"] == 64
    assert len(told["sha256"]) == 64


def test_gain_and_offset_of_the_films_do_not_matter(
    folder: Path, films: tuple[Radiograph, Radiograph], asset: PriorAsset
) -> None:
    shown = tuple(
        Radiograph(film.image * gain + offset, film.view, film.geometry, quantity="display")
        for film, gain, offset in zip(films, (100.0, 3.0), (5.0, -1.0), strict=True)
    )
    plain = reconstruct(*films, model=str(folder), size=64, refine=False, assets=asset).volume.hu
    other = reconstruct(*shown, model=str(folder), size=64, refine=False, assets=asset).volume.hu  # type: ignore[arg-type]
    both = (plain > -990) & (other > -990)  # the hull is off for films of unknown gain
    assert (np.abs(plain - other)[both] < 1.0).mean() > 0.97


def test_precision_is_passed_on_and_told(folder: Path, films: tuple[Radiograph, Radiograph], asset: PriorAsset) -> None:
    plain, rough = (
        reconstruct(*films, model=str(folder), size=64, refine=False, assets=asset, precision=precision)
        for precision in ("float32", "bfloat16")
    )
    assert [one.provenance["options"]["precision"] for one in (plain, rough)] == ["float32", "bfloat16"]
    apart = np.abs(plain.volume.hu - rough.volume.hu)
    assert 0 < apart.mean() < 100
    with pytest.raises(InputError, match="'bfloat16' is for networks; model atlas"):
        reconstruct(*films, model="atlas", size=64, assets=asset, precision="bfloat16")
    with pytest.raises(ConfigError, match="'int8'"):
        reconstruct(*films, model=str(folder), size=64, assets=asset, precision="int8")  # type: ignore[arg-type]


def test_the_network_runs_once_and_on_all_threads(
    folder: Path,
    films: tuple[Radiograph, Radiograph],
    asset: PriorAsset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fits take one thread and two rounds where the gain is unknown; the network needs neither."""
    threads = []

    def counted(*arguments: Any, **options: Any) -> torch.Tensor:
        threads.append(torch.get_num_threads())
        return run(*arguments, **options)

    monkeypatch.setattr("xrecon.inference.network_model.run", counted)
    shown = tuple(Radiograph(film.image, film.view, film.geometry, quantity="display") for film in films)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        reconstruct(*shown, model=str(folder), size=64, refine=False, assets=asset)  # type: ignore[arg-type]
    finally:
        torch.set_num_threads(before)
    assert threads == [2]


def test_films_are_those_of_training() -> None:
    """Training projects onto 64 pixels of the virtual detector; a user's film of 224 pixels is resampled to them."""
    ct = thorax_phantom(96, 4.0).volume
    trained = simulate(ct, size=64, geometry=film_pair("chest", size=64))
    given = FilmPair(simulate(ct, size=224)).radiographs(64)
    for ours, theirs in zip(given, trained, strict=True):
        one, other = network_film(ours.image), network_film(theirs.image)
        assert np.abs(one - other).mean() < 0.01
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.999
        assert np.corrcoef(one[:, ::-1].ravel(), other.ravel())[0, 1] < 0.99  # a mirrored film would be noticed


@pytest.mark.parametrize("model", ["nowhere", "magic"])
def test_unknown_models_are_refused(model: str, films: tuple[Radiograph, Radiograph], asset: PriorAsset) -> None:
    with pytest.raises(InputError, match="unknown model"):
        reconstruct(*films, model=model, size=64, assets=asset)


def test_networks_of_another_kind_are_refused(
    tmp_path: Path, films: tuple[Radiograph, Radiograph], asset: PriorAsset
) -> None:
    judge = save_model(
        create_discriminator("plain", base_channels=2), tmp_path / "judge", name="j", training_data="-", licence="-"
    )
    with pytest.raises(CheckpointError, match="makes no CT"):
        reconstruct(*films, model=str(judge), size=64, assets=asset)
    small = save_model(
        create("xrecon", **SLIM), tmp_path / "small", name="s", training_data="-", licence="-", frame_mm=300.0
    )
    with pytest.raises(CheckpointError, match="cube of 300 mm"):
        reconstruct(*films, model=str(small), size=64, assets=asset)


def test_the_shipped_network_works_out_of_the_box(films: tuple[Radiograph, Radiograph], asset: PriorAsset) -> None:
    made = reconstruct(*films, model="xrecon", size=64, assets=asset)
    told = made.provenance["network"]
    assert told["name"] == "xrecon-64" and told["size"] == 64
    assert told["training_data"].startswith("11 patients")
    remark = "network xrecon-64 computes 64^3 voxels of 6 mm, finer ones are interpolated; trained on 11 patients"
    assert any(note.startswith(remark) for note in made.provenance["notes"])
    assert any(note.startswith(remark) for note in made.volume.notes)
    hu = made.volume.hu
    assert hu.shape == (64, 64, 64) and made.volume.synthetic
    middle = hu[24:40, 24:40, :]
    # Aerated lung on both sides of a denser middle, air outside the body.
    assert (middle[:, :, 14:26] < -500).mean() > 0.2 and (middle[:, :, 38:50] < -500).mean() > 0.2
    assert np.median(middle[:, :, 28:36]) > -300
    assert np.median(hu[:, :3, :]) < -900


def test_a_folder_of_ones_own_with_a_shipped_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "xrecon")
    monkeypatch.chdir(tmp_path)
    assert find_model("xrecon").needs.network != find_model("./xrecon").needs.network == Path("xrecon")
    with pytest.raises(InputError, match=r"unknown model '\./absent'"):
        find_model("./absent")
