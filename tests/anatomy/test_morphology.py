"""Morphology in mm: exact in voxels of any shape, and the same whether computed in a box or everywhere."""

from __future__ import annotations

from pathlib import Path

import edt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import xrecon
from support.voxel_shapes import SHAPE, ball
from xrecon.anatomy import morphology


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000), radius=st.floats(1.0, 4.0))
def test_opening_and_closing_enclose_the_mask(seed: int, radius: float) -> None:
    mask = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(14, 15, 16)), 1.5) > 0
    spacing = (1.0, 1.5, 2.0)
    opened, closed = morphology.opened(mask, radius, spacing), morphology.closed(mask, radius, spacing)
    assert not (opened & ~mask).any()
    assert not (mask & ~closed).any()
    assert np.array_equal(morphology.eroded(mask, radius, spacing), ~morphology.dilated(~mask, radius, spacing))


def test_distances_are_in_mm_along_each_axis() -> None:
    point = np.zeros((9, 9, 9), dtype=bool)
    point[4, 4, 4] = True
    away = morphology.distance_mm(point, (1.0, 2.0, 3.0))
    assert (away[5, 4, 4], away[4, 5, 4], away[4, 4, 5]) == pytest.approx((1.0, 2.0, 3.0))
    assert morphology.grown(point).sum() == 7
    assert np.array_equal(morphology.shrunk(morphology.grown(point)), point)


def test_holding_keeps_components_with_a_seed() -> None:
    mask = ball(5, (10, 10, 10)) | ball(5, (30, 30, 30))
    seed = np.zeros(SHAPE, dtype=bool)
    seed[10, 10, 10] = True
    assert np.array_equal(morphology.holding(mask, seed), ball(5, (10, 10, 10)))


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 1000),
    share=st.floats(0.0, 1.0),
    radius=st.floats(0.5, 12.0),
    spacing=st.tuples(*[st.sampled_from([0.7, 1.0, 1.25, 2.5])] * 3),
)
def test_the_box_that_is_computed_does_not_show_in_the_result(
    seed: int, share: float, radius: float, spacing: tuple[float, float, float]
) -> None:
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(11, 17, 14)), 1.0)
    mask = values > np.quantile(values, share)

    def depth(part: morphology.Mask) -> morphology.Floats:
        return np.asarray(edt.edt(np.ascontiguousarray(part), anisotropy=spacing, black_border=False))

    wide = depth(~mask) <= radius
    assert np.array_equal(morphology.dilated(mask, radius, spacing), wide)
    assert np.array_equal(morphology.beside_mask(mask, radius, spacing), wide)
    assert np.array_equal(morphology.closed(mask, radius, spacing), (depth(wide) > radius) | mask)
    core = depth(mask) > radius
    assert np.array_equal(morphology.eroded(mask, radius, spacing), core)
    assert np.array_equal(morphology.opened(mask, radius, spacing), depth(~core) <= radius)


def test_the_border_of_the_array_is_no_surface() -> None:
    mask = np.zeros((8, 8, 8), dtype=bool)
    mask[:, :, :5] = True
    assert np.array_equal(np.flatnonzero(morphology.eroded(mask, 2.0, (1.0, 1.0, 1.0)).any(axis=(0, 1))), [0, 1, 2])
    assert np.isinf(morphology.depth_mm(np.ones((3, 3, 3), dtype=bool), (1.0, 1.0, 1.0))).all()


def test_signed_distances_change_sign_half_a_voxel_outside_the_mask() -> None:
    mask = np.zeros((3, 3, 9), dtype=bool)
    mask[:, :, :4] = True
    row = morphology.signed_mm(mask, (2.0, 2.0, 2.0))[1, 1]
    assert row[2:6] == pytest.approx([3.0, 1.0, -1.0, -3.0])


def test_a_box_in_mm_is_rounded_up_and_cut_at_the_array() -> None:
    mask = np.zeros((20, 20, 20), dtype=bool)
    mask[10:12, 1, 10] = True
    box = morphology.box_of(mask, (1.0, 2.0, 5.0), margin_mm=6.5)
    assert box == (slice(3, 19), slice(0, 6), slice(8, 13))
    with pytest.raises(ValueError, match="empty"):
        morphology.box_of(np.zeros((3, 3, 3), dtype=bool), (1.0, 1.0, 1.0), margin_mm=1.0)


def test_slices_are_filled_where_the_volume_is_open_at_its_ends() -> None:
    tube = np.ones((4, 6, 6), dtype=bool)
    tube[:, 2:4, 2:4] = False
    assert morphology.filled_slices(tube).all()
    assert not morphology.filled(tube)[:, 2:4, 2:4].any()


def test_distance_maps_of_masks_have_one_home() -> None:
    package = Path(xrecon.__file__).parent
    users = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "import edt" in path.read_text(encoding="utf-8")
    }
    # The distances of an evaluation are those of its convention, not of this morphology.
    assert users == {"anatomy/morphology.py", "evaluation/metrics/mask_agreement.py"}
