"""Films judged by their content: inverted, mirrored, swapped, repeated, cropped, and no chest at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from xrecon.priors.asset import PriorAsset
from xrecon.priors.deformation import mean_chest
from xrecon.priors.film_content import FilmLikeness, PairVerdict, film_likeness, judge_films, pair_agreement
from xrecon.priors.films import FilmPair
from xrecon.priors.framing import FilmedChest
from xrecon.radiograph import Radiograph

Image = NDArray[np.float32]


@pytest.fixture(scope="module")
def films(cases: tuple[FilmedChest, ...]) -> tuple[Radiograph, Radiograph]:
    """Display films of the patient whom the priors do not know."""
    pa, lateral = (
        replace(film, image=(film.image - film.image.min()) / np.ptp(film.image), quantity="display")
        for film in cases[4].films.films
    )
    return pa, lateral


def judged(asset: PriorAsset, *films: Radiograph) -> PairVerdict:
    pa, lateral = films
    return judge_films(FilmPair((pa, lateral)), mean_chest(asset.prior))


def changed(film: Radiograph, change: Callable[[Image], Image]) -> Radiograph:
    return replace(film, image=np.ascontiguousarray(change(film.image)))


def test_good_films_are_as_expected(asset: PriorAsset, films: tuple[Radiograph, Radiograph]) -> None:
    verdict = judged(asset, *films)
    for seen in verdict.films:
        assert not (seen.is_inverted or seen.is_other_view or seen.shows_no_chest or seen.has_unclear_sign)
        assert seen.likeness.straight > 0.7 and 0.2 < seen.body_share < 1.0
    assert not verdict.is_swapped and not verdict.is_same_film and verdict.as_given > verdict.exchanged + 0.3


@pytest.mark.parametrize("gain", [0.2, 1.0])
def test_a_negative_is_seen_whichever_way_it_hangs(
    asset: PriorAsset, films: tuple[Radiograph, Radiograph], gain: float
) -> None:
    pa, lateral = films
    verdict = judged(
        asset, changed(pa, lambda image: 0.9 - gain * image), changed(lateral, lambda image: 1 - image[:, ::-1])
    )
    assert all(seen.is_inverted for seen in verdict.films)
    assert verdict.films[1].is_mirrored and not verdict.films[0].is_other_view
    alone = judged(asset, pa, changed(lateral, lambda image: 1 - image))
    assert [seen.is_inverted for seen in alone.films] == [False, True] and not alone.is_swapped


def test_exchanged_films_are_seen_also_as_negatives(asset: PriorAsset, films: tuple[Radiograph, Radiograph]) -> None:
    pa, lateral = (replace(film, image=other.image) for film, other in zip(films, films[::-1], strict=True))
    assert judged(asset, pa, lateral).is_swapped
    dark = judged(asset, changed(pa, lambda image: 1 - image), changed(lateral, lambda image: 1 - image))
    assert dark.is_swapped and all(seen.is_inverted and seen.is_other_view for seen in dark.films)


def test_one_film_twice(asset: PriorAsset, films: tuple[Radiograph, Radiograph]) -> None:
    pa, lateral = films
    for image in (pa.image, pa.image[:, ::-1], 1 - pa.image, np.round(pa.image * 200) / 200):
        pair = FilmPair((pa, replace(lateral, image=np.ascontiguousarray(image))))
        assert pair_agreement(pair) > 0.99
    verdict = judged(asset, pa, replace(lateral, image=pa.image))
    assert verdict.is_same_film and [seen.is_other_view for seen in verdict.films] == [False, True]
    assert not judged(asset, pa, lateral).is_same_film


def test_pictures_without_a_chest(asset: PriorAsset, films: tuple[Radiograph, Radiograph]) -> None:
    noise = np.random.default_rng(3).random(films[0].image.shape, dtype=np.float32)
    stripes = np.broadcast_to(np.sin(np.arange(noise.shape[1])), noise.shape).astype(np.float32)
    verdict = judged(asset, changed(films[0], lambda _: noise), changed(films[1], lambda _: stripes))
    assert all(seen.shows_no_chest for seen in verdict.films) and not verdict.is_swapped


def test_a_cropped_film_is_compared_where_it_measured(asset: PriorAsset, films: tuple[Radiograph, Radiograph]) -> None:
    inner = films[0].image[20:-20, 16:-16]
    geometry = replace(films[0].geometry, detector_shape=inner.shape)
    cropped = replace(films[0], image=np.ascontiguousarray(inner), geometry=geometry)
    likeness, _ = film_likeness(FilmPair((cropped, films[1])), mean_chest(asset.prior))
    assert likeness.straight > 0.6


def test_a_sign_that_changes_with_mirroring_is_no_negative() -> None:
    assert not FilmLikeness(-0.46, 0.25, -0.04, -0.14).is_negative
    assert FilmLikeness(-0.46, -0.35, -0.04, 0.14).is_negative
    assert FilmLikeness(-0.05, 0.02, -0.44, -0.34).is_negative, "of the other view"


def test_little_body_is_measured(asset: PriorAsset, films: tuple[Radiograph, Radiograph]) -> None:
    spot = np.zeros_like(films[0].image)
    spot[40:60, 40:60] = films[0].image[40:60, 40:60]
    assert judged(asset, changed(films[0], lambda _: spot), films[1]).films[0].body_share < 0.2
