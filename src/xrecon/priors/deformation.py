"""The `deform` prior: the template moved, bent and recoloured until its projections match the two films."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from xrecon.priors.chest import DENSITY_GRID, KNOT_MM, TEMPLATE_GRID, WIDE_MM, ChestPrior, ShapeMap, field_shape
from xrecon.priors.films import FilmPair
from xrecon.priors.fitting import ChestFunction, Level, Parameter, fit
from xrecon.warp import Grid, SplineField, sample

LEVELS = (Level(12.0, 100), Level(6.0, 25))
_PRIOR = 1e-2  # weight of a squared standard score against the mean film misfit
_BENDING = 1e-3  # per mm^2
_FREE_MM = 4.0  # standard deviation of the free displacement
_FREE = 3e-2
_AFFINE_DEVIATION = (0.03,) * 9 + (5.0,) * 3  # matrix entries; mm


@dataclass(frozen=True)
class Moves:
    """Parameters of a shape: standard scores of the statistical modes, of an affine change, and a free field in mm."""

    modes: Tensor
    affine: Tensor
    free_mm: Tensor

    @classmethod
    def zeros(cls, modes: int, device: torch.device) -> Moves:
        """No change."""
        return cls(
            torch.zeros(modes, device=device), torch.zeros(12, device=device), torch.zeros(field_shape(), device=device)
        )

    def parameters(self) -> list[Parameter]:
        """The three tensors with their step sizes, for the optimiser."""
        return [Parameter(self.modes, 0.1), Parameter(self.affine, 0.5), Parameter(self.free_mm, 0.6)]

    def vector(self, shape_modes: Tensor) -> Tensor:
        """Change of a `ShapeMap` vector."""
        scale = torch.tensor(_AFFINE_DEVIATION, device=self.affine.device)
        affine = self.affine * scale
        # The vector holds matrix entries times 100 (ShapeMap.to_vector).
        extra = torch.cat([affine[:9] * 100.0, affine[9:], self.free_mm.flatten()])
        return self.modes @ shape_modes + extra

    def penalty(self, field: SplineField) -> Tensor:
        """Minus the logarithm of the prior, up to a constant."""
        scores = self.modes.square().sum() + self.affine.square().sum()
        free = (self.free_mm / _FREE_MM).square().mean()
        return _PRIOR * scores + _BENDING * field.roughness(self.free_mm) + _FREE * free


@dataclass(frozen=True)
class DeformedChest:
    """A fitted chest, drawable on any grid.

    Attributes:
        prior: the statistics it was made from.
        shape: patient to template.
        density: standard scores of the density modes.
        misfit: of the films at the end of the fit.
    """

    prior: ChestPrior
    shape: ShapeMap
    density: Tensor
    misfit: float

    def hu(self, grid: Grid) -> Tensor:
        """[D, H, W] HU on `grid`."""
        where = self.shape.positions(grid)
        change = torch.einsum("a,adhw->dhw", self.density, self.prior.density_modes)
        template = sample(self.prior.template[None], where, TEMPLATE_GRID.spacing_mm)[0]
        return template + sample(change[None], where, DENSITY_GRID.spacing_mm)[0]

    def deviation(self, grid: Grid) -> Tensor:
        """[D, H, W] HU: standard deviation of chests about the template, where this chest has that tissue."""
        return sample(self.prior.deviation[None], self.shape.positions(grid), DENSITY_GRID.spacing_mm)[0]


def mean_chest(prior: ChestPrior) -> DeformedChest:
    """The atlas: mean shape, mean density, no fit."""
    scores = torch.zeros(prior.density_modes.shape[0], device=prior.template.device)
    return DeformedChest(prior, ShapeMap.from_vector(prior.shape_mean), scores, float("nan"))


def fit_deformation(prior: ChestPrior, pair: FilmPair, *, device: torch.device) -> DeformedChest:
    """Fit shape and density of the template to the films.

    Shape: affine, the group's principal differences, and a free smooth field; density: the group's principal
    differences. All are held to their statistics by penalties.
    """
    moves = Moves.zeros(prior.shape_modes.shape[0], device)
    density = torch.zeros(prior.density_modes.shape[0], device=device)

    def chest_at(grid: Grid) -> ChestFunction:
        field = SplineField(grid, KNOT_MM, extent_mm=WIDE_MM).to(device)
        template, modes, spacing = _sources(prior, grid)

        def chest() -> tuple[Tensor, Tensor]:
            shape = ShapeMap.from_vector(prior.shape_mean + moves.vector(prior.shape_modes))
            recoloured = template + torch.einsum("a,adhw->dhw", density, modes)
            hu = sample(recoloured[None], shape.positions(grid), spacing)[0]
            return hu, moves.penalty(field) + _PRIOR * density.square().sum()

        return chest

    misfit = fit(pair, [*moves.parameters(), Parameter(density, 0.1)], chest_at, levels=LEVELS, device=device)
    shape = ShapeMap.from_vector(prior.shape_mean + moves.vector(prior.shape_modes))
    return DeformedChest(prior, shape, density, misfit)


def _sources(prior: ChestPrior, grid: Grid) -> tuple[Tensor, Tensor, float]:
    """Template [D, H, W] and density modes [A, D, H, W], HU, no finer than `grid` needs, and their spacing in mm."""
    where = DENSITY_GRID.positions_mm().to(prior.template.device)
    template = sample(
        functional.avg_pool3d(prior.template[None], 3, 1, 1, count_include_pad=False), where, TEMPLATE_GRID.spacing_mm
    )
    volumes = torch.cat([template, prior.density_modes])
    spacing = DENSITY_GRID.spacing_mm
    if grid.spacing_mm >= 2 * spacing:
        volumes, spacing = functional.avg_pool3d(volumes, 2), 2 * spacing
    return volumes[0], volumes[1:], spacing
