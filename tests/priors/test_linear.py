"""The linear estimate: its closed form, its limits, and scores that it must find."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from xrecon.priors.asset import PriorAsset
from xrecon.priors.chest import LINEAR_GRID
from xrecon.priors.films import FilmPair, line_integrals
from xrecon.priors.framing import FilmedChest
from xrecon.priors.linear import FILM_PIXELS, fit_linear, ridge_scores
from xrecon.projector.attenuation import hu_to_mu
from xrecon.radiograph import Radiograph
from xrecon.warp import Grid


def _problem() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    modes = torch.randn(6, 200, generator=generator)
    misfit = torch.randn(200, generator=generator)
    deviation = 0.5 + torch.rand(200, generator=generator)
    return modes, misfit, deviation


def test_scores_are_the_minimum_of_the_stated_function() -> None:
    modes, misfit, deviation = _problem()
    ridge = 2.5
    # An ordinary least-squares problem with the prior as K more rows; solved by numpy, not by normal equations.
    design = (modes / deviation).numpy().astype(np.float64).T / np.sqrt(200)
    target = (misfit / deviation).numpy().astype(np.float64) / np.sqrt(200)
    rows = np.vstack([design, np.sqrt(ridge / 6) * np.eye(6)])
    expected = np.linalg.lstsq(rows, np.concatenate([target, np.zeros(6)]), rcond=None)[0]
    np.testing.assert_allclose(ridge_scores(modes, misfit, deviation, ridge=ridge).numpy(), expected, atol=1e-5)


def test_limits_of_the_ridge() -> None:
    modes, _, deviation = _problem()
    scores = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0, -1.0])
    noise_free = scores @ modes
    torch.testing.assert_close(ridge_scores(modes, noise_free, deviation, ridge=1e-9), scores, rtol=0, atol=1e-4)
    assert float(ridge_scores(modes, noise_free, deviation, ridge=1e12).abs().max()) < 1e-8
    norms = [float(ridge_scores(modes, noise_free, deviation, ridge=10.0**k).norm()) for k in range(-2, 4)]
    assert norms == sorted(norms, reverse=True)


def test_pixels_of_infinite_deviation_say_nothing() -> None:
    modes, misfit, deviation = _problem()
    scores = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0, -1.0])
    misfit = scores @ modes
    misfit[150:] += 100.0
    deviation[150:] = float("inf")
    torch.testing.assert_close(ridge_scores(modes, misfit, deviation, ridge=1e-9), scores, rtol=0, atol=1e-4)


def test_known_scores_come_back_from_noise_free_films(
    asset: PriorAsset, cases: tuple[FilmedChest, ...], cpu: torch.device
) -> None:
    prior = replace(asset.prior, ridge=1e-7)
    scores = torch.zeros(prior.linear_modes.shape[0])
    scores[:4] = torch.tensor([0.8, -0.6, 0.5, 0.4])
    mu = prior.linear_mean + torch.einsum("k,kdhw->dhw", scores, prior.linear_modes)
    views = cases[0].films.views(FILM_PIXELS)
    images = line_integrals(mu, LINEAR_GRID, views).numpy()
    # Called display films so that no hull multiplies the modes; they hold line integrals all the same.
    pair = FilmPair(
        (
            Radiograph(images[0], "pa", views[0], quantity="display"),
            Radiograph(images[1], "lateral", views[1], quantity="display"),
        )
    )
    estimate = fit_linear(prior, pair, device=cpu)
    torch.testing.assert_close(estimate.scores, scores, rtol=0, atol=0.02)
    torch.testing.assert_close(estimate.mu, mu, rtol=0, atol=2e-4)


def test_estimate_explains_the_films_better_than_the_mean(
    asset: PriorAsset, cases: tuple[FilmedChest, ...], cpu: torch.device
) -> None:
    pair = cases[4].films
    films = pair.values(FILM_PIXELS, cpu)
    chest = fit_linear(asset.prior, pair, device=cpu)

    def misfit(mu: torch.Tensor) -> float:
        return float((line_integrals(mu, LINEAR_GRID, pair.views(FILM_PIXELS)) - films).square().mean().sqrt())

    assert misfit(chest.mu) < 0.8 * misfit(asset.prior.linear_mean)
    hu = chest.hu(Grid((20, 20, 20), 19.2))
    assert hu.shape == (20, 20, 20) and float(hu.min()) >= -1000.0 and bool(torch.isfinite(hu).all())
    truth = hu_to_mu(cases[4].hu)
    assert float(chest.mu.mean()) > 0.5 * float(truth.mean())


def test_estimate_is_deterministic(asset: PriorAsset, cases: tuple[FilmedChest, ...], cpu: torch.device) -> None:
    first, second = (fit_linear(asset.prior, cases[4].films, device=cpu) for _ in range(2))
    assert torch.equal(first.mu, second.mu)
