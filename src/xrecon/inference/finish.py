"""From a fitted chest to the result: what the films exclude, the last consistency sweep, the CT and its residuals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from xrecon.geometry import FRAME_MM
from xrecon.inference.protocol import FittedChest
from xrecon.inference.result import ViewResidual
from xrecon.priors.chest import DENSITY_GRID
from xrecon.priors.consistency import consistency_sweep
from xrecon.priors.films import FilmPair, line_integrals, visual_hull
from xrecon.projector.attenuation import hu_to_mu, mu_to_hu
from xrecon.radiograph import VIEWS, Radiograph
from xrecon.volume import OUTSIDE_HU, RESEARCH_NOTICE, Volume
from xrecon.warp import Grid, sample

SHOWN_PIXELS = 224
"""Pixels per edge of the films and re-projections that come with a result."""
_WORK_GRID = DENSITY_GRID
_WORK_PIXELS = 64


@dataclass(frozen=True)
class FinishedFit:
    """Attenuation on the wide working grid, [D, H, W] in 1/mm.

    Attributes:
        before: of the mean chest, before any fit.
        after: of the result.
        change: what the consistency sweep added to the fit.
    """

    before: Tensor
    after: Tensor
    change: Tensor


def output_grid(size: int) -> Grid:
    """The cube of 384 mm with `size` voxels per edge."""
    return Grid((size, size, size), FRAME_MM / size)


def expected_films(chest: FittedChest, pair: FilmPair) -> Tensor:
    """[2, rows, cols] line integrals that the chest would give under the geometry of the films."""
    return line_integrals(hu_to_mu(chest.hu(_WORK_GRID)), _WORK_GRID, pair.views(_WORK_PIXELS))


def finish(chest: FittedChest, mean: FittedChest, pair: FilmPair, *, refine: bool) -> FinishedFit:
    """Remove what the films exclude, then apply the consistency sweep, on the working grid.

    Args:
        chest: the fit.
        mean: the mean chest, for the residual before the fit.
        pair: calibrated films.
        refine: apply the sweep.
    """
    hu = chest.hu(_WORK_GRID)
    hull = visual_hull(pair, _WORK_GRID, device=hu.device)
    mu = hu_to_mu(hu) * hull
    change = torch.zeros_like(mu)
    if refine:
        water_per_hu = hu_to_mu(torch.zeros(())) / 1000.0
        deviation = chest.deviation(_WORK_GRID) * hull * water_per_hu
        change = consistency_sweep(mu, deviation, pair, _WORK_GRID, size=_WORK_PIXELS)
        change = (mu + change).clamp(min=0.0) - mu
    return FinishedFit(hu_to_mu(mean.hu(_WORK_GRID)), mu + change, change)


def draw(chest: FittedChest, finished: FinishedFit, pair: FilmPair, *, size: int, device: torch.device) -> Volume:
    """The synthetic CT, [size, size, size] HU, outside the body -1024."""
    grid = output_grid(size)
    hull = visual_hull(pair, grid, device=device)
    change = sample(finished.change[None], grid.positions_mm().to(device), _WORK_GRID.spacing_mm)[0]
    # Interpolation carries the change a little beyond the body; what the films exclude stays air.
    mu = hu_to_mu(chest.hu(grid)) * hull + torch.where(hull > 0, change, torch.zeros_like(change))
    hu = mu_to_hu(mu.clamp(min=0.0))
    # Vacuum is -1000 HU of attenuation; outside the body a CT is stored as -1024.
    hu = torch.where(mu <= 0, torch.full_like(hu, OUTSIDE_HU), hu)
    spacing = grid.spacing_mm
    volume = Volume.centred(hu.cpu().numpy().astype(np.float32), (spacing, spacing, spacing), synthetic=True)
    return replace(volume, notes=(RESEARCH_NOTICE,))


def residuals(finished: FinishedFit, pair: FilmPair) -> Mapping[str, ViewResidual]:
    """By view: misfit of the re-projection before the fit and of the result."""
    views = pair.views(_WORK_PIXELS)
    films = pair.values(_WORK_PIXELS, finished.after.device)
    covered = pair.covered(_WORK_PIXELS, films.device) > 0
    before, after = (line_integrals(mu, _WORK_GRID, views) - films for mu in (finished.before, finished.after))
    by_view = {}
    for k, view in enumerate(VIEWS):
        spread = films[k][covered[k]].std()
        parts = (float(misfit[k][covered[k]].square().mean().sqrt() / spread) for misfit in (before, after))
        by_view[view] = ViewResidual(*parts)
    return by_view


def reprojections(finished: FinishedFit, pair: FilmPair) -> tuple[Radiograph, Radiograph]:
    """(PA, lateral) line integrals of the result under the geometry of the films."""
    views = pair.views(SHOWN_PIXELS)
    images = line_integrals(finished.after, _WORK_GRID, views).cpu().numpy()
    return Radiograph(images[0], VIEWS[0], views[0]), Radiograph(images[1], VIEWS[1], views[1])
