"""The projection-consistency sweep: it explains the films, and touches only what may change."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from xrecon.priors.asset import PriorAsset
from xrecon.priors.chest import DENSITY_GRID
from xrecon.priors.consistency import _CAUTION, CORRELATION_MM, _kernel, _smooth, consistency_sweep
from xrecon.priors.deformation import mean_chest
from xrecon.priors.films import FilmPair, line_integrals, misfit_deviation
from xrecon.priors.framing import FilmedChest
from xrecon.projector.attenuation import hu_to_mu
from xrecon.projector.operator import project
from xrecon.radiograph import Radiograph
from xrecon.warp import Grid

COARSE = Grid((32, 32, 42), 12.0)
PIXELS = 32


@pytest.fixture
def atlas_mu(asset: PriorAsset) -> torch.Tensor:
    return hu_to_mu(mean_chest(asset.prior).hu(COARSE))


def _misfit(mu: torch.Tensor, pair: FilmPair) -> float:
    films = pair.values(PIXELS, mu.device)
    return float((line_integrals(mu, COARSE, pair.views(PIXELS)) - films).square().mean().sqrt())


def test_films_are_explained_better(atlas_mu: torch.Tensor, cases: tuple[FilmedChest, ...]) -> None:
    pair = cases[4].films
    deviation = torch.full_like(atlas_mu, 0.004)
    change = consistency_sweep(atlas_mu, deviation, pair, COARSE, size=PIXELS)
    assert _misfit(atlas_mu + change, pair) < 0.5 * _misfit(atlas_mu, pair)
    gentle = consistency_sweep(atlas_mu, deviation, pair, COARSE, size=PIXELS, noise=20.0)
    assert _misfit(atlas_mu + change, pair) < _misfit(atlas_mu + gentle, pair) < _misfit(atlas_mu, pair)
    assert float(gentle.norm()) < float(change.norm())


def test_nothing_changes_where_nothing_may(atlas_mu: torch.Tensor, cases: tuple[FilmedChest, ...]) -> None:
    deviation = torch.full_like(atlas_mu, 0.004)
    deviation[:, :16] = 0.0
    change = consistency_sweep(atlas_mu, deviation, cases[4].films, COARSE, size=PIXELS)
    assert float(change[:, :16].abs().max()) == 0.0 and float(change[:, 16:].abs().max()) > 1e-4
    nothing = consistency_sweep(atlas_mu, torch.zeros_like(atlas_mu), cases[4].films, COARSE, size=PIXELS)
    assert float(nothing.abs().max()) == 0.0


def test_a_consistent_estimate_stays(atlas_mu: torch.Tensor, cases: tuple[FilmedChest, ...]) -> None:
    views = cases[4].films.views(PIXELS)
    images = line_integrals(atlas_mu, COARSE, views).numpy()
    pair = FilmPair((Radiograph(images[0], "pa", views[0]), Radiograph(images[1], "lateral", views[1])))
    change = consistency_sweep(atlas_mu, torch.full_like(atlas_mu, 0.004), pair, COARSE, size=PIXELS)
    assert float(change.abs().max()) < 1e-6


@pytest.mark.parametrize(("noise", "surprising"), [(50.0, False), (1.0, True)])
def test_the_sweep_is_the_posterior_mean_of_its_gaussian_process(
    cases: tuple[FilmedChest, ...], noise: float, *, surprising: bool
) -> None:
    """Dense linear algebra on a tiny grid: C A' (A C A' + W^2)^-1 (y - A x), W grown where the misfit surprises."""
    grid, size = Grid((5, 5, 6), 70.0), 5
    generator = torch.Generator().manual_seed(2)
    mu = 0.01 * torch.rand(grid.shape, generator=generator)
    deviation = 0.002 * torch.rand(grid.shape, generator=generator)
    pair = cases[0].films
    views, films = pair.views(size), pair.values(size, mu.device)
    count = mu.numel()
    basis = torch.eye(count).reshape(count, *grid.shape)
    forward = project(basis[:, None], grid.spacing_mm, views).reshape(count, -1).T.double()
    kernel = _kernel(CORRELATION_MM / grid.spacing_mm)
    smooth = torch.stack([_smooth(volume, kernel).flatten() for volume in basis]).double()
    root = torch.diag(deviation.flatten().double()) @ smooth
    covariance = root @ root.T
    weight = noise * 0.15 * 2 * misfit_deviation(films).flatten().double()
    misfit = films.flatten().double() - forward @ mu.flatten().double()
    explained = forward @ covariance @ forward.T
    solution = torch.linalg.solve(explained + torch.diag(weight**2), misfit)
    surprise = float(misfit @ solution) / misfit.numel()
    assert (surprise > 1) == surprising
    if surprising:
        solution = torch.linalg.solve(explained + torch.diag((weight * surprise**_CAUTION) ** 2), misfit)
    expected = covariance @ forward.T @ solution
    change = consistency_sweep(mu, deviation, pair, grid, size=size, noise=noise).flatten().double()
    assert float((change - expected).norm()) < 0.02 * float(expected.norm())


def test_smoothing_keeps_the_variance_of_white_noise() -> None:
    noise = torch.randn(40, 40, 40, generator=torch.Generator().manual_seed(0))
    smooth = _smooth(noise, _kernel(CORRELATION_MM / DENSITY_GRID.spacing_mm))[8:-8, 8:-8, 8:-8]
    assert float(smooth.std()) == pytest.approx(1.0, abs=0.1)
    neighbours = float((smooth[1:] * smooth[:-1]).mean() / smooth.square().mean())
    assert neighbours > 0.8


def test_what_a_film_lacks_changes_nothing(atlas_mu: torch.Tensor, cases: tuple[FilmedChest, ...]) -> None:
    """Films cut to their upper half: the lower half of the chest is not touched."""
    cut = []
    for film in cases[4].films.films:
        view = replace(film.geometry, detector_shape=(32, 128))
        cut.append(replace(film, image=film.image[48:80].copy(), geometry=view))  # the middle quarter of the rows
    change = consistency_sweep(
        atlas_mu, torch.full_like(atlas_mu, 0.004), FilmPair((cut[0], cut[1])), COARSE, size=PIXELS
    )
    assert float(change[:4].abs().max()) < 1e-6 and float(change[-4:].abs().max()) < 1e-6
    assert float(change[14:18].abs().max()) > 1e-4
