"""Spline fields, their bending energy, and trilinear sampling in mm."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xrecon.warp import Grid, SplineField, affine_positions, sample

WIDE = (384.0, 384.0, 504.0)


def _knots_mm(count: int, knot_mm: float) -> torch.Tensor:
    return (torch.arange(count, dtype=torch.float32) - (count - 1) / 2) * knot_mm


def test_grid_is_centred_on_the_isocentre() -> None:
    grid = Grid((4, 5, 6), 3.0)
    positions = grid.positions_mm()
    assert positions.shape == (4, 5, 6, 3)
    torch.testing.assert_close(positions.mean(dim=(0, 1, 2)), torch.zeros(3))
    torch.testing.assert_close(positions[1, 0, 0] - positions[0, 0, 0], torch.tensor([3.0, 0.0, 0.0]))
    assert grid.extent_mm == (12.0, 15.0, 18.0)


@settings(deadline=None, max_examples=15)
@given(
    knot_mm=st.floats(15.0, 80.0),
    spacing=st.floats(3.0, 20.0),
    shape=st.tuples(*[st.integers(2, 9)] * 3),
    value=st.floats(-30.0, 30.0),
)
def test_spline_reproduces_constants(knot_mm: float, spacing: float, shape: tuple[int, int, int], value: float) -> None:
    field = SplineField(Grid(shape, spacing), knot_mm)
    moved = field(torch.full(field.shape, value))
    assert moved.shape == (*shape, 3)
    torch.testing.assert_close(moved, torch.full_like(moved, value), rtol=1e-5, atol=1e-4)


def test_spline_reproduces_linear_functions() -> None:
    grid = Grid((12, 10, 14), 12.0)
    field = SplineField(grid, 36.0)
    # Cubic B-splines with coefficients linear in the knots' positions are that linear function.
    a, b, c = (_knots_mm(n, 36.0) for n in field.shape[1:])
    linear = 0.03 * a[:, None, None] - 0.02 * b[None, :, None] + 0.05 * c[None, None, :] + 2.0
    moved = field(torch.stack([linear, 2 * linear, torch.zeros_like(linear)]))
    d, h, w = grid.positions_mm().unbind(-1)
    expected = 0.03 * d - 0.02 * h + 0.05 * w + 2.0
    torch.testing.assert_close(moved[..., 0], expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(moved[..., 1], 2 * expected, rtol=0, atol=2e-4)
    assert float(moved[..., 2].abs().max()) == 0.0


def test_field_is_the_same_on_grids_of_other_spacing() -> None:
    coarse, fine = Grid((32, 32, 42), 12.0), Grid((96, 96, 126), 4.0)
    on_coarse, on_fine = (SplineField(grid, 36.0, extent_mm=WIDE) for grid in (coarse, fine))
    assert on_coarse.shape == on_fine.shape
    coefficients = 10 * torch.randn(on_coarse.shape, generator=torch.Generator().manual_seed(3))
    # With a ratio of 3 every coarse voxel centre is a fine voxel centre.
    torch.testing.assert_close(on_coarse(coefficients), on_fine(coefficients)[1::3, 1::3, 1::3], rtol=0, atol=1e-3)
    assert float(on_coarse(coefficients).abs().max()) > 5.0


def test_roughness_is_zero_for_linear_fields_and_positive_for_bent_ones() -> None:
    field = SplineField(Grid((32, 32, 42), 12.0), 36.0)
    a, b, c = (_knots_mm(n, 36.0) for n in field.shape[1:])
    linear = (0.1 * a[:, None, None] + 0.2 * b[None, :, None] - 0.3 * c[None, None, :]).expand(field.shape)
    assert float(field.roughness(linear)) == pytest.approx(0.0, abs=1e-6)
    bent = (0.01 * a[:, None, None] ** 2).expand(field.shape)
    # Second difference of k x^2 at knots h apart is 2 k h^2; the other five terms are zero.
    assert float(field.roughness(bent)) == pytest.approx((2 * 0.01 * 36.0**2) ** 2, rel=1e-4)
    twisted = (0.01 * a[:, None, None] * b[None, :, None]).expand(field.shape)
    assert float(field.roughness(twisted)) == pytest.approx(2 * (0.01 * 36.0**2) ** 2, rel=1e-4)


def test_sample_at_voxel_centres_gives_the_voxels() -> None:
    grid = Grid((5, 7, 4), 2.5)
    volumes = torch.randn(2, *grid.shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sample(volumes, grid.positions_mm(), 2.5), volumes, rtol=0, atol=1e-5)


def test_sample_is_linear_between_voxels_and_holds_its_border() -> None:
    grid = Grid((6, 6, 6), 10.0)
    ramp = (grid.positions_mm() @ torch.tensor([1.0, -2.0, 0.5]))[None]
    inside = torch.tensor([[3.0, -7.0, 11.0], [0.0, 0.0, 0.0], [-24.0, 20.0, 1.0]])
    torch.testing.assert_close(
        sample(ramp, inside, 10.0)[0], inside @ torch.tensor([1.0, -2.0, 0.5]), rtol=0, atol=1e-3
    )
    beyond = torch.tensor([[500.0, 25.0, 25.0], [25.0, 25.0, 25.0]])
    far, edge = sample(ramp, beyond, 10.0)[0]
    assert float(far) == pytest.approx(float(edge)) and float(edge) == pytest.approx(25.0 - 50.0 + 12.5, abs=1e-3)


def test_affine_positions_applies_the_matrix_to_columns() -> None:
    matrix = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0], [1.0, 0.0, 0.0]])
    moved = affine_positions(torch.tensor([[1.0, 2.0, 3.0]]), matrix, torch.tensor([10.0, 20.0, 30.0]))
    assert moved.tolist() == [[12.0, 26.0, 31.0]]
