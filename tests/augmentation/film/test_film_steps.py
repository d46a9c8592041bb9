"""The steps that spoil a film."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from support.augment_fixtures import phantom_case
from xrecon.augmentation.film.collimation import CollimationSettings, collimate
from xrecon.augmentation.film.equalise import EqualiseSettings, equalise_contrast
from xrecon.augmentation.film.exposure import ExposureSettings, expose
from xrecon.augmentation.film.inversion import InversionSettings, invert
from xrecon.augmentation.film.markers import MarkerSettings, mark
from xrecon.augmentation.film.tone import ToneSettings, apply_tone_curve
from xrecon.augmentation.steps import FilmView
from xrecon.data.case_file import CaseData
from xrecon.films.normalisation import network_film
from xrecon.geometry import ConeBeam
from xrecon.phantoms.thorax import Phantom

VIEW = FilmView("pa", ConeBeam.preset("chest", "pa", size=64))


Film = NDArray[np.float32]


@pytest.fixture(scope="module")
def case(phantom64: Phantom) -> CaseData:
    return phantom_case(phantom64)


def test_fewer_quanta_make_more_noise(case: CaseData) -> None:
    spread = []
    for quanta in (300.0, 30000.0):
        quiet = ExposureSettings(
            quanta_per_mm2=(quanta, quanta), electronic=(0, 0), scatter=(0, 0), blur_mm=(0, 0), probability=1
        )
        film, draws = expose(case.pa, VIEW, quiet, np.random.default_rng(0))
        assert draws["quanta_per_mm2"] == pytest.approx(quanta)
        rest = film - case.pa
        spread.append(float(rest[20:44, 20:44].std()))
        assert abs(float(np.median(rest))) < 0.1
    # Poisson: a hundredfold dose, a tenth of the noise.
    assert spread[0] / spread[1] == pytest.approx(10.0, rel=0.15)
    area = VIEW.beam.pixel_mm[0] * VIEW.beam.pixel_mm[1]
    signal = np.exp(-case.pa)
    expected = 1 / np.sqrt(30000.0 * area * signal / signal[16:48, 16:48].mean())
    assert spread[1] == pytest.approx(float(np.sqrt((expected[20:44, 20:44] ** 2).mean())), rel=0.1)


def test_scatter_takes_contrast(case: CaseData) -> None:
    clean = ExposureSettings(quanta_per_mm2=(1e9, 1e9), electronic=(0, 0), scatter=(0, 0), blur_mm=(0, 0))
    grey = clean.model_copy(update={"scatter": (0.6, 0.6)})
    clean_film, scattered_film = (expose(case.pa, VIEW, s, np.random.default_rng(0))[0] for s in (clean, grey))
    assert np.abs(clean_film - case.pa).max() < 0.01
    assert scattered_film.max() < clean_film.max() - 0.5
    assert (scattered_film <= clean_film + 0.01).all()


def test_the_look_up_table_is_monotone(case: CaseData) -> None:
    for seed in range(5):
        display, draws = apply_tone_curve(case.pa, VIEW, ToneSettings(), np.random.default_rng(seed))
        assert display.min() == 0.0
        assert display.max() == 1.0
        order = np.argsort(case.pa.ravel(), kind="stable")
        assert (np.diff(display.ravel()[order]) >= -1e-6).all()
        assert len(np.unique(display)) <= 2 ** draws["bits"]


@pytest.mark.parametrize(
    "step",
    [
        lambda film: equalise_contrast(film, VIEW, EqualiseSettings(), np.random.default_rng(3))[0],
        lambda film: collimate(film, VIEW, CollimationSettings(), np.random.default_rng(3))[0],
        lambda film: mark(film, VIEW, MarkerSettings(), np.random.default_rng(3))[0],
        lambda film: invert(film, VIEW, InversionSettings(), np.random.default_rng(3))[0],
        lambda film: apply_tone_curve(film, VIEW, ToneSettings(), np.random.default_rng(3))[0],
    ],
)
def test_steps_do_not_depend_on_gain_and_offset(case: CaseData, step: Callable[[Film], Film]) -> None:
    rescaled = (np.float32(3.0) * case.pa + np.float32(2.0)).astype(np.float32)
    assert np.abs(network_film(step(rescaled)) - network_film(step(case.pa))).max() < 0.02
    assert not np.allclose(network_film(step(case.pa)), network_film(case.pa), atol=0.05)


def test_local_contrast_is_evened_out(case: CaseData) -> None:
    def unevenness(film: Film) -> float:
        blocks = film.reshape(8, 8, 8, 8).std(axis=(1, 3))[1:7, 1:7]
        return float(blocks.std() / blocks.mean())

    display, _ = equalise_contrast(
        case.pa, VIEW, EqualiseSettings(strength=(0.9, 0.9), window_mm=(60, 60)), np.random.default_rng(0)
    )
    assert unevenness(display) < unevenness(case.pa)


def test_shutters_cover_borders_only(case: CaseData) -> None:
    for seed in range(12):
        film, draws = collimate(case.pa, VIEW, CollimationSettings(width_mm=(12.0, 40.0)), np.random.default_rng(seed))
        value = case.pa.max() if draws["white"] else case.pa.min()
        assert np.array_equal(film[18:46, 18:46], case.pa[18:46, 18:46])
        for edge, line in (("top", film[0]), ("bottom", film[-1]), ("left", film[:, 0]), ("right", film[:, -1])):
            if edge in draws["width_mm"]:
                assert np.allclose(line[16:48], value)


def test_side_letters_stand_on_their_side(case: CaseData) -> None:
    seen = set()
    for seed in range(60):
        film, draws = mark(case.pa, VIEW, MarkerSettings(count=(1, 1)), np.random.default_rng(seed))
        changed = np.abs(film - case.pa).sum(axis=0)
        column = float((changed * np.arange(64)).sum() / max(changed.sum(), 1e-9))
        text = draws["marks"][0]["text"]
        if text in ("R", "L"):
            seen.add(text)
            assert (column < 32) == (text == "R")
    assert seen == {"R", "L"}


def test_inversion_is_its_own_inverse(case: CaseData) -> None:
    once, _ = invert(case.pa, VIEW, InversionSettings(), np.random.default_rng(0))
    twice, _ = invert(once, VIEW, InversionSettings(), np.random.default_rng(0))
    assert np.allclose(twice, case.pa, atol=1e-5)
    assert np.allclose(network_film(once), 1.0 - network_film(case.pa), atol=1e-5)
