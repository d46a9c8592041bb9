"""The films as the priors see them: where a position is seen, what is air, which gain and offset."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from support.prior_factory import patients
from xrecon.errors import InputError
from xrecon.films.simulation import simulate
from xrecon.geometry import FRAME_MM, ConeBeam
from xrecon.priors.chest import TEMPLATE_GRID
from xrecon.priors.films import FilmPair, detector_pixels, line_integrals, misfit_deviation, ray_support, visual_hull
from xrecon.priors.framing import FilmedChest
from xrecon.projector.attenuation import hu_to_mu
from xrecon.projector.operator import project
from xrecon.radiograph import Radiograph
from xrecon.warp import Grid


def _cropped(film: Radiograph, rows: int, cols: int) -> Radiograph:
    """The middle of a film: a smaller detector."""
    top, left = ((n - m) // 2 for n, m in zip(film.image.shape, (rows, cols), strict=True))
    image = film.image[top : top + rows, left : left + cols].copy()
    return replace(film, image=image, geometry=replace(film.geometry, detector_shape=(rows, cols)))


@pytest.mark.parametrize("view", ["pa", "lateral", "ap", "right_lateral"])
@pytest.mark.parametrize("changes", [{}, {"detector_shift_mm": (12.0, -7.0), "translation_mm": (9.0, -5.0, 14.0)}])
def test_detector_pixels_agree_with_the_projector(view: str, changes: dict[str, tuple[float, ...]]) -> None:
    geometry = replace(ConeBeam.preset("chest", view, size=96), **changes)
    grid = Grid((48, 48, 48), 8.0)
    rows, cols = (torch.arange(96, dtype=torch.float32) for _ in range(2))
    for d, h, w in ((10, 12, 30), (33, 40, 7), (24, 20, 24)):
        volume = torch.zeros(grid.shape)
        volume[d, h, w] = 1.0
        image = project(volume[None, None], grid.spacing_mm, geometry)[0, 0]
        seen = torch.stack([(image.sum(1) * rows).sum(), (image.sum(0) * cols).sum()]) / image.sum()
        expected = detector_pixels(grid.positions_mm()[d, h, w], geometry)
        assert float((seen - expected).abs().max()) < 0.1, (seen, expected)


def test_pair_refuses_swapped_films(cases: tuple[FilmedChest, ...]) -> None:
    pa, lateral = cases[0].films.films
    with pytest.raises(InputError, match=r"expected a pa film, got a lateral film.*PA first"):
        FilmPair((lateral, pa))
    with pytest.raises(InputError, match="expected a lateral film"):
        FilmPair((pa, pa))


def test_views_cover_the_frame_at_any_size(cases: tuple[FilmedChest, ...]) -> None:
    for size in (17, 64):
        for view in cases[0].films.views(size):
            assert view.detector_shape == (size, size)
            assert view.pixel_at_isocentre_mm == pytest.approx((FRAME_MM / size,) * 2)


def test_hull_keeps_the_patient_and_drops_the_air(cases: tuple[FilmedChest, ...], cpu: torch.device) -> None:
    for case in (cases[1], cases[4]):
        hull = visual_hull(case.films, TEMPLATE_GRID, device=cpu)
        assert float(hull.min()) >= 0.0 and float(hull.max()) <= 1.0
        tissue = (case.hu > -500) & (ray_support(case.films, TEMPLATE_GRID, device=cpu) == 1)
        assert float((hull[tissue] >= 0.99).float().mean()) > 0.999
        outside = torch.from_numpy(case.hu.numpy() < -1010)
        # Of the air round a body the part in its two shadows stays: the corners between the silhouettes' box and it.
        assert float((hull[outside] < 0.5).float().mean()) > 0.4
        seen = slice(16, 80), slice(None), slice(66, 105)  # the left half, where the lateral film sees every depth
        assert float(hull[seen][:, 0].max()) < 0.5 and float(hull[seen][:, -1].max()) < 0.5, "in front and behind"


def test_hull_of_films_of_unknown_gain_excludes_nothing(cases: tuple[FilmedChest, ...], cpu: torch.device) -> None:
    pa, lateral = cases[0].films.films
    pair = FilmPair((pa, replace(lateral, quantity="display")))
    assert float(visual_hull(pair, Grid((8, 8, 8), 48.0), device=cpu).min()) == 1.0


def test_simulated_films_are_covered_everywhere_and_seen_whole(
    cases: tuple[FilmedChest, ...], cpu: torch.device
) -> None:
    pair = cases[0].films
    for size in (32, 48, 64, 224):
        assert float(pair.covered(size, cpu).min()) == 1.0
    support = ray_support(pair, Grid((64, 64, 64), 6.0), device=cpu)
    assert set(support.unique().tolist()) <= {0.0, 0.5, 1.0}
    assert float(support[16:48, 16:48, 16:48].min()) == 1.0
    wide = ray_support(pair, TEMPLATE_GRID, device=cpu)
    assert float(wide[:, :, 0].max()) == 0.5, "beyond the frame's sides only the lateral film sees"
    assert float(wide[48, 48, 0]) == 0.5


def test_a_smaller_film_says_nothing_beyond_its_edge(cases: tuple[FilmedChest, ...], cpu: torch.device) -> None:
    pa, lateral = cases[4].films.films
    pair = FilmPair((_cropped(pa, 128, 64), lateral))  # its middle half: both sides of the chest are cut off
    covered = pair.covered(64, cpu)
    assert float(covered[0, :, 16:48].min()) == 1.0 and float(covered[0, :, :16].max()) == 0.0
    assert float(covered[1].min()) == 1.0
    grid = Grid((64, 64, 64), 6.0)
    support = ray_support(pair, grid, device=cpu)
    assert float(support[32, 32, 4]) == 0.5 and float(support[32, 32, 32]) == 1.0
    hull, whole = (visual_hull(p, grid, device=cpu) for p in (pair, cases[4].films))
    assert float(whole[32, 32, 0]) < 0.5, "the whole film shows air there"
    assert float(hull[32, 32, 0]) == 1.0, "the smaller film does not"


def test_a_shifted_detector_is_seen_where_it_was(cases: tuple[FilmedChest, ...], cpu: torch.device) -> None:
    case = cases[0]
    shifted = []
    for film in case.films.films:
        view = replace(film.geometry, detector_shift_mm=(16.0, -11.0))
        mu = torch.clamp(case.hu + 1000, min=0)[None, None] * 2e-5
        image = project(mu, TEMPLATE_GRID.spacing_mm, view)[0, 0].numpy()
        shifted.append(Radiograph(image, film.view, view))
    pair = FilmPair((shifted[0], shifted[1]))
    again = line_integrals(mu[0, 0], TEMPLATE_GRID, pair.views(128))
    torch.testing.assert_close(pair.values(128, cpu), again, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("gain", "offset"), [(0.11, 0.2), (3.0, -1.0)])
def test_calibration_finds_gain_and_offset(
    cases: tuple[FilmedChest, ...], cpu: torch.device, gain: float, offset: float
) -> None:
    films = cases[0].films
    display = tuple(replace(f, image=f.image * gain + offset, quantity="display") for f in films.films)
    pair = FilmPair((display[0], display[1])).calibrated(films.values(64, cpu))
    assert not pair.quantitative
    assert pair.gain == pytest.approx((1 / gain, 1 / gain), rel=1e-3)
    assert pair.offset == pytest.approx((-offset / gain,) * 2, rel=1e-3, abs=1e-3)
    torch.testing.assert_close(pair.values(64, cpu), films.values(64, cpu), rtol=0, atol=0.01)


def test_calibration_leaves_line_integrals_alone(cases: tuple[FilmedChest, ...], cpu: torch.device) -> None:
    pair = cases[0].films.calibrated(7 * cases[0].films.values(64, cpu))
    assert pair.gain == (1.0, 1.0) and pair.offset == (0.0, 0.0)


def test_calibration_refuses_a_film_without_contrast(cases: tuple[FilmedChest, ...], cpu: torch.device) -> None:
    pa, lateral = cases[0].films.films
    flat = np.zeros_like(pa.image)
    flat[0, 0] = 1.0
    pair = FilmPair((replace(pa, image=flat, quantity="display"), lateral))
    with pytest.raises(InputError, match="no contrast"):
        pair.calibrated(cases[0].films.values(64, cpu))


def test_misfit_grows_with_the_line_integral() -> None:
    low, high = misfit_deviation(torch.tensor([0.0, 5.0])).tolist()
    assert 0 < low < high


def test_films_of_the_frame_match_the_simulated_ones(cases: tuple[FilmedChest, ...], cpu: torch.device) -> None:
    """The wide grid holds all that shadows the films: its line integrals are the CT's films."""
    pa, lateral = simulate(patients()[0], size=128)
    assert np.array_equal(pa.image, cases[0].films.films[0].image) and pa.view == "pa" and lateral.view == "lateral"
    films = cases[0].films.values(48, cpu)
    again = line_integrals(hu_to_mu(cases[0].hu), TEMPLATE_GRID, cases[0].films.views(48))
    assert float((again - films).square().mean().sqrt()) < 0.05 * float(films.std())
