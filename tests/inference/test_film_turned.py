"""Films given lying, upside down or in a white frame: refused with the turn that mends it, and the advice works."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xrecon.errors import InputError
from xrecon.inference.film_check import check_films
from xrecon.priors.asset import PriorAsset
from xrecon.priors.deformation import mean_chest
from xrecon.priors.films import FilmPair
from xrecon.priors.framing import FilmedChest
from xrecon.radiograph import Radiograph

TURNS = {"by 90 degrees counterclockwise": 1, "by 180 degrees": 2, "by 90 degrees clockwise": -1}


@pytest.fixture(scope="module")
def pair(cases: tuple[FilmedChest, ...]) -> FilmPair:
    """Square display films of the patient whom the priors do not know."""
    pa, lateral = cases[4].films.films
    edge = min(*pa.image.shape, *lateral.image.shape)
    return FilmPair((with_image(pa, pa.image[:edge, :edge]), with_image(lateral, lateral.image[:edge, :edge])))


def with_image(film: Radiograph, image: np.ndarray) -> Radiograph:
    grey = np.ascontiguousarray((image - image.min()) / np.ptp(image), dtype=np.float32)
    return replace(film, image=grey, geometry=replace(film.geometry, detector_shape=grey.shape), quantity="display")


def turned(pair: FilmPair, pa: int, lateral: int) -> FilmPair:
    first, second = (
        with_image(film, np.rot90(film.image, k)) for film, k in zip(pair.films, (pa, lateral), strict=True)
    )
    return FilmPair((first, second))


@pytest.mark.parametrize("quarters", [(1, 1), (2, 2), (3, 3), (1, 0)])
def test_the_advice_to_turn_works(asset: PriorAsset, pair: FilmPair, quarters: tuple[int, int]) -> None:
    given = turned(pair, *quarters)
    with pytest.raises(InputError, match=r"lie on their sides|stand on their heads|lies on its side") as refusal:
        check_films(given, mean_chest(asset.prior), force=False)
    quarter = next(k for words, k in TURNS.items() if f"{words} and" in str(refusal.value))
    mended = turned(given, *(quarter if k else 0 for k in quarters))
    assert not check_films(mended, mean_chest(asset.prior), force=False).notes
    forced = check_films(given, mean_chest(asset.prior), force=True)
    assert forced.films is given and any(note.startswith("forced: ") for note in forced.notes)


def test_a_white_frame_is_refused_and_cropping_it_works(asset: PriorAsset, pair: FilmPair) -> None:
    pa, lateral = pair.films
    framed = with_image(pa, np.pad(pa.image, 8, constant_values=1.0))
    with pytest.raises(InputError, match=r"the PA film has a white frame \(\d+% .* crop it away"):
        check_films(FilmPair((framed, lateral)), mean_chest(asset.prior), force=False)
    cropped = with_image(pa, framed.image[8:-8, 8:-8])
    assert not check_films(FilmPair((cropped, lateral)), mean_chest(asset.prior), force=False).notes
