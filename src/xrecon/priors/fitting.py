"""Fitting a parametrised chest to the two films by gradient descent through the projector, from coarse to fine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xrecon.priors.chest import WIDE_MM
from xrecon.priors.films import FilmPair, line_integrals, misfit_deviation, visual_hull
from xrecon.projector.attenuation import hu_to_mu
from xrecon.warp import Grid

ChestFunction = Callable[[], tuple[Tensor, Tensor]]
"""Called at every step; returns the chest [D, H, W] in HU at the current parameters, and their penalty."""

_HUBER = 3.0  # misfits beyond three deviations count linearly: devices, arms and errors of the prior


@dataclass(frozen=True)
class Level:
    """One resolution of the fit.

    Attributes:
        spacing_mm: voxel and film pixel pitch.
        steps: optimiser steps.
    """

    spacing_mm: float
    steps: int

    @property
    def grid(self) -> Grid:
        """The wide grid at this spacing."""
        d, h, w = (round(edge / self.spacing_mm) for edge in WIDE_MM)
        return Grid((d, h, w), self.spacing_mm)


@dataclass(frozen=True)
class Parameter:
    """A tensor to fit, and Adam's step size in the tensor's own units."""

    value: Tensor
    step: float


def fit(
    pair: FilmPair,
    parameters: Sequence[Parameter],
    chest_at: Callable[[Grid], ChestFunction],
    *,
    levels: Sequence[Level],
    device: torch.device,
) -> float:
    """Change `parameters` in place so that the chest's projections explain the films.

    Args:
        pair: the films, calibrated.
        parameters: what to fit.
        chest_at: gives, for a grid, the function that makes the chest from the current parameters.
        levels: resolutions, coarse first.
        device: torch device.

    Returns:
        Mean Huber misfit of the last step, in units of the expected misfit (0.5 where all fits as well as expected).
    """
    misfit = torch.zeros(())
    for level in levels:
        grid = level.grid
        size = round(WIDE_MM[0] / level.spacing_mm)
        views = pair.views(size)
        films = pair.values(size, device)
        seen = pair.covered(size, device)
        weight = seen / misfit_deviation(films)
        hull = visual_hull(pair, grid, device=device)
        chest = chest_at(grid)
        optimiser = torch.optim.Adam(
            [{"params": [p.value.requires_grad_()], "lr": p.step} for p in parameters], betas=(0.9, 0.97)
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, level.steps, eta_min=0.05)
        for _ in range(level.steps):
            optimiser.zero_grad()
            with torch.enable_grad():  # also for a caller under no_grad
                hu, penalty = chest()
                residual = (line_integrals(hu_to_mu(hu) * hull, grid, views) - films) * weight
                magnitude = residual.abs()
                huber = torch.where(magnitude < _HUBER, 0.5 * residual**2, _HUBER * magnitude - 0.5 * _HUBER**2)
                misfit = huber.sum() / seen.sum().clamp(min=1.0)
                (misfit + penalty).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    for p in parameters:
        p.value.requires_grad_(False)
    return float(misfit.detach())
