"""Two films in, one CT out: which model is better, what comes with it, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from support.prior_factory import SHORT, clipped, patients, rmse_hu
from xrecon.errors import GeometryError, InputError, MissingPartError
from xrecon.films.simulation import simulate
from xrecon.inference.reconstruct import reconstruct
from xrecon.inference.result import Reconstruction
from xrecon.priors import bank, deformation
from xrecon.priors.asset import PriorAsset
from xrecon.priors.films import FilmPair, visual_hull
from xrecon.priors.framing import FilmedChest
from xrecon.radiograph import Radiograph
from xrecon.warp import Grid


@pytest.fixture(scope="module", autouse=True)
def short_fits() -> Iterator[None]:
    """One coarse level instead of the two of a real fit."""
    before = deformation.LEVELS, bank._LEVELS
    deformation.LEVELS = bank._LEVELS = SHORT
    yield
    deformation.LEVELS, bank._LEVELS = before


@pytest.fixture(scope="module")
def films(cases: tuple[FilmedChest, ...]) -> tuple[Radiograph, Radiograph]:
    """Of the patient whom the priors do not know."""
    return cases[4].films.films


@pytest.fixture(scope="module")
def plain(asset: PriorAsset, films: tuple[Radiograph, Radiograph]) -> dict[str, Reconstruction]:
    """Each model without the sweep, 64^3."""
    torch.set_num_threads(1)
    return {
        model: reconstruct(*films, model=model, size=64, refine=False, assets=asset)
        for model in ("atlas", "pca", "deform")
    }


def _mirrored(film: Radiograph) -> Radiograph:
    return replace(film, image=film.image[:, ::-1].copy())


def _display(film: Radiograph) -> Radiograph:
    low, high = float(film.image.min()), float(film.image.max())
    return replace(film, image=(film.image - low) / (high - low), quantity="display")


def _total(rec: Reconstruction) -> float:
    return sum(view.after for view in rec.residual.values())


def test_fitted_models_beat_the_atlas(plain: dict[str, Reconstruction]) -> None:
    truth = patients()[4]
    errors = {model: rmse_hu(rec.volume, truth) for model, rec in plain.items()}
    assert errors["pca"] < errors["atlas"] and errors["deform"] < 0.9 * errors["atlas"]
    for view in ("pa", "lateral"):
        after = {model: rec.residual[view].after for model, rec in plain.items()}
        assert after["deform"] < 0.6 * after["atlas"] and after["pca"] < after["atlas"]
        assert after["deform"] < plain["deform"].residual[view].before


def test_the_sweep_lowers_the_residual(
    asset: PriorAsset, films: tuple[Radiograph, Radiograph], plain: dict[str, Reconstruction]
) -> None:
    refined = reconstruct(*films, model="atlas", size=64, assets=asset)
    for view in ("pa", "lateral"):
        assert refined.residual[view].after < 0.8 * plain["atlas"].residual[view].after
        assert refined.residual[view].before == pytest.approx(plain["atlas"].residual[view].before)
    grid = Grid((64, 64, 64), 6.0)
    excluded = visual_hull(FilmPair(films), grid, device=torch.device("cpu")).numpy() == 0
    assert excluded.mean() > 0.2 and (refined.volume.hu[excluded] == -1024.0).all(), "no halo in the air"


def test_what_comes_with_a_reconstruction(plain: dict[str, Reconstruction], asset: PriorAsset) -> None:
    rec = plain["deform"]
    assert rec.volume.shape == (64, 64, 64) and rec.volume.synthetic
    assert rec.volume.spacing_mm == pytest.approx((6.0, 6.0, 6.0))
    np.testing.assert_allclose(rec.volume.centre_mm, 0.0, atol=1e-6)
    assert rec.volume.is_canonical and "NOT FOR DIAGNOSIS" in rec.volume.notes[0]
    assert float(rec.volume.hu.min()) == -1024.0 and float(rec.volume.hu[0, 0, 0]) == -1024.0
    assert rec.support.shape == (64, 64, 64) and set(np.unique(rec.support)) <= {0.0, 0.5, 1.0}
    assert rec.support[32, 32, 32] == 1.0
    assert rec.spread is None, "one estimate has no spread"
    for film, again, view in zip(rec.films, rec.reprojections, ("pa", "lateral"), strict=True):
        assert film.view == again.view == view and film.geometry == again.geometry
        assert film.image.shape == (224, 224)
        misfit = np.sqrt(np.square(film.image - again.image).mean()) / film.image.std()
        assert misfit == pytest.approx(rec.residual[view].after, rel=0.25)


def test_provenance(asset: PriorAsset, films: tuple[Radiograph, Radiograph], plain: dict[str, Reconstruction]) -> None:
    provenance = plain["deform"].provenance
    assert provenance["model"] == "deform" and provenance["sha256"] == asset.sha256
    assert "NOT FOR DIAGNOSIS" in provenance["notice"]
    assert provenance["geometry"] == {film.view: film.geometry.to_dict() for film in films}
    assert provenance["seed"] == 0 and provenance["options"]["size"] == 64
    assert provenance["options"]["refine"] is False and provenance["options"]["bank_cases"] == 0
    assert provenance["seconds"] > 0 and provenance["prior"]["cases"] == 4
    assert provenance["calibration"]["pa"] == {"quantity": "line_integral", "gain": 1.0, "offset": 0.0}
    assert any("PA: " in note for note in provenance["notes"])


def test_any_size_has_its_spacing_and_the_same_chest(
    asset: PriorAsset, films: tuple[Radiograph, Radiograph], plain: dict[str, Reconstruction]
) -> None:
    larger = reconstruct(*films, model="atlas", size=80, refine=False, assets=asset)
    for rec, size in ((plain["atlas"], 64), (larger, 80)):
        spacing = 384.0 / size
        assert rec.volume.shape == (size,) * 3 and rec.volume.spacing_mm == pytest.approx((spacing,) * 3)
        # Voxel (0, 0, 0): patient's right, front, head.
        corner = (384.0 - spacing) / 2
        np.testing.assert_allclose(rec.volume.affine @ [0, 0, 0, 1], [-corner, -corner, corner, 1], atol=1e-4)
    means = [float(clipped(rec.volume).mean()) for rec in (plain["atlas"], larger)]
    assert means[0] == pytest.approx(means[1], abs=6.0)


def test_left_is_left(
    asset: PriorAsset, films: tuple[Radiograph, Radiograph], plain: dict[str, Reconstruction]
) -> None:
    hu = plain["deform"].volume.hu[18:50, 12:52]
    soft = (hu > -300).sum(axis=(0, 1))
    assert soft[33:53].sum() > 1.03 * soft[11:31].sum(), "the heart lies at the larger W"
    pa, lateral = films
    mirrored = reconstruct(_mirrored(pa), lateral, model="deform", size=64, refine=False, assets=asset)
    assert mirrored.residual["pa"].after > 1.05 * plain["deform"].residual["pa"].after
    turned = reconstruct(pa, _mirrored(lateral), model="deform", size=64, refine=False, assets=asset)
    assert turned.residual["lateral"].after > 1.2 * plain["deform"].residual["lateral"].after


def test_head_is_up_and_the_back_is_behind(plain: dict[str, Reconstruction]) -> None:
    hu = plain["deform"].volume.hu
    bone = (hu > 150).sum(axis=(0, 2))
    assert (bone * np.arange(64)).sum() / bone.sum() > 33, "the spine lies behind"
    lung = ((hu > -950) & (hu < -600)).sum(axis=(1, 2))
    assert lung[10:30].sum() > lung[50:60].sum() * 2, "below the lungs lies the abdomen"


def test_two_runs_are_identical(
    asset: PriorAsset, films: tuple[Radiograph, Radiograph], plain: dict[str, Reconstruction]
) -> None:
    again = reconstruct(*films, model="deform", size=64, refine=False, assets=asset)
    assert np.array_equal(again.volume.hu, plain["deform"].volume.hu) and again.residual == plain["deform"].residual


def test_films_of_unknown_gain(
    asset: PriorAsset, films: tuple[Radiograph, Radiograph], plain: dict[str, Reconstruction]
) -> None:
    shown = tuple(_display(film) for film in films)
    rec = reconstruct(*shown, model="deform", size=64, refine=False, assets=asset)
    for film, true in zip(shown, films, strict=True):
        found = rec.provenance["calibration"][film.view]
        assert found["quantity"] == "display"
        assert found["gain"] == pytest.approx(float(np.ptp(true.image)), rel=0.3)
    truth = patients()[4]
    assert rmse_hu(rec.volume, truth) < rmse_hu(plain["atlas"].volume, truth)
    assert rec.films[0].quantity == "display" and float(rec.films[0].image.max()) > 2.0, "shown calibrated"


def test_a_bank_adds_spread_and_helps(
    asset: PriorAsset, films: tuple[Radiograph, Radiograph], plain: dict[str, Reconstruction]
) -> None:
    lines: list[str] = []
    truth = patients()[4]
    rec = reconstruct(
        *films,
        model="deform",
        size=64,
        refine=False,
        assets=asset,
        bank=[truth],  # the patient itself: only a test may do that
        progress=lines.append,
    )
    assert rec.provenance["model"] == "deform+bank" and rec.provenance["options"]["bank_cases"] == 1
    assert rec.spread is not None and rec.spread.shape == (64, 64, 64)
    assert float(rec.spread.min()) >= 0.0 and float(rec.spread.max()) > 50.0
    assert rmse_hu(rec.volume, truth) < rmse_hu(plain["deform"].volume, truth)
    assert "bank: fitting case 1 of 1" in lines and lines[-1] == "drawing 64 x 64 x 64 voxels"


def test_films_of_a_narrow_detector_support_only_what_they_saw(asset: PriorAsset) -> None:
    """The `prost` preset sees 160 mm at the isocentre; beyond it nothing is known, and nothing is carved away."""
    pa, lateral = simulate(patients()[4], size=96, geometry="prost")
    rec = reconstruct(pa, lateral, model="atlas", size=64, refine=False, assets=asset)
    assert rec.support[32, 32, 32] == 1.0 and rec.support[32, 32, 8] < 1.0 and rec.support[8, 32, 8] == 0.0
    assert (rec.volume.hu[rec.support == 0] > -500).any(), "shoulders and belly stay where no film looks"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "magic"}, "unknown model 'magic'; choose one of default, atlas, pca, deform"),
        ({"size": 63}, "size must lie in 64..256 voxels per edge, got 63"),
        ({"size": 257}, "size must lie in 64..256"),
        ({"model": "pca", "bank": []}, "a bank is used by model deform only, not by pca"),
        ({"model": "atlas", "bank": []}, "not by atlas"),
        ({"model": "deform", "bank": []}, "the bank holds no CT"),
    ],
)
def test_refused_options(
    asset: PriorAsset, films: tuple[Radiograph, Radiograph], options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        reconstruct(*films, **{"size": 64, "assets": asset, **options})  # type: ignore[arg-type]


def test_swapped_films_are_refused(asset: PriorAsset, films: tuple[Radiograph, Radiograph]) -> None:
    with pytest.raises(InputError, match="give PA first, lateral second"):
        reconstruct(films[1], films[0], size=64, assets=asset)


def test_missing_priors_are_named(films: tuple[Radiograph, Radiograph]) -> None:
    with pytest.raises(MissingPartError, match=r"nowhere\.safetensors.*xrecon train priors"):
        reconstruct(*films, size=64, assets="nowhere.safetensors")


def test_a_source_inside_the_chest_is_refused(asset: PriorAsset, films: tuple[Radiograph, Radiograph]) -> None:
    pa, lateral = films
    near = replace(pa, geometry=replace(pa.geometry, source_to_isocentre_mm=100.0))
    with pytest.raises(GeometryError, match="source lies inside"):
        reconstruct(near, lateral, model="pca", size=64, assets=asset)
