"""Simulated films: which way round they are, what is on them, and what they do not depend on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xrecon.anatomy.frame import framed, thorax_centre
from xrecon.errors import GeometryError, InputError
from xrecon.films.simulation import film_pair, simulate
from xrecon.phantoms.thorax import Phantom
from xrecon.projector.attenuation import FILM_ENERGY_KEV, hu_to_mu
from xrecon.radiograph import Radiograph
from xrecon.volume import Volume


@pytest.fixture(scope="module")
def films(phantom64: Phantom) -> tuple[Radiograph, Radiograph]:
    return simulate(phantom64.volume, size=64)


def shadow_column(phantom: Phantom, structure: str, view: int) -> float:
    """Mean film column of one structure alone, projected like the whole chest; 0..1 from left to right."""
    mask = phantom.structures[structure]
    alone = phantom.volume.with_hu(np.where(mask, np.float32(1000.0), np.float32(-1000.0)))
    film = simulate(alone, size=64, keep_table=True, centre_mm=thorax_centre(phantom.volume))[view]
    weight = film.image.sum(axis=0)
    return float((weight * np.arange(64)).sum() / weight.sum() / 63)


def test_two_films_of_line_integrals(films: tuple[Radiograph, Radiograph]) -> None:
    pa, lateral = films
    assert (pa.view, lateral.view) == ("pa", "lateral")
    for film in films:
        assert film.image.shape == (64, 64)
        assert film.image.dtype == np.float32
        assert film.is_quantitative
        assert film.image.min() >= 0
        assert 3.0 < film.image.max() < 15.0
    assert lateral.image.max() > pa.image.max()  # a chest is wider than deep


def test_the_heart_lies_on_the_right_of_the_pa_film(phantom64: Phantom) -> None:
    # The patient's left is on the image's right.
    assert shadow_column(phantom64, "heart", 0) > 0.51
    assert shadow_column(phantom64, "liver", 0) < 0.45
    assert shadow_column(phantom64, "stomach", 0) > 0.55


def test_the_spine_lies_on_the_right_of_the_lateral_film(phantom64: Phantom) -> None:
    assert shadow_column(phantom64, "spine", 1) > 0.65
    assert shadow_column(phantom64, "heart", 1) < 0.5


def test_the_head_is_on_top(phantom64: Phantom) -> None:
    mask = phantom64.structures["liver"]
    alone = phantom64.volume.with_hu(np.where(mask, np.float32(1000.0), np.float32(-1000.0)))
    for film in simulate(alone, size=64, keep_table=True, centre_mm=thorax_centre(phantom64.volume)):
        rows = film.image.sum(axis=1)
        assert (rows * np.arange(64)).sum() / rows.sum() > 40  # the liver is below the middle


def test_films_agree_with_plain_sums_over_the_frame(phantom64: Phantom) -> None:
    # An independent check of every axis: with a far source a film is nearly a sum along one axis of the framed CT.
    far = [
        replace(view, source_to_isocentre_mm=99_000.0, source_to_detector_mm=100_000.0, pixel_mm=(600 / 99, 600 / 99))
        for view in film_pair("chest", size=64)
    ]
    pa, lateral = simulate(phantom64.volume, geometry=(far[0], far[1]), keep_table=True)
    cube = framed(phantom64.volume, 64)
    mu = hu_to_mu(cube.hu, energy_kev=FILM_ENERGY_KEV)
    for film, axis in ((pa, 1), (lateral, 2)):
        expected = mu.sum(axis=axis) * 6.0
        error = np.sqrt(np.mean((film.image - expected) ** 2)) / expected.std()
        assert error < 0.05
        for flipped in (film.image[:, ::-1], film.image[::-1]):
            assert np.sqrt(np.mean((flipped - expected) ** 2)) / expected.std() > 0.15


def test_the_table_is_kept_only_if_asked(phantom64: Phantom, films: tuple[Radiograph, Radiograph]) -> None:
    films_with_table = simulate(phantom64.volume, size=64, keep_table=True)
    for without, with_table in zip(films, films_with_table, strict=True):
        assert with_table.image.mean() > without.image.mean() + 0.02
    assert "(table, covers) removed" in " ".join(films[0].notes)
    assert films_with_table[0].notes == phantom64.volume.notes
    # On the lateral film the table stands at the far right, behind the back.
    difference = films_with_table[1].image - films[1].image
    assert difference[:, 48:].sum() > 5 * np.abs(difference[:, :40]).sum()


def test_a_scan_stored_another_way_gives_the_same_films(
    phantom64: Phantom, films: tuple[Radiograph, Radiograph]
) -> None:
    ct = phantom64.volume
    matrix = np.array([[0, 0, -1, 63], [0, 1, 0, 0], [-1, 0, 0, 63], [0, 0, 0, 1]], dtype=float)  # new to old index
    stored = Volume(ct.hu[::-1, :, ::-1].transpose(2, 1, 0), ct.affine @ matrix)
    assert not stored.is_canonical
    for again, film in zip(simulate(stored, size=64), films, strict=True):
        assert np.allclose(again.image, film.image, atol=1e-4)


def test_the_scanners_origin_does_not_matter(phantom64: Phantom, films: tuple[Radiograph, Radiograph]) -> None:
    affine = phantom64.volume.affine.copy()
    affine[:3, 3] += (120.0, -75.0, -1333.0)
    for again, film in zip(simulate(Volume(phantom64.volume.hu, affine), size=64), films, strict=True):
        assert np.allclose(again.image, film.image, atol=1e-3)


def test_an_oblique_scan_is_centred_along_its_own_axes(
    phantom64: Phantom, films: tuple[Radiograph, Radiograph]
) -> None:
    angle = np.radians(20.0)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    oblique = Volume(phantom64.volume.hu, turn @ phantom64.volume.affine)
    for again, film in zip(simulate(oblique, size=64), films, strict=True):
        assert np.allclose(again.image, film.image, atol=1e-3)


def test_a_centre_moves_the_film(phantom64: Phantom, films: tuple[Radiograph, Radiograph]) -> None:
    centre = thorax_centre(phantom64.volume)
    moved, _ = simulate(
        phantom64.volume, size=64, centre_mm=centre + np.array([30.0, 0.0, 0.0])
    )  # to the patient's left
    assert np.corrcoef(moved.image[:, :-5].ravel(), films[0].image[:, 5:].ravel())[0, 1] > 0.99


def test_presets_sizes_and_energy(phantom64: Phantom, films: tuple[Radiograph, Radiograph]) -> None:
    pa, _ = simulate(phantom64.volume, size=48, geometry="x2ct", energy_kev=80.0)
    assert pa.image.shape == (48, 48)
    assert pa.geometry.name == "x2ct"
    assert pa.image.max() < films[0].image.max()  # harder rays are weakened less
    smaller = films[0].resampled(films[0].geometry.with_detector((32, 32)))
    assert smaller.image.shape == (32, 32)
    assert smaller.image.mean() == pytest.approx(films[0].image.mean(), rel=0.02)


def test_wrong_input_is_refused(phantom64: Phantom) -> None:
    with pytest.raises(GeometryError, match="unknown geometry preset"):
        simulate(phantom64.volume, geometry="dental")
    solid = np.where(phantom64.structures["body"], np.float32(40.0), np.float32(-1000.0))
    with pytest.raises(InputError, match="no lungs found"):
        simulate(phantom64.volume.with_hu(solid), size=64)
