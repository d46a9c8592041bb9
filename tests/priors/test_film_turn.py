"""Films that lie on their side or stand on their head, negatives, and white frames: scores in four quarter turns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from xrecon.priors.asset import PriorAsset
from xrecon.priors.deformation import mean_chest
from xrecon.priors.film_content import PairVerdict, judge_films
from xrecon.priors.film_turn import TurnScores, pair_turn_deg, without_white_frame
from xrecon.priors.films import FilmPair
from xrecon.priors.framing import FilmedChest
from xrecon.radiograph import Radiograph

Films = tuple[Radiograph, Radiograph]


@pytest.fixture(scope="module")
def shown(cases: tuple[FilmedChest, ...]) -> Films:
    """Display films of the patient whom the priors do not know, square and without the widest air."""
    pa, lateral = (squared(film) for film in cases[4].films.films)
    return pa, lateral


def squared(film: Radiograph) -> Radiograph:
    edge = min(film.image.shape)
    return with_image(film, ((film.image - film.image.min()) / np.ptp(film.image))[:edge, :edge])


def with_image(film: Radiograph, image: np.ndarray) -> Radiograph:
    picture = np.ascontiguousarray(image, dtype=np.float32)
    return replace(
        film, image=picture, geometry=replace(film.geometry, detector_shape=picture.shape), quantity="display"
    )


def judged(asset: PriorAsset, films: Films) -> PairVerdict:
    return judge_films(FilmPair(films), mean_chest(asset.prior))


@pytest.mark.parametrize("quarter", [1, 2, 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_turned_films_are_seen_and_not_taken_for_negatives(
    asset: PriorAsset, shown: Films, quarter: int, mirrored: bool
) -> None:
    pa, lateral = (
        with_image(film, np.rot90(film.image[:, ::-1] if mirrored else film.image, quarter)) for film in shown
    )
    verdict = judged(asset, (pa, lateral))
    back = 360 - 90 * quarter
    assert back in (verdict.turn_deg, *(seen.turn_deg for seen in verdict.films))
    if quarter != 2:
        assert not any(seen.is_inverted for seen in verdict.films)


@pytest.mark.parametrize("gamma", [0.6, 1.0, 1.8])
def test_upright_films_stay_upright(asset: PriorAsset, shown: Films, gamma: float) -> None:
    for dark in (False, True):
        pa, lateral = (with_image(film, 1 - film.image**gamma if dark else film.image**gamma) for film in shown)
        verdict = judged(asset, (pa, lateral))
        assert verdict.turn_deg == 0 and [seen.turn_deg for seen in verdict.films] == [0, 0]
        assert [seen.is_inverted for seen in verdict.films] == [dark, dark]
        assert not any(seen.has_white_frame for seen in verdict.films)


def test_a_white_frame_is_seen_and_is_no_negative(asset: PriorAsset, shown: Films) -> None:
    pa, lateral = (with_image(film, np.pad(film.image * 0.98, 10, constant_values=1)) for film in shown)
    verdict = judged(asset, (pa, lateral))
    assert all(seen.has_white_frame and not seen.is_inverted for seen in verdict.films)
    black = with_image(pa, np.pad(shown[0].image, 10))
    assert not judged(asset, (black, shown[1])).films[0].has_white_frame


def test_margins_of_white_frames_are_measured() -> None:
    film = torch.rand(64, 64, generator=torch.Generator().manual_seed(0)) * 0.9
    film[:, :8] = 1.0
    film[60:] = 0.995
    film[20, 8:] = 1.0  # a bright line inside is no frame
    inner, widest = without_white_frame(film, torch.ones(64, 64, dtype=torch.bool))
    assert widest == pytest.approx(8 / 64) and not inner[:, :8].any() and not inner[60:].any()
    assert inner[:60, 8:].all()


def test_what_scores_say() -> None:
    upright, none = (0.8, 0.3, 0.6, 0.3), (0.1, 0.2, 0.1, 0.2)
    assert TurnScores(upright, none).turn_deg == 0 and TurnScores(upright, none).sign == 1
    assert TurnScores(none, upright).turn_deg == 0 and TurnScores(none, upright).sign == -1
    lying = TurnScores((0.3, 0.8, 0.3, 0.6), (0.7, 0.1, 0.5, 0.1))
    assert lying.turn_deg == 90, "the negative is like an upright one, but the turned film more"
    doubtful = TurnScores((0.7, 0.3, 0.78, 0.3), none)
    assert doubtful.turn_deg == 0 and pair_turn_deg(doubtful, doubtful) == 180
    assert TurnScores((0.4, 0.1, 0.1, 0.1), (0.35, 0.1, 0.1, 0.1)).sign == 0


@pytest.mark.parametrize(
    ("scores", "turn_deg"),
    [
        ((0.60, 0.30, 0.68, 0.30), 0),
        ((0.60, 0.30, 0.71, 0.30), 180),
        ((0.60, 0.71, 0.30, 0.30), 0),
        ((0.60, 0.30, 0.30, 0.76), 270),
        ((0.55, 0.66, 0.65, 0.30), 180),
    ],
)
def test_a_film_on_its_head_needs_a_smaller_margin_than_one_on_its_side(
    scores: tuple[float, float, float, float], turn_deg: int
) -> None:
    assert TurnScores(scores, (0.0, 0.0, 0.0, 0.0)).turn_deg == turn_deg


@pytest.mark.parametrize("view", [0, 1])
def test_one_film_alone_on_its_head_is_seen(asset: PriorAsset, shown: Films, view: int) -> None:
    films = [with_image(film, film.image[::-1, ::-1]) if k == view else film for k, film in enumerate(shown)]
    assert judged(asset, (films[0], films[1])).films[view].turn_deg == 180
