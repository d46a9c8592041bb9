"""The films' normalisation for networks, and the steps that spoil a film."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from support.augment_fixtures import phantom_case
from xrecon.augmentation.film import collimate, equalise, expose, invert, mark, tone
from xrecon.augmentation.settings import Collimation, Equalise, Exposure, Inversion, Markers, Tone
from xrecon.data.case_file import CaseData
from xrecon.errors import InputError
from xrecon.films.network_film import network_film
from xrecon.geometry import ConeBeam
from xrecon.phantoms.thorax import Phantom

BEAM = ConeBeam.preset("chest", "pa", size=64)
Film = NDArray[np.float32]


@pytest.fixture(scope="module")
def case(phantom64: Phantom) -> CaseData:
    return phantom_case(phantom64)


def smooth_film(seed: int, size: int = 48) -> Film:
    rng = np.random.default_rng(seed)
    rows, cols = np.indices((size, size)) / size
    waves = sum(
        rng.normal() * np.sin(rng.uniform(2, 12) * rows + rng.uniform(2, 12) * cols + rng.uniform(0, 6))
        for _ in range(5)
    )
    return np.asarray(waves, dtype=np.float32)


@given(
    st.integers(0, 1000),
    st.floats(1e-3, 1e4),
    st.floats(-1e3, 1e3),
)
@settings(deadline=None, max_examples=40)
def test_gain_and_offset_do_not_matter(seed: int, gain: float, offset: float) -> None:
    film = smooth_film(seed).astype(np.float64)
    assert np.allclose(network_film(gain * film + offset), network_film(film), atol=1e-5)


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_the_percentiles_get_their_levels(seed: int) -> None:
    shown = network_film(smooth_film(seed))
    assert shown.dtype == np.float32
    assert shown.min() >= 0
    assert shown.max() <= 1
    assert np.percentile(shown, (2, 98)) == pytest.approx((0.05, 0.95), abs=0.01)


def test_order_is_kept_and_outliers_are_clipped() -> None:
    film = smooth_film(1)
    film[0, 0], film[0, 1] = 1e6, -1e6
    shown = network_film(film)
    assert shown[0, 0] == 1.0
    assert shown[0, 1] == 0.0
    inner = (shown > 0) & (shown < 1)
    assert np.corrcoef(shown[inner], film[inner])[0, 1] > 0.9999
    assert np.abs(shown - network_film(smooth_film(1)))[1:].max() < 0.02


def test_constant_and_nearly_empty_films() -> None:
    assert (network_film(np.full((8, 8), 3.0)) == 0.5).all()
    assert (network_film(np.zeros((8, 8))) == 0.5).all()
    spot = np.zeros((32, 32))
    spot[3, 3] = 5.0
    assert network_film(spot)[3, 3] == pytest.approx(0.95)
    assert network_film(spot)[0, 0] == pytest.approx(0.05)


@pytest.mark.parametrize(
    "film", [np.zeros((3, 3, 3)), np.zeros((0, 4)), np.array([[0.0, np.nan]]), np.array([[0.0, np.inf]])]
)
def test_what_is_no_film_is_refused(film: NDArray[np.float64]) -> None:
    with pytest.raises(InputError):
        network_film(film)


def test_fewer_quanta_make_more_noise(case: CaseData) -> None:
    spread = []
    for quanta in (300.0, 30000.0):
        quiet = Exposure(
            quanta_per_mm2=(quanta, quanta), electronic=(0, 0), scatter=(0, 0), blur_mm=(0, 0), probability=1
        )
        film, draws = expose(case.pa, BEAM, quiet, np.random.default_rng(0))
        assert draws["quanta_per_mm2"] == pytest.approx(quanta)
        rest = film - case.pa
        spread.append(float(rest[20:44, 20:44].std()))
        assert abs(float(np.median(rest))) < 0.1
    # Poisson: a hundredfold dose, a tenth of the noise.
    assert spread[0] / spread[1] == pytest.approx(10.0, rel=0.15)
    area = BEAM.pixel_mm[0] * BEAM.pixel_mm[1]
    signal = np.exp(-case.pa)
    expected = 1 / np.sqrt(30000.0 * area * signal / signal[16:48, 16:48].mean())
    assert spread[1] == pytest.approx(float(np.sqrt((expected[20:44, 20:44] ** 2).mean())), rel=0.1)


def test_scatter_takes_contrast(case: CaseData) -> None:
    clean = Exposure(quanta_per_mm2=(1e9, 1e9), electronic=(0, 0), scatter=(0, 0), blur_mm=(0, 0))
    grey = clean.model_copy(update={"scatter": (0.6, 0.6)})
    one, other = (expose(case.pa, BEAM, s, np.random.default_rng(0))[0] for s in (clean, grey))
    assert np.abs(one - case.pa).max() < 0.01
    assert other.max() < one.max() - 0.5
    assert (other <= one + 0.01).all()


def test_the_look_up_table_is_monotone(case: CaseData) -> None:
    for seed in range(5):
        shown, draws = tone(case.pa, Tone(), np.random.default_rng(seed))
        assert shown.min() == 0.0
        assert shown.max() == 1.0
        order = np.argsort(case.pa.ravel(), kind="stable")
        assert (np.diff(shown.ravel()[order]) >= -1e-6).all()
        assert len(np.unique(shown)) <= 2 ** draws["bits"]


@pytest.mark.parametrize(
    "step",
    [
        lambda film: equalise(film, BEAM, Equalise(), np.random.default_rng(3))[0],
        lambda film: collimate(film, BEAM, Collimation(), np.random.default_rng(3))[0],
        lambda film: mark(film, BEAM, Markers(), np.random.default_rng(3), view="pa")[0],
        lambda film: invert(film, Inversion(), np.random.default_rng(3))[0],
        lambda film: tone(film, Tone(), np.random.default_rng(3))[0],
    ],
)
def test_steps_do_not_depend_on_gain_and_offset(case: CaseData, step: Callable[[Film], Film]) -> None:
    other = (np.float32(3.0) * case.pa + np.float32(2.0)).astype(np.float32)
    assert np.abs(network_film(step(other)) - network_film(step(case.pa))).max() < 0.02
    assert not np.allclose(network_film(step(case.pa)), network_film(case.pa), atol=0.05)


def test_local_contrast_is_evened_out(case: CaseData) -> None:
    def unevenness(film: Film) -> float:
        blocks = film.reshape(8, 8, 8, 8).std(axis=(1, 3))[1:7, 1:7]
        return float(blocks.std() / blocks.mean())

    shown, _ = equalise(case.pa, BEAM, Equalise(strength=(0.9, 0.9), window_mm=(60, 60)), np.random.default_rng(0))
    assert unevenness(shown) < unevenness(case.pa)


def test_shutters_cover_borders_only(case: CaseData) -> None:
    for seed in range(12):
        film, draws = collimate(case.pa, BEAM, Collimation(width_mm=(12.0, 40.0)), np.random.default_rng(seed))
        value = case.pa.max() if draws["white"] else case.pa.min()
        assert np.array_equal(film[18:46, 18:46], case.pa[18:46, 18:46])
        for edge, line in (("top", film[0]), ("bottom", film[-1]), ("left", film[:, 0]), ("right", film[:, -1])):
            if edge in draws["width_mm"]:
                assert np.allclose(line[16:48], value)


def test_side_letters_stand_on_their_side(case: CaseData) -> None:
    seen = set()
    for seed in range(60):
        film, draws = mark(case.pa, BEAM, Markers(count=(1, 1)), np.random.default_rng(seed), view="pa")
        changed = np.abs(film - case.pa).sum(axis=0)
        column = float((changed * np.arange(64)).sum() / max(changed.sum(), 1e-9))
        text = draws["marks"][0]["text"]
        if text in ("R", "L"):
            seen.add(text)
            assert (column < 32) == (text == "R")
    assert seen == {"R", "L"}


def test_inversion_is_its_own_inverse(case: CaseData) -> None:
    once, _ = invert(case.pa, Inversion(), np.random.default_rng(0))
    twice, _ = invert(once, Inversion(), np.random.default_rng(0))
    assert np.allclose(twice, case.pa, atol=1e-5)
    assert np.allclose(network_film(once), 1.0 - network_film(case.pa), atol=1e-5)
