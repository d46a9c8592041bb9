"""Simulated films with the film physics: the linear path untouched, each part through the whole way from a CT."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xrecon.errors import InputError
from xrecon.films.simulation import simulate
from xrecon.phantoms.thorax import Phantom
from xrecon.projector.physics import FilmPhysics, film_physics
from xrecon.radiograph import Radiograph


def films(phantom: Phantom, *overrides: str, preset: str = "linear", seed: int = 0) -> tuple[Radiograph, Radiograph]:
    generator = torch.Generator().manual_seed(seed)
    return simulate(phantom.volume, size=64, physics=film_physics(preset, overrides), generator=generator)


def test_two_materials_at_one_energy_are_the_linear_film(phantom64: Phantom) -> None:
    linear = simulate(phantom64.volume, size=64, energy_kev=70.0)
    chain = simulate(phantom64.volume, size=64, energy_kev=70.0, physics=FilmPhysics())
    for plain, film in zip(linear, chain, strict=True):
        assert film.is_quantitative
        np.testing.assert_allclose(film.image, plain.image, atol=2e-4)


def test_a_polychromatic_film_is_flatter_where_it_is_dense(phantom64: Phantom) -> None:
    linear = simulate(phantom64.volume, size=64)
    for plain, film in zip(linear, films(phantom64, "beam.kvp=120"), strict=True):
        ratio = film.image[plain.image > 0.3] / plain.image[plain.image > 0.3]
        order = np.argsort(plain.image[plain.image > 0.3])
        thin, thick = ratio[order[:100]].mean(), ratio[order[-100:]].mean()
        assert thick < thin
        assert 0.85 < thick < 1.05  # 60 keV was chosen for what is behind the patient


def test_a_clinical_film_looks_like_the_linear_one(phantom64: Phantom) -> None:
    linear = simulate(phantom64.volume, size=64)
    clinical = films(phantom64, preset="clinical")
    for plain, film in zip(linear, clinical, strict=True):
        assert film.quantity == "display"
        assert film.geometry == plain.geometry
        assert film.image.min() >= 0 and film.image.max() <= 1
        alike = np.corrcoef(film.image.ravel(), plain.image.ravel())[0, 1]
        assert alike > 0.9
        for flipped in (film.image[::-1], film.image[:, ::-1]):
            assert np.corrcoef(flipped.ravel(), plain.image.ravel())[0, 1] < alike - 0.005
        assert "120 kVp, 3 mm Al, scatter, heel, noise, blur, display" in film.notes[-1]


def test_noise_depends_on_the_seed_alone(phantom64: Phantom) -> None:
    first, again, other = (films(phantom64, "noise.exposure=0.1", seed=seed) for seed in (3, 3, 4))
    for a, b, c in zip(first, again, other, strict=True):
        assert np.array_equal(a.image, b.image)
        assert not np.array_equal(a.image, c.image)


def test_wrong_physics(phantom64: Phantom) -> None:
    with pytest.raises(InputError, match="pass generator"):
        simulate(phantom64.volume, size=64, physics=film_physics("clinical"))
    with pytest.raises(InputError, match=r"display\.invert is on"):
        films(phantom64, "display.invert=true")
