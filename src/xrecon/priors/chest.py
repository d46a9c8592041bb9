"""The statistical chest: mean, how chests differ in shape and in density, and linear modes of whole chests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from xrecon.warp import Grid, SplineField, affine_positions

TEMPLATE_GRID = Grid((96, 96, 126), 4.0)
DENSITY_GRID = Grid((64, 64, 84), 6.0)
LINEAR_GRID = Grid((48, 48, 63), 8.0)
"""Grids of the stored parts. They are 504 mm wide: shoulders and arms beyond the 384 mm frame still shadow the lateral
film, and a fit that cannot place them there would put their density into the chest."""
WIDE_MM = (384.0, 384.0, 504.0)
KNOT_MM = 36.0
_MATRIX_SCALE = 100.0  # brings matrix entries to the order of the shifts and knots, mm, for the shape statistics


@dataclass(frozen=True)
class ShapeMap:
    """Where each position of a patient lies in the template: matrix x + shift + field(x), mm."""

    matrix: Tensor
    shift_mm: Tensor
    coefficients: Tensor

    def positions(self, grid: Grid) -> Tensor:
        """[D, H, W, 3] template positions (d, h, w; mm) of every voxel of `grid`."""
        field = SplineField(grid, KNOT_MM, extent_mm=WIDE_MM).to(self.matrix.device)
        points = grid.positions_mm().to(self.matrix.device)
        return affine_positions(points, self.matrix, self.shift_mm) + field(self.coefficients)

    def to_vector(self) -> Tensor:
        """All parameters as one vector, in which differences are comparable (about mm)."""
        matrix = (self.matrix - torch.eye(3, device=self.matrix.device)) * _MATRIX_SCALE
        return torch.cat([matrix.flatten(), self.shift_mm, self.coefficients.flatten()])

    @staticmethod
    def from_vector(vector: Tensor) -> ShapeMap:
        """Inverse of `to_vector`; differentiable."""
        matrix = torch.eye(3, device=vector.device) + vector[:9].reshape(3, 3) / _MATRIX_SCALE
        return ShapeMap(matrix, vector[9:12], vector[12:].reshape(field_shape()))


def field_shape() -> tuple[int, int, int, int]:
    """Shape of a displacement field's coefficients on the priors' 36 mm knots."""
    return SplineField(Grid((2, 2, 2), 1.0), KNOT_MM, extent_mm=WIDE_MM).shape


@dataclass(frozen=True)
class ChestPrior:
    """Statistics of a group of registered chests.

    Attributes:
        template: [D, H, W] on TEMPLATE_GRID, HU: the mean chest in its own mean shape.
        deviation: on DENSITY_GRID, HU: standard deviation about the template after registration.
        density_modes: [A, D, H, W] on DENSITY_GRID, HU: principal density differences, each of unit variance.
        shape_mean: vector of `ShapeMap`: from a patient of mean shape to the template.
        shape_modes: [S, vector]: principal shape differences, each of unit variance.
        linear_mean: on LINEAR_GRID, 1/mm: mean of deformed chests.
        linear_modes: [K, D, H, W] on LINEAR_GRID, 1/mm: their principal components, each of unit variance.
        ridge: weight of the coefficients' prior in the linear estimate, chosen by cross-validation over patients.
        information: how and from what it was made (cases' licences, versions, seed).
    """

    template: Tensor
    deviation: Tensor
    density_modes: Tensor
    shape_mean: Tensor
    shape_modes: Tensor
    linear_mean: Tensor
    linear_modes: Tensor
    ridge: float
    information: Mapping[str, Any]

    def to(self, device: torch.device) -> ChestPrior:
        """The same statistics on a device."""
        moved = {
            field.name: getattr(self, field.name).to(device)
            for field in fields(self)
            if isinstance(getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)
