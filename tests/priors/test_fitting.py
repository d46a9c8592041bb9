"""The fit through the projector: it finds what was put in, and weighs the films as it should."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from xrecon.priors.asset import PriorAsset
from xrecon.priors.chest import DENSITY_GRID, KNOT_MM, WIDE_MM, ShapeMap, field_shape
from xrecon.priors.deformation import DeformedChest, Moves, mean_chest
from xrecon.priors.films import FilmPair, line_integrals
from xrecon.priors.fitting import ChestFunction, Level, Parameter, fit
from xrecon.priors.framing import FilmedChest
from xrecon.projector.attenuation import hu_to_mu
from xrecon.radiograph import Radiograph
from xrecon.warp import Grid, SplineField, sample

LEVELS = (Level(24.0, 40),)


def _films_of(chest: DeformedChest, pair: FilmPair) -> FilmPair:
    """The pair's geometry, with films of another chest."""
    views = pair.views(64)
    images = line_integrals(hu_to_mu(chest.hu(DENSITY_GRID)), DENSITY_GRID, views).numpy()
    return FilmPair((Radiograph(images[0], "pa", views[0]), Radiograph(images[1], "lateral", views[1])))


def _movable(asset: PriorAsset, shift: torch.Tensor) -> Callable[[Grid], ChestFunction]:
    """The atlas, moved by `shift` mm."""

    def chest_at(grid: Grid) -> ChestFunction:
        mean = ShapeMap.from_vector(asset.prior.shape_mean)

        def chest() -> tuple[torch.Tensor, torch.Tensor]:
            where = ShapeMap(mean.matrix, mean.shift_mm + shift, mean.coefficients).positions(grid)
            return sample(asset.prior.template[None], where, 4.0)[0], 0.0 * shift.sum()

        return chest

    return chest_at


def _shifted(asset: PriorAsset, shift: torch.Tensor) -> DeformedChest:
    mean = mean_chest(asset.prior)
    moved = ShapeMap(mean.shape.matrix, mean.shape.shift_mm + shift, mean.shape.coefficients)
    return DeformedChest(asset.prior, moved, mean.density, float("nan"))


def test_a_known_shift_is_found(asset: PriorAsset, cases: tuple[FilmedChest, ...], cpu: torch.device) -> None:
    truth = torch.tensor([6.0, -9.0, 12.0])
    pair = _films_of(_shifted(asset, truth), cases[0].films)
    shift = torch.zeros(3)
    misfit = fit(pair, [Parameter(shift, 1.0)], _movable(asset, shift), levels=LEVELS, device=cpu)
    assert not shift.requires_grad
    torch.testing.assert_close(shift, truth, rtol=0, atol=2.5)
    assert 0.0 <= misfit < 0.2


def test_a_caller_under_no_grad_may_fit(asset: PriorAsset, cases: tuple[FilmedChest, ...], cpu: torch.device) -> None:
    shift = torch.zeros(3)
    with torch.no_grad():
        fit(cases[4].films, [Parameter(shift, 1.0)], _movable(asset, shift), levels=(Level(24.0, 3),), device=cpu)
    assert float(shift.abs().max()) > 0.1


def test_penalty_keeps_the_parameters(asset: PriorAsset, cases: tuple[FilmedChest, ...], cpu: torch.device) -> None:
    pair = _films_of(_shifted(asset, torch.tensor([0.0, 0.0, 12.0])), cases[0].films)
    free, held = torch.zeros(3), torch.zeros(3)
    fit(pair, [Parameter(free, 1.0)], _movable(asset, free), levels=LEVELS, device=cpu)

    def chest_at(grid: Grid) -> ChestFunction:
        chest = _movable(asset, held)(grid)
        return lambda: (chest()[0], 10.0 * held.square().sum())

    fit(pair, [Parameter(held, 1.0)], chest_at, levels=LEVELS, device=cpu)
    assert float(held.norm()) < 0.2 * float(free.norm())


def test_pixels_that_a_film_lacks_do_not_pull(
    asset: PriorAsset, cases: tuple[FilmedChest, ...], cpu: torch.device
) -> None:
    """The middle of a film gives a better shift than the same film with its edge continued and believed."""
    truth = torch.tensor([8.0, 0.0, 0.0])
    whole = _films_of(_shifted(asset, truth), cases[0].films)
    small = []
    for film in whole.films:
        image = film.image[12:52, 12:52].copy()
        small.append(replace(film, image=image, geometry=replace(film.geometry, detector_shape=(40, 40))))
    cut = FilmPair((small[0], small[1]))
    errors = []
    for pair in (cut, FilmPair(cut.radiographs(64))):
        shift = torch.zeros(3)
        fit(pair, [Parameter(shift, 1.0)], _movable(asset, shift), levels=LEVELS, device=cpu)
        errors.append(float((shift - truth).norm()))
    assert errors[0] < 5.0 and errors[0] < 0.7 * errors[1]


def test_level_grid_is_the_wide_box() -> None:
    assert Level(12.0, 1).grid == Grid((32, 32, 42), 12.0)
    assert Level(6.0, 1).grid == Grid((64, 64, 84), 6.0)


def test_moves_of_zero_change_nothing_and_cost_nothing(asset: PriorAsset, cpu: torch.device) -> None:
    modes = asset.prior.shape_modes
    moves = Moves.zeros(modes.shape[0], cpu)
    field = SplineField(DENSITY_GRID, KNOT_MM, extent_mm=WIDE_MM)
    assert float(moves.vector(modes).abs().max()) == 0.0 and float(moves.penalty(field)) == 0.0
    moves.modes[0] = 1.0
    torch.testing.assert_close(moves.vector(modes), modes[0])
    assert float(moves.penalty(field)) > 0.0
    assert moves.free_mm.shape == field_shape() == field.shape


def test_shape_map_vector_round_trip() -> None:
    generator = torch.Generator().manual_seed(0)
    shape = ShapeMap(
        torch.eye(3) + 0.1 * torch.randn(3, 3, generator=generator),
        torch.randn(3, generator=generator),
        torch.randn(field_shape(), generator=generator),
    )
    again = ShapeMap.from_vector(shape.to_vector())
    torch.testing.assert_close(again.matrix, shape.matrix)
    assert torch.equal(again.shift_mm, shape.shift_mm) and torch.equal(again.coefficients, shape.coefficients)


@pytest.mark.parametrize("spacing", [12.0, 6.0])
def test_atlas_is_the_same_chest_on_every_grid(asset: PriorAsset, spacing: float) -> None:
    fine = mean_chest(asset.prior).hu(Grid((96, 96, 126), 4.0))
    coarse = mean_chest(asset.prior).hu(Level(spacing, 1).grid)
    assert float(fine.mean()) == pytest.approx(float(coarse.mean()), abs=8.0)
    middle = mean_chest(asset.prior).hu(Grid((3, 3, 3), spacing))[1, 1, 1]
    other = mean_chest(asset.prior).hu(Grid((5, 5, 5), 1.0))[2, 2, 2]
    assert float(middle) == pytest.approx(float(other), abs=1e-2)
