"""Random films of stored lengths: repeatable, different each time, maps that go with the films, mirrored sides."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from support.film_chests import drawn_sample
from xrecon.data.film_library import FilmSample
from xrecon.films.simulation import film_pair
from xrecon.training.films.console import shown, toned
from xrecon.training.films.exposure import clinical_film, mirrored, random_film

SIZE = 64
VIEWS = film_pair("chest", size=SIZE)


@pytest.fixture(scope="module")
def sample() -> FilmSample:
    return drawn_sample(SIZE, np.random.default_rng(0), side=0)


def test_a_seed_gives_the_same_film_and_another_seed_another(sample: FilmSample) -> None:
    first, again, other = (random_film(sample, VIEWS, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert torch.equal(first.films, again.films) and torch.equal(first.air, again.air)
    assert not torch.equal(first.films, other.films)
    assert first.films.shape == (2, SIZE, SIZE) and first.air.shape == first.lung.shape == (2, 2, SIZE, SIZE)
    assert bool(first.films.isfinite().all())


def test_the_film_of_the_validation_is_dark_where_there_is_lung(sample: FilmSample) -> None:
    film = clinical_film(sample, VIEWS, seed=1)
    lung = film.lung[0].sum(dim=0) > 60
    inside = (film.films[0] > 2.0) & ~lung
    assert float(film.films[0][lung].mean()) < float(film.films[0][inside].mean())
    assert torch.equal(film.air, torch.from_numpy(sample.air))


def test_air_stays_dark_wherever_it_was_moved(sample: FilmSample) -> None:
    for seed in range(12):
        item = random_film(sample, VIEWS, np.random.default_rng(seed))
        air, lung = item.air[0].sum(dim=0) > 40, item.lung[0].sum(dim=0) > 40
        assert float(item.films[0][air].mean()) < float(item.films[0][lung].mean())


def test_the_mirror_image_exchanges_sides_on_both_films_and_turns_the_pa_film(sample: FilmSample) -> None:
    film = clinical_film(sample, VIEWS, seed=1)
    stack = torch.cat([film.films[:, None], film.air, film.lung], dim=1)
    turned = mirrored(stack)
    assert torch.equal(turned[0, 0], stack[0, 0].flip(-1)) and torch.equal(turned[1, 0], stack[1, 0])
    assert torch.equal(turned[0, 2], stack[0, 1].flip(-1)) and torch.equal(turned[1, 4], stack[1, 3])
    assert torch.equal(mirrored(turned), stack)
    # The air was on the patient's right, the left of the film; now it is on the patient's left, the film's right.
    columns = torch.arange(SIZE)
    assert float(turned[0, 1].sum()) == 0.0
    assert float((turned[0, 2].sum(dim=0) * columns).sum() / turned[0, 2].sum()) > SIZE / 2


def test_half_of_the_films_are_mirrored(sample: FilmSample) -> None:
    sides = [
        int(random_film(sample, VIEWS, np.random.default_rng(s)).air[0].sum(dim=(1, 2)).argmax()) for s in range(24)
    ]
    assert 4 <= sum(sides) <= 20


def test_look_up_tables_keep_the_order_of_grey() -> None:
    ramp = torch.linspace(0.0, 6.0, 64 * 64).reshape(64, 64)
    for seed in range(20):
        out = toned(ramp, np.random.default_rng(seed)).flatten()
        assert bool((out.diff() >= 0).all()) and float(out[-1]) > float(out[0])


def test_a_stored_film_has_steps_of_grey() -> None:
    film = torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    counts = {len(shown(film, "pa", VIEWS[0], np.random.default_rng(seed)).unique()) for seed in range(12)}
    assert min(counts) <= 256
    assert torch.equal(film, torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(0)))
