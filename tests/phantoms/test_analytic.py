"""Ellipsoids against what geometry says of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from xrecon.errors import InputError
from xrecon.phantoms.analytic import Ellipsoid


def turned(degrees: tuple[float, float, float]) -> tuple[tuple[float, float, float], ...]:
    matrix = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    return tuple(tuple(float(v) for v in row) for row in matrix)


def test_chord_through_the_centre_is_the_whole_axis() -> None:
    body = Ellipsoid((5.0, -7.0, 11.0), (30.0, 20.0, 10.0), mu_per_mm=0.02)
    centre = np.array(body.centre_mm)
    for axis, length in enumerate(body.semi_axes_mm):
        ray = np.eye(3)[axis] * 800.0
        assert body.line_integral(centre - ray, centre + ray) == pytest.approx(0.02 * 2 * length, rel=1e-12)


def test_tangent_and_miss_are_zero_and_near_tangent_is_the_closed_form() -> None:
    ball = Ellipsoid((0.0, 0.0, 0.0), (10.0, 10.0, 10.0), mu_per_mm=1.0)
    offsets = np.array([10.0, 12.0, 9.999, 6.0])
    points = np.stack([offsets, np.full(4, 500.0), np.zeros(4)], axis=1)
    sources = points * [1, -1, 1]
    integral = ball.line_integral(sources, points)
    np.testing.assert_allclose(integral[:2], 0.0, atol=1e-6)
    np.testing.assert_allclose(integral[2:], 2 * np.sqrt(100 - offsets[2:] ** 2), rtol=1e-9)


def test_segment_that_ends_or_starts_inside_counts_its_inner_part() -> None:
    ball = Ellipsoid((0.0, 0.0, 0.0), (10.0, 10.0, 10.0), mu_per_mm=1.0)
    assert ball.line_integral([0, 0, 0], [0, 50, 0]) == pytest.approx(10.0)
    assert ball.line_integral([0, -50, 0], [0, 4, 0]) == pytest.approx(14.0)
    assert ball.line_integral([0, -3, 0], [0, 4, 0]) == pytest.approx(7.0)
    assert ball.line_integral([0, 20, 0], [0, 50, 0]) == 0.0
    assert ball.line_integral([1, 1, 1], [1, 1, 1]) == 0.0


def test_one_source_and_a_whole_detector() -> None:
    ball = Ellipsoid((0.0, 0.0, 0.0), (40.0, 40.0, 40.0), mu_per_mm=0.02)
    u, v = np.meshgrid(np.linspace(-60, 60, 7), np.linspace(-60, 60, 5))
    detector = np.stack([u, np.full_like(u, -200.0), v], axis=-1)
    image = ball.line_integral([0.0, 1600.0, 0.0], detector)
    assert image.shape == (5, 7)
    assert image.max() == image[2, 3] == pytest.approx(1.6)
    np.testing.assert_allclose(image, image[::-1, ::-1], atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    semi=st.tuples(*[st.floats(2.0, 80.0)] * 3),
    seed=st.integers(0, 1000),
)
def test_rotating_body_and_ray_together_changes_nothing(
    angles: tuple[float, float, float], semi: tuple[float, float, float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    source, points = rng.normal(0, 300, 3), rng.normal(0, 300, (20, 3))
    matrix = np.array(turned(angles))
    upright = Ellipsoid((0.0, 0.0, 0.0), semi)
    rotated = Ellipsoid((0.0, 0.0, 0.0), semi, turned(angles))  # type: ignore[arg-type]
    expected = upright.line_integral(source, points)
    np.testing.assert_allclose(rotated.line_integral(matrix @ source, points @ matrix.T), expected, atol=1e-6)


@pytest.mark.parametrize("angles", [(0.0, 0.0, 0.0), (20.0, -35.0, 60.0)])
@pytest.mark.parametrize("spacing", [3.0, (2.0, 3.0, 4.0)])
def test_voxels_hold_the_mass_and_its_centre(
    angles: tuple[float, float, float], spacing: float | tuple[float, float, float]
) -> None:
    body = Ellipsoid((7.0, -4.0, 9.0), (32.0, 21.0, 26.0), turned(angles), 0.02)  # type: ignore[arg-type]
    pitch = np.broadcast_to(spacing, 3)
    shape = (60, 44, 48)
    mu = body.voxelised(shape, spacing)
    assert mu.shape == shape and mu.dtype == np.float32
    assert mu.max() == pytest.approx(0.02) and mu.min() == 0.0
    assert mu.sum(dtype=np.float64) * pitch.prod() == pytest.approx(body.mass, rel=0.005)
    index = [np.sum(np.arange(n) * mu.sum(axis=tuple({0, 1, 2} - {k}))) / mu.sum() for k, n in enumerate(shape)]
    d, h, w = ((i - (n - 1) / 2) * p for i, n, p in zip(index, shape, pitch, strict=True))
    np.testing.assert_allclose([w, h, -d], body.centre_mm, atol=0.05)  # canonical axes: W = x, H = y, D = -z


def test_column_sums_of_the_voxels_are_the_line_integrals() -> None:
    body = Ellipsoid((3.0, 5.0, -8.0), (30.0, 22.0, 26.0), turned((10.0, 20.0, 30.0)), 0.02)  # type: ignore[arg-type]
    columns = body.voxelised((48, 48, 48), 2.0, supersample=5).sum(axis=1) * 2.0  # [D, W]
    axis = (np.arange(48) - 23.5) * 2.0
    z, x = np.meshgrid(-axis, axis, indexing="ij")
    exact = body.line_integral(np.stack([x, x * 0 - 200, z], -1), np.stack([x, x * 0 + 200, z], -1))
    inner = exact > 0.5
    assert inner.sum() > 400
    np.testing.assert_allclose(columns[inner], exact[inner], rtol=0.03)
    # Over the whole face only the rays at the rim, where a pixel's mean differs from its centre, stray.
    assert np.abs(columns - exact).mean() < 0.004


def test_body_outside_or_half_outside_the_grid() -> None:
    away = Ellipsoid((500.0, 0.0, 0.0), (10.0, 10.0, 10.0))
    assert not away.voxelised((16, 16, 16), 2.0).any()
    cut = Ellipsoid((16.0, 0.0, 0.0), (10.0, 10.0, 10.0), mu_per_mm=1.0)
    half = cut.voxelised((16, 16, 16), 2.0).sum(dtype=np.float64) * 8.0
    assert half == pytest.approx(4 / 3 * math.pi * 1000 / 2, rel=0.005)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"semi_axes_mm": (1.0, 0.0, 1.0)}, "positive"),
        ({"centre_mm": (math.nan, 0.0, 0.0)}, "centre_mm"),
        ({"rotation": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0))}, "determinant"),
    ],
)
def test_impossible_ellipsoids_are_refused(values: dict[str, object], word: str) -> None:
    good: dict[str, object] = {"centre_mm": (0.0, 0.0, 0.0), "semi_axes_mm": (1.0, 1.0, 1.0)}
    with pytest.raises(InputError, match=word):
        Ellipsoid(**(good | values))  # type: ignore[arg-type]


def test_bad_positions_and_grids_are_refused() -> None:
    ball = Ellipsoid((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    with pytest.raises(InputError, match="positions"):
        ball.line_integral([0, 0], [1, 1])
    with pytest.raises(InputError, match="supersample"):
        ball.voxelised((4, 4, 4), 1.0, supersample=0)
    with pytest.raises(InputError, match="three positive sizes"):
        ball.voxelised((4, 0, 4), 1.0)
