"""What a reconstruction does with films that look wrong, and what it says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from xrecon.errors import InputError
from xrecon.inference.film_check import residual_notes
from xrecon.inference.reconstruct import reconstruct
from xrecon.inference.result import Reconstruction, ViewResidual
from xrecon.priors.asset import PriorAsset
from xrecon.priors.framing import FilmedChest
from xrecon.radiograph import Radiograph

Films = tuple[Radiograph, Radiograph]


@pytest.fixture(scope="module")
def measured(cases: tuple[FilmedChest, ...]) -> Films:
    """Line integrals of the patient whom the priors do not know."""
    return cases[4].films.films


@pytest.fixture(scope="module")
def shown(measured: Films) -> Films:
    """The same as display films."""
    pa, lateral = (
        replace(film, image=(film.image - film.image.min()) / np.ptp(film.image), quantity="display")
        for film in measured
    )
    return pa, lateral


def negative(film: Radiograph) -> Radiograph:
    return replace(film, image=1 - film.image)


def exchanged(films: Films) -> Films:
    return replace(films[0], image=films[1].image), replace(films[1], image=films[0].image)


def run(asset: PriorAsset, films: Films, **options: Any) -> tuple[Reconstruction, str]:
    lines: list[str] = []
    result = reconstruct(
        *films, **{"model": "atlas", "size": 64, "refine": False, **options}, assets=asset, progress=lines.append
    )
    return result, "\n".join(lines)


def test_good_films_bring_a_summary_and_no_word(asset: PriorAsset, shown: Films, measured: Films) -> None:
    for films in (shown, measured):
        result, said = run(asset, films)
        assert "invert" not in said and "swapped" not in said and "trust" not in said
        seen = result.provenance["films"]
        assert seen["pa"]["looks"] == seen["lateral"]["looks"] == "as expected"
        assert seen["pair"]["as_given"] > seen["pair"]["exchanged"] and not seen["pa"]["was_inverted"]


def test_negatives_are_inverted_and_said(asset: PriorAsset, shown: Films) -> None:
    right, _ = run(asset, shown, refine=True)
    result, said = run(asset, (negative(shown[0]), shown[1]), refine=True)
    difference = np.abs(np.maximum(result.volume.hu, -1000) - np.maximum(right.volume.hu, -1000))
    assert float(difference.mean()) < 0.1
    assert "the PA film looks inverted" in said and "it was inverted" in said and "mirror" not in said
    assert "the lateral film looks inverted" not in said
    assert result.provenance["films"]["pa"]["looks"] == "inverted" and result.provenance["films"]["pa"]["was_inverted"]
    notes = [note for note in result.provenance["notes"] if "looks inverted" in note]
    assert len(notes) == 1 and any("looks inverted" in note for note in result.films[0].notes)


def test_a_film_that_is_both_is_said_to_be_both(asset: PriorAsset, shown: Films) -> None:
    lateral = replace(shown[1], image=np.ascontiguousarray(1 - shown[1].image[:, ::-1]))
    result, said = run(asset, (shown[0], lateral))
    assert "the lateral film looks inverted" in said and "--mirror-lateral" in said
    assert result.provenance["films"]["lateral"]["looks"] == "inverted and mirrored"


@pytest.mark.parametrize("how", ["asked", "forced"])
def test_what_the_user_says_of_inversion_stays(asset: PriorAsset, shown: Films, how: str) -> None:
    dark = replace(negative(shown[0]), inversion_asked=how == "asked")
    result, said = run(asset, (dark, shown[1]), force=how == "forced")
    assert "the PA film looks inverted" in said and "left as" in said and "it was inverted" not in said
    assert not result.provenance["films"]["pa"]["was_inverted"]
    assert result.provenance["calibration"]["pa"]["gain"] > 0


def test_dark_line_integrals_are_refused_unless_forced(asset: PriorAsset, measured: Films) -> None:
    dark = replace(measured[0], image=measured[0].image.max() - measured[0].image)
    with pytest.raises(InputError, match=r"PA film holds line integrals, but looks inverted .*--force"):
        run(asset, (dark, measured[1]))
    result, said = run(asset, (dark, measured[1]), force=True)
    assert "forced: the PA film holds line integrals" in said and result.provenance["options"]["force"] is True


@pytest.mark.parametrize("quantity", ["display", "line_integral"])
def test_swapped_films_are_refused_unless_forced(
    asset: PriorAsset, shown: Films, measured: Films, quantity: str
) -> None:
    films = exchanged(shown if quantity == "display" else measured)
    with pytest.raises(InputError, match=r"films look swapped.*sum of the correlations \d\.\d\d.*exchange --pa"):
        run(asset, films)
    result, said = run(asset, films, force=True)
    assert "forced: the films look swapped" in said and result.provenance["films"]["pair"]["looks_swapped"]
    assert any("looks swapped" in note or "look swapped" in note for note in result.provenance["notes"])


def test_one_film_twice_is_refused_unless_forced(asset: PriorAsset, shown: Films) -> None:
    for films in (
        (shown[0], replace(shown[1], image=shown[0].image)),
        (replace(shown[0], image=shown[1].image), shown[1]),
    ):
        with pytest.raises(InputError, match=r"both films show the same picture .correlation 1\.00"):
            run(asset, films)
        assert "forced: both films" in run(asset, films, force=True)[1]


def test_two_frontal_films_are_refused(asset: PriorAsset, shown: Films) -> None:
    other = np.roll(shown[0].image[:, ::-1] ** 1.3, 5, axis=0)
    with pytest.raises(InputError, match=r"film given as lateral looks like a PA film|show the same picture"):
        run(asset, (shown[0], replace(shown[1], image=np.ascontiguousarray(other))))


def test_pictures_without_a_chest_are_refused(asset: PriorAsset, shown: Films) -> None:
    noise = np.random.default_rng(1).random(shown[1].image.shape, dtype=np.float32)
    with pytest.raises(InputError, match=r"the lateral film looks like no chest film .*--force"):
        run(asset, (shown[0], replace(shown[1], image=noise)))
    assert "forced: the lateral film" in run(asset, (shown[0], replace(shown[1], image=noise)), force=True)[1]


def test_a_result_that_does_not_fit_is_not_to_be_trusted() -> None:
    notes = residual_notes({"pa": ViewResidual(1.2, 0.95), "lateral": ViewResidual(1.0, 0.4)})
    assert len(notes) == 1 and "PA film" in notes[0] and "95%" in notes[0] and "do not trust it" in notes[0]
    assert residual_notes({"pa": ViewResidual(1.0, float("nan"))})


@pytest.mark.parametrize("model", ["atlas", "deform"])
def test_an_unrefined_result_that_does_not_fit_is_doubted_too(asset: PriorAsset, shown: Films, model: str) -> None:
    noise = np.random.default_rng(1).random(shown[1].image.shape, dtype=np.float32)
    strange = (shown[0], replace(shown[1], image=noise))
    result, said = run(asset, strange, force=True, refine=False, model=model)
    assert result.residual["lateral"].after > 0.9
    assert "does not fit the lateral film" in said and "do not trust it" in said
    assert any("do not trust it" in note for note in result.provenance["notes"])
    assert "do not trust it" not in run(asset, shown, refine=False, model=model)[1]
