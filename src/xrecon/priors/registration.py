"""Registration of CTs to a template, and the template of a group of CTs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from scipy import ndimage
from torch import Tensor

from xrecon.warp import Grid, SplineField, affine_positions, sample


@dataclass(frozen=True)
class MovingChest:
    """One CT on the grid of a registration: the moving image.

    Attributes:
        hu: [D, H, W], HU, vacuum outside the body.
        valid: [D, H, W] float, 1 where the scanner has measured, 0 outside its field of view.
        box_mm: [2, 3] lower and upper corner (d, h, w) of the lungs' box, mm from the grid's centre.
    """

    hu: Tensor
    valid: Tensor
    box_mm: Tensor


@dataclass(frozen=True)
class ChestMap:
    """Where each template position lies in a case: matrix x + shift + field(x), mm."""

    matrix: Tensor
    shift_mm: Tensor
    coefficients: Tensor

    def positions(self, positions_mm: Tensor, field: SplineField) -> Tensor:
        """[D, H, W, 3] positions in the case, mm."""
        return affine_positions(positions_mm, self.matrix, self.shift_mm) + field(self.coefficients)


KNOT_MM = 36.0


def contrast(hu: Tensor) -> Tensor:
    """HU as registration compares them: 0..1.5, bone compressed, so that lung, fat, muscle and bone all count."""
    return (hu.clamp(-1000.0, 500.0) + 1000.0) / 1000.0


def box_map(template_box_mm: Tensor, box_mm: Tensor, field: SplineField) -> ChestMap:
    """The map that takes the template's lung box to a case's lung box."""
    scale = (box_mm[1] - box_mm[0]) / (template_box_mm[1] - template_box_mm[0])
    shift = box_mm.mean(dim=0) - scale * template_box_mm.mean(dim=0)
    return ChestMap(torch.diag(scale), shift, torch.zeros(field.shape))


def register(
    template: Tensor,
    weight: Tensor,
    case: MovingChest,
    *,
    grid: Grid,
    start: ChestMap,
    steps: int,
    bending: float,
    knot_mm: float = KNOT_MM,
) -> ChestMap:
    """Map from template to case that minimises the mean squared difference of contrast, with a bending penalty.

    Args:
        template: [D, H, W], HU.
        weight: [D, H, W] trust in the template, 0..1.
        case: the moving CT, on the same grid.
        grid: the grid of both.
        start: map from which the optimiser begins.
        steps: optimiser steps.
        bending: weight of the bending energy (per mm^2).
        knot_mm: distance of the field's knots.
    """
    field = SplineField(grid, knot_mm, extent_mm=grid.extent_mm)
    positions = grid.positions_mm()
    target = contrast(template)
    moving = torch.stack([contrast(case.hu), case.valid])
    matrix = start.matrix.clone().requires_grad_()
    shift = start.shift_mm.clone().requires_grad_()
    coefficients = start.coefficients.clone().requires_grad_()
    optimiser = torch.optim.Adam(
        [
            {"params": [matrix], "lr": 0.005},
            {"params": [shift], "lr": 0.5},
            {"params": [coefficients], "lr": 0.8},
        ]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=0.0)
    for _ in range(steps):
        optimiser.zero_grad()
        where = affine_positions(positions, matrix, shift) + field(coefficients)
        values, seen = sample(moving, where, grid.spacing_mm)
        seen = seen * weight
        misfit = (seen * (values - target).square()).sum() / seen.sum().clamp(min=1.0)
        loss = misfit + bending * field.roughness(coefficients)
        loss.backward()
        optimiser.step()
        schedule.step()
    return ChestMap(matrix.detach(), shift.detach(), coefficients.detach())


@dataclass(frozen=True)
class Group:
    """A template and the maps from it to each case of the group.

    Attributes:
        template: [D, H, W], HU: mean of the cases carried into the template's frame.
        weight: [D, H, W], 0..1: share of the cases that were measured there.
        maps: one for each case.
    """

    template: Tensor
    weight: Tensor
    maps: tuple[ChestMap, ...]


def group_template(
    cases: Sequence[MovingChest],
    *,
    grid: Grid,
    rounds: Sequence[tuple[int, float]] = ((40, 3e-4), (60, 1.5e-4), (100, 1e-4)),
    progress: Callable[[str], None] = lambda _: None,
) -> Group:
    """Template of a group: register all to the mean, subtract the mean deformation, average, repeat.

    Args:
        cases: at least two CTs on `grid`.
        grid: their grid.
        rounds: (optimiser steps, bending weight) of each round.
        progress: called with a line of text per round.
    """
    field = SplineField(grid, KNOT_MM, extent_mm=grid.extent_mm)
    box = torch.stack([case.box_mm for case in cases]).mean(dim=0)
    maps = tuple(box_map(box, case.box_mm, field) for case in cases)
    group = _average(cases, maps, grid=grid, field=field)
    for number, (steps, bending) in enumerate(rounds, start=1):
        progress(f"template round {number} of {len(rounds)}")
        weight = (group.weight * 2).clamp(max=1.0)
        maps = tuple(
            register(group.template, weight, case, grid=grid, start=start, steps=steps, bending=bending)
            for case, start in zip(cases, maps, strict=True)
        )
        maps = _without_mean(maps)
        group = _average(cases, maps, grid=grid, field=field)
    return group


def _average(cases: Sequence[MovingChest], maps: Sequence[ChestMap], *, grid: Grid, field: SplineField) -> Group:
    positions = grid.positions_mm()
    carried, seen = [], []
    for case, chest_map in zip(cases, maps, strict=True):
        where = chest_map.positions(positions, field)
        hu, valid = sample(torch.stack([case.hu, case.valid]), where, grid.spacing_mm)
        carried.append(hu)
        seen.append(valid)
    values, mask = torch.stack(carried), torch.stack(seen)
    return Group(mean_over(values, mask), mask.mean(dim=0), tuple(maps))


def mean_over(values: Tensor, seen: Tensor) -> Tensor:
    """Mean [D, H, W] of values [cases, D, H, W] over the cases that saw a voxel; continued where none did."""
    total = seen.sum(dim=0)
    mean = (values * seen).sum(dim=0) / total.clamp(min=1e-3)
    return torch.where(total > 0.5, mean, _spread(mean, total > 0.5))


def _spread(values: Tensor, measured: Tensor) -> Tensor:
    """`values` with every voxel that is not `measured` (bool) replaced by the nearest one that is."""
    nearest = ndimage.distance_transform_edt(~measured.numpy(), return_distances=False, return_indices=True)
    return values[tuple(torch.from_numpy(index.astype("int64")) for index in nearest)]


def _without_mean(maps: Sequence[ChestMap]) -> tuple[ChestMap, ...]:
    """The maps less their mean, so that the template keeps the mean shape and does not drift."""
    matrix = torch.stack([m.matrix for m in maps]).mean(dim=0)
    shift = torch.stack([m.shift_mm for m in maps]).mean(dim=0)
    field = torch.stack([m.coefficients for m in maps]).mean(dim=0)
    identity = torch.eye(3)
    return tuple(ChestMap(m.matrix - (matrix - identity), m.shift_mm - shift, m.coefficients - field) for m in maps)
