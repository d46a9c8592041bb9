"""Smooth maps from one chest to another: an affine part and a cubic B-spline displacement, in mm.

A map says, for every voxel of the fixed grid, where in the moving volume its value comes from. Positions are
(d, h, w) mm from the grid's centre.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """A box of voxels centred on the isocentre: `shape` (D, H, W), one `spacing_mm`."""

    shape: tuple[int, int, int]
    spacing_mm: float

    def axis_mm(self, axis: int) -> Tensor:
        """Voxel centres along one axis, mm from the centre, [n]."""
        n = self.shape[axis]
        return (torch.arange(n, dtype=torch.float32) - (n - 1) / 2) * self.spacing_mm

    def positions_mm(self) -> Tensor:
        """[D, H, W, 3] voxel centres (d, h, w), mm."""
        return torch.stack(torch.meshgrid(*(self.axis_mm(a) for a in range(3)), indexing="ij"), dim=-1)

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Edges of the box, mm."""
        d, h, w = (n * self.spacing_mm for n in self.shape)
        return d, h, w


class SplineField:
    """A displacement field by uniform cubic B-splines: coefficients [3, a, b, c] (mm) to [D, H, W, 3] (mm).

    Knots are `knot_mm` apart and cover the grid with one spare knot on each side.
    """

    def __init__(self, grid: Grid, knot_mm: float, *, extent_mm: tuple[float, float, float] | None = None) -> None:
        """Basis for `grid`; `extent_mm` fixes the knots where the same field is evaluated on grids of other spacing."""
        extent = grid.extent_mm if extent_mm is None else extent_mm
        self.bases = [_spline_basis(grid.axis_mm(a), extent[a], knot_mm) for a in range(3)]
        self.knot_mm = knot_mm

    @classmethod
    def at(cls, axes_mm: Sequence[Tensor], extent_mm: tuple[float, float, float], knot_mm: float) -> SplineField:
        """The field at the grid of any places along each axis, mm from the centre, [n] each."""
        field = cls.__new__(cls)
        field.bases = [_spline_basis(axis, extent, knot_mm) for axis, extent in zip(axes_mm, extent_mm, strict=True)]
        field.knot_mm = knot_mm
        return field

    def within(self, box: tuple[slice, slice, slice]) -> SplineField:
        """The same field on a box of the grid only."""
        part = copy.copy(self)
        part.bases = [basis[places] for basis, places in zip(self.bases, box, strict=True)]
        return part

    def to(self, device: torch.device) -> SplineField:
        """Move the basis to a device; returns itself."""
        self.bases = [basis.to(device) for basis in self.bases]
        return self

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the coefficients."""
        a, b, c = (basis.shape[1] for basis in self.bases)
        return 3, a, b, c

    def __call__(self, coefficients: Tensor) -> Tensor:
        """Displacements [D, H, W, 3], mm."""
        d, h, w = self.bases
        field = coefficients @ w.T  # [3, a, b, W]
        field = torch.einsum("hb,nabw->nahw", h, field)
        return torch.einsum("da,nahw->dhwn", d, field)

    def roughness(self, coefficients: Tensor) -> Tensor:
        """Mean squared second difference of the coefficients along and across the axes: a bending energy, mm^2."""
        total = coefficients.new_zeros(())
        for axis in (1, 2, 3):
            second = torch.diff(coefficients, n=2, dim=axis)
            total = total + second.square().mean()
            for other in range(axis + 1, 4):
                mixed = torch.diff(torch.diff(coefficients, dim=axis), dim=other)
                total = total + 2 * mixed.square().mean()
        return total


def _spline_basis(positions_mm: Tensor, extent_mm: float, knot_mm: float) -> Tensor:
    """[n, knots] cubic B-spline values; knots symmetric about 0, one beyond each end."""
    count = int(-(-extent_mm // knot_mm)) + 3
    knots = (torch.arange(count, dtype=torch.float32) - (count - 1) / 2) * knot_mm
    x = ((positions_mm[:, None] - knots[None, :]) / knot_mm).abs()
    inner = 2 / 3 - x**2 + x**3 / 2
    outer = (2 - x).clamp(min=0) ** 3 / 6
    return torch.where(x < 1, inner, outer)


def sample(volume: Tensor, positions_mm: Tensor, spacing_mm: float) -> Tensor:
    """Trilinear values [N, ...] of volumes [N, D, H, W] at positions [..., 3] (d, h, w; mm from the volume's centre).

    Beyond the volume the value of its border is taken.
    """
    size = torch.tensor(volume.shape[1:], dtype=torch.float32, device=volume.device)
    normalised = positions_mm * (2.0 / (spacing_mm * (size - 1)))
    lattice = normalised.flip(-1).reshape(1, -1, 1, 1, 3)
    values = functional.grid_sample(volume[None], lattice, mode="bilinear", padding_mode="border", align_corners=True)
    return values[0, :, :, 0, 0].reshape(volume.shape[0], *positions_mm.shape[:-1])


def affine_positions(positions_mm: Tensor, matrix: Tensor, shift_mm: Tensor) -> Tensor:
    """`matrix` [3, 3] and `shift_mm` [3] applied to positions [..., 3]."""
    return positions_mm @ matrix.T + shift_mm
