"""Deformations that are known are recovered, and a group's template keeps the group's mean shape."""

from __future__ import annotations

import pytest
import torch

from xrecon.priors.build import WORK_GRID
from xrecon.priors.framing import FilmedChest
from xrecon.priors.registration import (
    KNOT_MM,
    ChestMap,
    MovingChest,
    box_map,
    contrast,
    group_template,
    mean_over,
    register,
)
from xrecon.warp import SplineField, sample


def _field() -> SplineField:
    return SplineField(WORK_GRID, KNOT_MM, extent_mm=WORK_GRID.extent_mm)


def _identity() -> ChestMap:
    return ChestMap(torch.eye(3), torch.zeros(3), torch.zeros(_field().shape))


def _moved(chest: MovingChest, truth: ChestMap) -> torch.Tensor:
    """The template whose position x holds what the chest has at truth(x)."""
    where = truth.positions(WORK_GRID.positions_mm(), _field())
    return sample(chest.hu[None], where, WORK_GRID.spacing_mm)[0]


def _misfit(template: torch.Tensor, chest: MovingChest, estimate: ChestMap) -> float:
    return float((contrast(_moved(chest, estimate)) - contrast(template)).square().mean())


def _elastic() -> torch.Tensor:
    field = _field()
    coefficients = torch.zeros(field.shape)
    knots = [torch.linspace(-1.5, 1.5, n) for n in field.shape[1:]]
    coefficients[0] = 10 * torch.cos(knots[0])[:, None, None] * torch.cos(knots[2])[None, None, :]
    coefficients[1] = 8 * torch.sin(knots[2])[None, None, :]
    return coefficients


@pytest.mark.parametrize(
    ("truth", "factor"),
    [
        (
            ChestMap(
                torch.tensor([[1.06, 0.0, 0.02], [0.0, 0.95, 0.0], [-0.02, 0.0, 1.04]]),
                torch.tensor([8.0, -6.0, 5.0]),
                torch.zeros(_field().shape),
            ),
            15.0,
        ),
        (ChestMap(torch.eye(3), torch.zeros(3), _elastic()), 8.0),
    ],
    ids=["affine", "elastic"],
)
def test_known_map_is_recovered(cases: tuple[FilmedChest, ...], truth: ChestMap, factor: float) -> None:
    chest = cases[0].coarse()
    template = _moved(chest, truth)
    weight = torch.ones_like(template)
    estimate = register(template, weight, chest, grid=WORK_GRID, start=_identity(), steps=50, bending=1e-6)
    assert _misfit(template, chest, estimate) * factor < _misfit(template, chest, _identity())
    positions = WORK_GRID.positions_mm()
    inside = template > -500
    error = (estimate.positions(positions, _field()) - truth.positions(positions, _field())).norm(dim=-1)[inside]
    before = (positions - truth.positions(positions, _field())).norm(dim=-1)[inside]
    # Far less than a voxel (12 mm) where tissue shows where it is.
    assert float(error.median()) < 0.4 * float(before.median()) and float(error.median()) < 4.0


def test_registration_starts_from_its_start_and_leaves_a_perfect_one_alone(cases: tuple[FilmedChest, ...]) -> None:
    chest = cases[0].coarse()
    estimate = register(
        chest.hu, torch.ones_like(chest.hu), chest, grid=WORK_GRID, start=_identity(), steps=3, bending=1e-4
    )
    assert float((estimate.matrix - torch.eye(3)).abs().max()) < 0.01
    assert _misfit(chest.hu, chest, estimate) < 0.01 * float(contrast(chest.hu).var())


def test_what_the_scanner_has_not_seen_does_not_count(cases: tuple[FilmedChest, ...]) -> None:
    chest = cases[0].coarse()
    hu, valid = chest.hu.clone(), chest.valid.clone()
    hu[:10], valid[:10] = -1024.0, 0.0  # the scan begins lower: vacuum, marked as not measured
    cut, believed = MovingChest(hu, valid, chest.box_mm), MovingChest(hu, torch.ones_like(hu), chest.box_mm)
    guarded, misled = (
        register(
            chest.hu, torch.ones_like(hu), case, grid=WORK_GRID, start=_identity(), steps=15, bending=1e-4
        ).positions(WORK_GRID.positions_mm(), _field())
        - WORK_GRID.positions_mm()
        for case in (cut, believed)
    )
    tissue = chest.hu > -500
    assert 3 * float(guarded.norm(dim=-1)[tissue].mean()) < float(misled.norm(dim=-1)[tissue].mean())


def test_box_map_takes_box_to_box() -> None:
    template = torch.tensor([[-140.0, -90.0, -130.0], [120.0, 95.0, 125.0]])
    case = torch.tensor([[-120.0, -100.0, -110.0], [130.0, 90.0, 140.0]])
    estimate = box_map(template, case, _field())
    torch.testing.assert_close(template @ estimate.matrix.T + estimate.shift_mm, case)


def test_group_template_has_no_mean_deformation(cases: tuple[FilmedChest, ...]) -> None:
    lines: list[str] = []
    chests = [case.coarse() for case in cases[:2]]
    group = group_template(chests, grid=WORK_GRID, rounds=((4, 3e-4), (4, 3e-4)), progress=lines.append)
    assert lines == ["template round 1 of 2", "template round 2 of 2"]
    assert group.template.shape == WORK_GRID.shape and len(group.maps) == 2
    torch.testing.assert_close(torch.stack([m.matrix for m in group.maps]).mean(0), torch.eye(3), rtol=0, atol=1e-5)
    assert float(torch.stack([m.shift_mm for m in group.maps]).mean(0).abs().max()) < 1e-3
    assert float(torch.stack([m.coefficients for m in group.maps]).mean(0).abs().max()) < 1e-3
    assert float(group.maps[0].coefficients.abs().max()) > 0.5, "two different chests do not fit without bending"
    assert float(group.weight.min()) >= 0.0 and float(group.weight.max()) <= 1.0 + 1e-6


def test_mean_over_ignores_the_unseen_and_continues_the_seen() -> None:
    values = torch.tensor([[[[1.0, 10.0, 99.0]]], [[[3.0, 99.0, 99.0]]]])
    seen = torch.tensor([[[[1.0, 1.0, 0.0]]], [[[1.0, 0.0, 0.0]]]])
    assert mean_over(values, seen).flatten().tolist() == [2.0, 10.0, 10.0]
