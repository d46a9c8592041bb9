"""A bank of CTs, each fitted to the two films; the best of them are averaged with the deformed template.

A real chest has detail that no mean has, and the errors of several fitted chests partly cancel in their mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as functional
from torch import Tensor

from xrecon.errors import InputError
from xrecon.priors.chest import KNOT_MM, TEMPLATE_GRID, WIDE_MM, ShapeMap
from xrecon.priors.deformation import DeformedChest, Moves
from xrecon.priors.films import FilmPair
from xrecon.priors.fitting import ChestFunction, Level, Parameter, fit
from xrecon.priors.framing import FramedChest
from xrecon.warp import Grid, SplineField, affine_positions, sample

BEST = 5
_LEVELS = (Level(12.0, 60),)
_TEMPLATE_SHARE = 2.0
"""Weight of the deformed template in the mean, in units of one member: its density is the least idiosyncratic."""
_LUNG_HU, _LUNG_EDGE_HU = -400.0, 60.0
_LUNG_SHARE, _TISSUE_HU = 0.15, 20.0  # standard deviations: relative density of lung; HU of everything else


@dataclass(frozen=True)
class Member:
    """One fitted case of the bank.

    Attributes:
        case: the case.
        shape: patient to template, of the template's own fit.
        change: what this case adds to it, as a vector of `ShapeMap`.
        box: (scale [3], shift [3]) from the template's lung box to the case's.
        tone: [2] change of lung and of tissue density, in their standard deviations.
        score: misfit of the films plus penalties; smaller is better.
    """

    case: FramedChest
    shape: ShapeMap
    change: ShapeMap
    box: tuple[Tensor, Tensor]
    tone: Tensor
    score: float

    def hu(self, grid: Grid, fallback: Tensor) -> Tensor:
        """[D, H, W] HU on `grid`; where the case was not measured, the values of `fallback`."""
        where = _positions(self.shape, self.change, self.box, grid)
        values, valid = sample(torch.stack([self.case.hu, self.case.valid]), where, TEMPLATE_GRID.spacing_mm)
        return torch.where(valid > 0.5, _toned(values, self.tone), fallback)


@dataclass(frozen=True)
class BankChest:
    """The mean of the best members and the deformed template, drawable on any grid."""

    template: DeformedChest
    members: tuple[Member, ...]

    def hu(self, grid: Grid) -> Tensor:
        """[D, H, W] HU on `grid`."""
        base = self.template.hu(grid)
        total = _TEMPLATE_SHARE * base
        for member in self.members:
            total = total + member.hu(grid, base)
        return total / (_TEMPLATE_SHARE + len(self.members))

    def deviation(self, grid: Grid) -> Tensor:
        """[D, H, W] HU: standard deviation of registered chests about the template."""
        return self.template.deviation(grid)

    def spread(self, grid: Grid) -> Tensor:
        """[D, H, W] HU: standard deviation over the members and the template."""
        base = self.template.hu(grid)
        count, mean, squares = 1, base.clone(), torch.zeros_like(base)
        for member in self.members:  # Welford's update: one member at a time, to save memory
            count += 1
            hu = member.hu(grid, base)
            step = hu - mean
            mean = mean + step / count
            squares = squares + step * (hu - mean)
        return (squares / max(count - 1, 1)).sqrt()


def fit_bank(
    template: DeformedChest,
    bank: Sequence[FramedChest],
    pair: FilmPair,
    *,
    device: torch.device,
    progress: Callable[[str], None] = lambda _: None,
) -> BankChest:
    """Fit every case of a bank to the films, starting from the template's fit, and keep the best.

    Raises:
        InputError: an empty bank.
    """
    if not bank:
        raise InputError("the bank holds no CT; give at least one, or leave the bank out")
    members = []
    for number, case in enumerate(bank, start=1):
        progress(f"bank: fitting case {number} of {len(bank)}")
        moved = replace(case, hu=case.hu.to(device), valid=case.valid.to(device), box_mm=case.box_mm.to(device))
        members.append(_fit_member(template, moved, pair, device=device))
    members.sort(key=lambda member: member.score)
    return BankChest(template, tuple(members[:BEST]))


def _fit_member(template: DeformedChest, case: FramedChest, pair: FilmPair, *, device: torch.device) -> Member:
    modes = template.prior.shape_modes
    moves, tone = Moves.zeros(modes.shape[0], device), torch.zeros(2, device=device)
    box = _box(template.prior.information["mean_box_mm"], case.box_mm)
    coarse = functional.avg_pool3d(case.hu[None], 3)
    last = torch.zeros(())

    def chest_at(grid: Grid) -> ChestFunction:
        field = SplineField(grid, KNOT_MM, extent_mm=WIDE_MM).to(device)

        def chest() -> tuple[Tensor, Tensor]:
            nonlocal last
            where = _positions(template.shape, ShapeMap.from_vector(moves.vector(modes)), box, grid)
            hu = _toned(sample(coarse, where, 3 * TEMPLATE_GRID.spacing_mm)[0], tone)
            last = moves.penalty(field) + 1e-2 * tone.square().sum()
            return hu, last

        return chest

    misfit = fit(pair, [*moves.parameters(), Parameter(tone, 0.1)], chest_at, levels=_LEVELS, device=device)
    change = ShapeMap.from_vector(moves.vector(modes))
    return Member(case, template.shape, change, box, tone, misfit + float(last.detach()))


def _box(mean_box_mm: Sequence[Sequence[float]], box_mm: Tensor) -> tuple[Tensor, Tensor]:
    mean = torch.tensor(mean_box_mm, dtype=torch.float32, device=box_mm.device)
    scale = (box_mm[1] - box_mm[0]) / (mean[1] - mean[0])
    return scale, box_mm.mean(dim=0) - scale * mean.mean(dim=0)


def _positions(shape: ShapeMap, change: ShapeMap, box: tuple[Tensor, Tensor], grid: Grid) -> Tensor:
    """Positions in a case: the template's position taken to the case's lung box, plus the case's own change."""
    points = grid.positions_mm().to(shape.matrix.device)
    affine = affine_positions(points, change.matrix - torch.eye(3, device=points.device), change.shift_mm)
    field = SplineField(grid, KNOT_MM, extent_mm=WIDE_MM).to(points.device)
    return shape.positions(grid) * box[0] + box[1] + affine + field(change.coefficients)


def _toned(hu: Tensor, tone: Tensor) -> Tensor:
    """HU with lung made denser or thinner and all other tissue shifted; `tone` as in `Member`."""
    lung = torch.sigmoid((_LUNG_HU - hu) / _LUNG_EDGE_HU)
    return hu + lung * (hu + 1000.0) * _LUNG_SHARE * tone[0] + (1 - lung) * _TISSUE_HU * tone[1]
