"""The `pca` prior: a regularised linear estimate of whole-chest modes from the two films, in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xrecon.priors.chest import LINEAR_GRID, ChestPrior
from xrecon.priors.deformation import mean_chest
from xrecon.priors.films import FilmPair, misfit_deviation, visual_hull
from xrecon.projector.attenuation import mu_to_hu
from xrecon.projector.operator import project
from xrecon.warp import Grid, sample

FILM_PIXELS = 48
"""Detector pixels per edge of the linear estimate: 8 mm, as LINEAR_GRID."""


@dataclass(frozen=True)
class LinearChest:
    """A linear combination of modes, drawable on any grid.

    Attributes:
        prior: the statistics it was made from.
        mu: [D, H, W] on LINEAR_GRID, 1/mm.
        scores: [K] standard scores of the modes.
    """

    prior: ChestPrior
    mu: Tensor
    scores: Tensor

    def hu(self, grid: Grid) -> Tensor:
        """[D, H, W] HU on `grid`."""
        where = grid.positions_mm().to(self.mu.device)
        return mu_to_hu(sample(self.mu[None], where, LINEAR_GRID.spacing_mm)[0].clamp(min=0.0))

    def deviation(self, grid: Grid) -> Tensor:
        """[D, H, W] HU: standard deviation of registered chests in the mean shape."""
        return mean_chest(self.prior).deviation(grid)


def ridge_scores(modes: Tensor, misfit: Tensor, deviation: Tensor, *, ridge: float) -> Tensor:
    """Standard scores [K] that minimise |(modes' films - misfit) / deviation|^2 / pixels + ridge |scores|^2 / K.

    Args:
        modes: [K, pixels] films of the modes.
        misfit: [pixels] film minus the mean's film.
        deviation: [pixels] expected misfit.
        ridge: weight of the prior.
    """
    design = (modes / deviation).double()
    target = (misfit / deviation).double()
    count, pixels = design.shape
    normal = design @ design.T / pixels
    normal.diagonal().add_(ridge / count)
    scores: Tensor = torch.linalg.solve(normal, design @ target / pixels)
    return scores.to(modes.dtype)


def fit_linear(prior: ChestPrior, pair: FilmPair, *, device: torch.device) -> LinearChest:
    """Scores of the linear modes from the films, inside what the films allow."""
    views = pair.views(FILM_PIXELS)
    films = pair.values(FILM_PIXELS, device)
    hull = visual_hull(pair, LINEAR_GRID, device=device)
    volumes = torch.cat([prior.linear_mean[None], prior.linear_modes]) * hull
    projections = project(volumes[:, None], LINEAR_GRID.spacing_mm, views).flatten(1)
    scores = ridge_scores(
        projections[1:],
        films.flatten() - projections[0],
        # Infinite where a film has not measured: those pixels say nothing.
        (misfit_deviation(films) / pair.covered(FILM_PIXELS, device)).flatten(),
        ridge=prior.ridge,
    )
    mu = prior.linear_mean + torch.einsum("k,kdhw->dhw", scores, prior.linear_modes)
    return LinearChest(prior, mu, scores)
