"""Framing of cases and the statistics of a small group."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from support.prior_factory import SETTINGS, patients
from xrecon.errors import InputError
from xrecon.priors.asset import PriorAsset
from xrecon.priors.build import BuildSettings, build_from_chests, build_priors
from xrecon.priors.chest import DENSITY_GRID, LINEAR_GRID, TEMPLATE_GRID, field_shape
from xrecon.priors.deformation import mean_chest
from xrecon.priors.framing import FilmedChest, frame_with_films
from xrecon.priors.modes import _draw, _principal_modes
from xrecon.volume import Volume


def test_a_framed_case_is_centred_on_its_lungs(cases: tuple[FilmedChest, ...]) -> None:
    for case in cases:
        assert case.hu.shape == case.valid.shape == TEMPLATE_GRID.shape
        torch.testing.assert_close(case.box_mm[0], -case.box_mm[1], rtol=0, atol=1e-3)
        size = case.box_mm[1] - case.box_mm[0]
        assert 150 < float(size[0]) < 350 and 100 < float(size[1]) < 250 and 180 < float(size[2]) < 330
        assert float(case.valid.min()) == 0.0 and float(case.valid.max()) == pytest.approx(1.0)
        assert float(case.hu[:, 0].max()) < -900, "air in front of the chest"
        middle = case.hu[40:56, 40:56, 55:71]
        assert float(middle.max()) > 0, "tissue between the lungs"


def test_axes_are_feet_back_left(cases: tuple[FilmedChest, ...]) -> None:
    case = cases[0]
    bone = (case.hu > 200).float().sum(dim=(0, 2))
    assert int((bone * torch.arange(96.0)).sum() / bone.sum()) > 48, "the spine lies behind"
    chest = case.hu[30:75, 20:80]
    soft = (chest > -200).float()
    left, right = soft[..., 63:95].sum(), soft[..., 31:63].sum()
    assert float(left) > float(right), "the heart lies left"


def test_orientation_of_the_file_does_not_matter(cases: tuple[FilmedChest, ...]) -> None:
    ct = patients()[0]
    flipped = Volume(ct.hu[:, :, ::-1].copy(), ct.affine @ _flip_last(ct.shape[2]))
    again = frame_with_films("flipped", flipped)
    torch.testing.assert_close(again.hu, cases[0].hu, rtol=0, atol=0.5)


def _flip_last(count: int) -> np.ndarray:
    matrix = np.eye(4)
    matrix[2, 2], matrix[2, 3] = -1.0, count - 1
    return matrix


def test_statistics_have_their_shapes_and_sizes(asset: PriorAsset) -> None:
    prior = asset.prior
    assert prior.template.shape == TEMPLATE_GRID.shape and prior.deviation.shape == DENSITY_GRID.shape
    assert prior.density_modes.shape == (2, *DENSITY_GRID.shape), "fewer than span the differences of four cases"
    parameters = 12 + int(np.prod(field_shape()))
    assert prior.shape_mean.shape == (parameters,) and prior.shape_modes.shape == (3, parameters)
    assert prior.linear_mean.shape == LINEAR_GRID.shape and prior.linear_modes.shape == (20, *LINEAR_GRID.shape)
    for name in ("template", "deviation", "density_modes", "shape_mean", "shape_modes", "linear_modes"):
        assert bool(torch.isfinite(getattr(prior, name)).all()), name
    assert float(prior.template.min()) >= -1030 and 100 < float(prior.template.max()) < 2000
    assert float(prior.deviation.min()) >= 0 and 30 < float(prior.deviation.max()) < 1500
    assert float(prior.linear_mean.min()) >= 0 and float(prior.linear_mean.max()) < 0.06


def test_modes_are_in_order_and_orthogonal(asset: PriorAsset) -> None:
    for name in ("density_modes", "shape_modes", "linear_modes"):
        rows = getattr(asset.prior, name).flatten(1).double()
        gram = rows @ rows.T
        lengths = gram.diagonal()
        assert bool((lengths[:-1] >= lengths[1:] * (1 - 1e-6)).all()), name
        off = gram - torch.diag(lengths)
        assert float(off.abs().max()) < 1e-3 * float(lengths[0]), name


def test_deviation_is_the_length_of_the_density_modes(asset: PriorAsset) -> None:
    """With all modes kept their squares add up to the variance (means of four cases, three modes)."""
    modes = asset.prior.density_modes.square().sum(0).sqrt()
    varied = asset.prior.deviation > 20
    ratio = modes[varied] / asset.prior.deviation[varied]
    assert float(ratio.median()) == pytest.approx(1.0, abs=0.1)


def test_principal_modes_have_unit_variance_scores() -> None:
    samples = torch.randn(12, 40, generator=torch.Generator().manual_seed(0))
    mean, modes = _principal_modes(samples, 99)
    assert modes.shape == (11, 40), "no more modes than differences"
    scores = torch.linalg.lstsq(modes.T, (samples - mean).T).solution
    torch.testing.assert_close(scores.square().mean(dim=1), torch.ones(11), rtol=0, atol=1e-3)
    torch.testing.assert_close(mean + scores.T @ modes, samples, rtol=0, atol=1e-3)


def test_the_atlas_is_nearer_to_a_patient_than_air_or_water(asset: PriorAsset, cases: tuple[FilmedChest, ...]) -> None:
    hu = mean_chest(asset.prior).hu(TEMPLATE_GRID)
    measured = cases[4].valid > 0.99

    def error(other: torch.Tensor) -> float:
        return float((other.clamp(min=-1000) - cases[4].hu.clamp(min=-1000))[measured].square().mean().sqrt())

    assert error(hu) < 0.6 * min(error(torch.full_like(hu, -1000.0)), error(torch.zeros_like(hu)))


def test_building_is_deterministic_and_the_seed_draws_the_shapes(cases: tuple[FilmedChest, ...]) -> None:
    def build(seed: int) -> PriorAsset:
        settings = BuildSettings(rounds=((1, 3e-4),), inverse_steps=1, draws_per_case=2, modes=3, seed=seed)
        return build_from_chests(cases[:3], settings=settings)

    first, second = build(0), build(1)
    for name in ("template", "deviation", "density_modes", "shape_mean", "shape_modes"):
        assert torch.equal(getattr(first.prior, name), getattr(second.prior, name)), name
    assert not torch.equal(first.prior.linear_modes, second.prior.linear_modes)
    shape = first.prior.shape_mean, first.prior.shape_modes
    draws = [_draw(cases[0].hu, *shape, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_too_few_cases_are_refused(cases: tuple[FilmedChest, ...]) -> None:
    with pytest.raises(InputError, match="at least 3 chest CTs, got 2"):
        build_from_chests(cases[:2], settings=SETTINGS)


def test_a_volume_without_lungs_is_refused() -> None:
    block = np.full((32, 32, 32), 40.0, dtype=np.float32)
    with pytest.raises(InputError, match="lungs"):
        build_priors([("block", Volume.centred(block, (8.0, 8.0, 8.0)))])
