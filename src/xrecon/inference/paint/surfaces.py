"""The two surfaces of a pleural space: the wall of the hemithorax and the visceral pleura, an inward offset from it.

Both are smooth fields in mm on top of the distance to the wall of a reconstructed hemithorax. The wall moves outward by
`wall`, and all that lies less than `depth` inside the moved wall is free air. Where `depth` is negative there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from xrecon.anatomy.morphology import bounding_box, signed_mm, voxels
from xrecon.warp import Grid, SplineField, sample

KNOT_MM = 20.0
"""Distance of the control points of both fields."""
_REACH_MM = 24.0
"""How far beyond the reconstructed hemithorax the fields are evaluated; the wall moves less."""
_FAR_MM = 60.0
_STEPS_VOXELS = 0.9
"""Width of the Gaussian that smooths the distance to the wall."""
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class PleuralSpace:
    """One hemithorax of a reconstruction, ready for the fit.

    Attributes:
        grid: the working grid round the isocentre.
        box: part of the grid that the fields cover.
        distance_mm: [D, H, W] of the whole grid, signed distance to the reconstructed wall, positive inside.
    """

    grid: Grid
    box: Box
    distance_mm: Float[Tensor, "depth height width"]

    @classmethod
    def of(cls, hemithorax: NDArray[np.bool_], grid: Grid) -> PleuralSpace | None:
        """From the mask [D, H, W] of one lung on `grid`; None where the mask is empty."""
        spacing = (grid.spacing_mm,) * 3
        box = bounding_box(hemithorax, margin=voxels(_REACH_MM, spacing))
        if box is None:
            return None
        # The distance to a mask of voxels has the steps of the voxels; a wall has none.
        distance = gaussian_filter(np.clip(signed_mm(hemithorax, spacing), -_FAR_MM, None), _STEPS_VOXELS)
        return cls(grid, box, torch.from_numpy(np.ascontiguousarray(distance, dtype=np.float32)))

    def field(self) -> SplineField:
        """The basis of both fields, on the box."""
        return SplineField(self.grid, KNOT_MM).within(self.box)


@dataclass(frozen=True, eq=False)
class Shares:
    """How much of each voxel is hemithorax, and how much free air; [D, H, W], 0..1, air at most hemithorax."""

    hemithorax: Tensor
    air: Tensor
    pleura: Tensor


def shares(
    distance_mm: Float[Tensor, "depth height width"],
    wall_mm: Float[Tensor, "depth height width"],
    depth_mm: Float[Tensor, "depth height width"],
    *,
    edge_mm: float,
    softness_mm: float | None = None,
    pleura_mm: float = 0.9,
) -> Shares:
    """Partial-volume shares of a pleural space.

    Args:
        distance_mm: signed distance to the reconstructed wall, positive inside.
        wall_mm: how far the wall moves outward.
        depth_mm: distance of the visceral pleura from the moved wall.
        edge_mm: width of an edge (scale of the logistic function), about a third of a voxel.
        softness_mm: width of the visceral surface, default `edge_mm`; a wide one lets a fit find far air.
        pleura_mm: thickness of the visceral pleura.
    """
    inside = distance_mm + wall_mm
    hemithorax = torch.sigmoid(inside / edge_mm)
    soft = edge_mm if softness_mm is None else softness_mm
    air = hemithorax * torch.sigmoid((depth_mm - inside) / soft)
    with_pleura = hemithorax * torch.sigmoid((depth_mm + pleura_mm - inside) / soft)
    opened = torch.sigmoid((depth_mm - 1.0) / 0.5)  # no line where lung and wall touch
    return Shares(hemithorax, air, (with_pleura - air) * opened)


@dataclass(frozen=True, eq=False)
class PleuralSurfaces:
    """The fitted surfaces of one pleural space.

    Attributes:
        space: the hemithorax that they belong to.
        wall: [1, a, b, c] coefficients, mm outward.
        depth: [1, a, b, c] coefficients, mm inward from the moved wall.
    """

    space: PleuralSpace
    wall: Tensor
    depth: Tensor

    def on(self, grid: Grid) -> Shares:
        """Shares on any grid round the isocentre, [D, H, W]."""
        field = SplineField(grid, KNOT_MM, extent_mm=self.space.grid.extent_mm)
        distance = sample(self.space.distance_mm[None], grid.positions_mm(), self.space.grid.spacing_mm)[0]
        wall, depth = field(self.wall)[..., 0], field(self.depth)[..., 0]
        result = shares(distance, wall, depth, edge_mm=max(0.35 * grid.spacing_mm, 0.5))
        near = (distance >= -_REACH_MM).float()
        free = near * (depth > 0.0)  # the soft edge of a wall without air beside it holds none
        return Shares(result.hemithorax * near, result.air * free, result.pleura * free)
