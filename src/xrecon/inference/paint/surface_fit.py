"""Fit the surfaces of both pleural spaces to the thickness maps of two films."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from xrecon.films.thickness_maps import ThicknessMaps
from xrecon.inference.paint.surfaces import PleuralSpace, PleuralSurfaces, Shares, shares
from xrecon.projector.operator import project
from xrecon.warp import SplineField

_FIT_PIXELS = 128
_STEPS = 120
_SOFT_MM = (5.0, 1.5)
"""Width of the visceral surface at the beginning and at the end."""
_EDGE_MM = 1.5
_HUBER_MM = 2.0
_START_MM = -4.0
"""Depth before the fit: no air."""
_RATES = (0.5, 0.4)
"""Step sizes of depth and wall, mm."""
_WALL_WEIGHT = 2.0
_FLOOR_MM = 50.0
"""Added to the sum of the air map (mm over all pixels), so that a healthy side does not divide by nothing."""


@dataclass(frozen=True)
class FitSettings:
    """Weights of what is known before the films are looked at.

    Attributes:
        depth_smoothness, wall_smoothness: of the squared differences between neighbouring control points.
        wall_size: of the squared movement of the wall.
        steps: of the descent.
    """

    depth_smoothness: float = 3e-4
    wall_smoothness: float = 3e-4
    wall_size: float = 6e-5
    steps: int = _STEPS


@dataclass(frozen=True, eq=False)
class _Side:
    """One pleural space in the fit; `number` is 0 for the right one, 1 for the left one."""

    number: int
    space: PleuralSpace
    field: SplineField
    wall: Tensor
    depth: Tensor

    @classmethod
    def begin(cls, number: int, space: PleuralSpace) -> _Side:
        field = space.field()
        shape = (1, *field.shape[1:])
        wall = torch.zeros(shape, requires_grad=True)
        depth = torch.full(shape, _START_MM, requires_grad=True)
        return cls(number, space, field, wall, depth)

    def shares(self, softness_mm: float) -> Shares:
        distance = self.space.distance_mm[self.space.box]
        wall, depth = self.field(self.wall)[..., 0], self.field(self.depth)[..., 0]
        return shares(distance, wall, depth, edge_mm=_EDGE_MM, softness_mm=softness_mm)

    def penalty(self, settings: FitSettings) -> Tensor:
        rough = [sum(values.diff(dim=axis).square().mean() for axis in (1, 2, 3)) for values in (self.depth, self.wall)]
        return (
            settings.depth_smoothness * rough[0]
            + settings.wall_smoothness * rough[1]
            + settings.wall_size * self.wall.square().mean()
        )


def fit_surfaces(
    spaces: Sequence[PleuralSpace | None], maps: ThicknessMaps, settings: FitSettings | None = None
) -> tuple[PleuralSurfaces | None, PleuralSurfaces | None]:
    """Surfaces of the (right, left) pleural space whose projections match the maps.

    Both maps of a side, free air and the whole hemithorax (air and lung), are matched in both views by an absolute
    error that is square below 2 mm, weighted by the certainty. The surfaces are as smooth as the maps allow.

    Args:
        spaces: right and left, on one grid; None where the reconstruction has no lung on that side.
        maps: thickness maps in the geometry of the films, relative to the isocentre of the grid.
        settings: weights; default as measured.
    """
    settings = settings or FitSettings()
    maps = maps.coarsened(_FIT_PIXELS) if maps.views[0].detector_shape[0] > _FIT_PIXELS else maps
    sides = [_Side.begin(number, space) for number, space in enumerate(spaces) if space is not None]
    optimiser = torch.optim.Adam([{"params": [s.depth for s in sides]}, {"params": [s.wall for s in sides]}])
    target = _Target.of(maps)
    for step in range(settings.steps):
        done = step / settings.steps
        for group, rate in zip(optimiser.param_groups, _RATES, strict=True):
            group["lr"] = rate * (1.0 - 0.8 * done)
        softness = max(_SOFT_MM[1], _SOFT_MM[0] * (1.0 - done / 0.7))
        optimiser.zero_grad()
        loss = target.misfit(sides, softness) + sum(side.penalty(settings) for side in sides)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    fitted: list[PleuralSurfaces | None] = [None, None]
    for side in sides:
        fitted[side.number] = PleuralSurfaces(side.space, side.wall.detach(), side.depth.detach())
    return fitted[0], fitted[1]


@dataclass(frozen=True, eq=False)
class _Target:
    """The maps as tensors, [2 sides, 2 views, rows, cols]."""

    maps: ThicknessMaps
    air: Tensor
    hemithorax: Tensor
    certainty: Tensor

    @classmethod
    def of(cls, maps: ThicknessMaps) -> _Target:
        air, lung, certainty = (
            torch.from_numpy(values).transpose(0, 1).contiguous()
            for values in (maps.air_mm, maps.lung_mm, maps.certainty)
        )
        return cls(maps, air, air + lung, certainty)

    def misfit(self, sides: Sequence[_Side], softness_mm: float) -> Tensor:
        """How far the projections of the surfaces are from the maps, relative to the maps."""
        volumes = []
        for side in sides:
            part = side.shares(softness_mm)
            for share in (part.air, part.hemithorax):
                full = share.new_zeros(side.space.grid.shape)
                full[side.space.box] = share
                volumes.append(full)
        spacing = sides[0].space.grid.spacing_mm
        films = project(torch.stack(volumes)[:, None], spacing, self.maps.views)
        films = films.reshape(len(sides), 2, *films.shape[1:])
        numbers = [side.number for side in sides]
        weight = self.certainty[numbers]
        air, hemithorax = self.air[numbers], self.hemithorax[numbers]
        air_error = _huber(films[:, 0] - air, weight) / ((air * weight).sum() + _FLOOR_MM)
        return air_error + _WALL_WEIGHT * _huber(films[:, 1] - hemithorax, weight) / hemithorax.sum().clamp(min=1.0)


def _huber(error: Tensor, weight: Tensor) -> Tensor:
    each = functional.smooth_l1_loss(error, torch.zeros_like(error), beta=_HUBER_MM, reduction="none")
    return (each * weight).sum()
