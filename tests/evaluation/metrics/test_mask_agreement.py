"""Mask metrics: brute force on small shapes, hand values, invariants, regions, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from xrecon.errors import InputError
from xrecon.evaluation.metrics.mask_agreement import (
    REGIONS,
    boundary,
    cardiothoracic_surrogate,
    compare_masks,
    compare_segmentations,
    region,
    surface_distances,
)
from xrecon.segmentation import Segmentation

SPACING = (2.0, 1.0, 1.5)


def blob(seed: int, shape: tuple[int, int, int] = (7, 8, 6)) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < 0.35


def edge_points(mask: np.ndarray) -> np.ndarray:
    """Boundary voxels by looking at each neighbour, mm."""
    points = []
    for index in zip(*np.nonzero(mask), strict=True):
        for axis in range(3):
            for step in (-1, 1):
                other = list(index)
                other[axis] += step
                outside = not 0 <= other[axis] < mask.shape[axis]
                if outside or not mask[tuple(other)]:
                    points.append(index)
    return np.unique(points, axis=0) * np.asarray(SPACING)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_distances_equal_brute_force(seed: int) -> None:
    estimate, truth = blob(seed), blob(seed + 1)
    between = cdist(edge_points(estimate), edge_points(truth))
    forward, backward = between.min(axis=1), between.min(axis=0)
    got = compare_masks(estimate, truth, spacing_mm=SPACING, tolerance_mm=1.5)
    assert got.hd95_mm == pytest.approx(max(np.percentile(forward, 95), np.percentile(backward, 95)), rel=1e-5)
    every = np.concatenate([forward, backward])
    assert got.assd_mm == pytest.approx(every.mean(), rel=1e-5)
    assert got.nsd == pytest.approx(np.mean(every <= 1.5))
    assert np.sort(surface_distances(estimate, truth, spacing_mm=SPACING)[0]) == pytest.approx(
        np.sort(forward), rel=1e-5
    )


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_overlap_is_symmetric_and_bounded(seed: int) -> None:
    a, b = blob(seed), blob(seed + 7)
    forth, back = compare_masks(a, b, spacing_mm=SPACING), compare_masks(b, a, spacing_mm=SPACING)
    assert (forth.dice, forth.iou, forth.hd95_mm, forth.nsd) == (back.dice, back.iou, back.hd95_mm, back.nsd)
    assert 0 <= forth.iou <= forth.dice <= 1
    assert forth.dice == pytest.approx(2 * forth.iou / (1 + forth.iou))
    assert forth.volume_error_ml == pytest.approx(-back.volume_error_ml)
    same = compare_masks(a, a, spacing_mm=SPACING)
    assert (same.dice, same.iou, same.hd95_mm, same.assd_mm, same.nsd) == (1, 1, 0, 0, 1)


def test_hand_values_of_two_cubes() -> None:
    """Two cubes of 4 voxels per edge, one moved by two voxels of 3 mm."""
    a, b = np.zeros((10, 10, 10), bool), np.zeros((10, 10, 10), bool)
    a[2:6, 2:6, 2:6] = True
    b[2:6, 2:6, 4:8] = True
    got = compare_masks(a, b, spacing_mm=(3.0, 3.0, 3.0), tolerance_mm=6.0)
    assert got.dice == pytest.approx(0.5)
    assert got.iou == pytest.approx(1 / 3)
    assert got.hd95_mm == pytest.approx(6.0)
    assert got.nsd == 1.0
    assert got.found_ml == pytest.approx(64 * 0.027)
    assert boundary(a).sum() == 64 - 8


def test_empty_masks_have_no_invented_value() -> None:
    empty, some = np.zeros((4, 4, 4), bool), np.ones((4, 4, 4), bool)
    both = compare_masks(empty, empty, spacing_mm=SPACING)
    assert (both.dice, both.iou, both.nsd, both.hd95_mm) == (None, None, None, None)
    missed = compare_masks(empty, some, spacing_mm=SPACING)
    assert (missed.dice, missed.nsd, missed.hd95_mm, missed.assd_mm) == (0.0, 0.0, None, None)
    assert missed.volume_error_ml == pytest.approx(-64 * 0.003)


def thorax() -> Segmentation:
    labels, air = np.zeros((20, 10, 30), np.uint8), np.zeros((20, 10, 30), np.uint8)
    labels[2:18, 2:8, 3:12] = 1
    labels[2:18, 2:8, 20:27] = 2
    labels[2:6, 2:4, 3:6] = 3
    air[2:6, 2:4, 3:6] = 1
    return Segmentation(labels, air, np.diag([4.0, 4.0, 4.0, 1.0]))


def test_regions_of_a_segmentation() -> None:
    seg = thorax()
    regions = compare_segmentations(seg, seg)
    assert list(regions) == list(REGIONS)
    assert regions["left_air"].dice is None
    assert regions["right_air"].found_ml == pytest.approx(24 * 0.064)
    assert (region(seg, "right_hemithorax").sum(), region(seg, "right_lung").sum()) == (16 * 6 * 9, 16 * 6 * 9 - 24)
    # Gap of 8 voxels between the lungs over 24 voxels from wall to wall.
    assert cardiothoracic_surrogate(seg) == pytest.approx(8 / 24)
    bare = Segmentation(np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.eye(4))
    assert cardiothoracic_surrogate(bare) is None


def test_a_mirrored_segmentation_scores_worse() -> None:
    seg = thorax()
    mirrored = Segmentation(seg.labels[..., ::-1].copy(), seg.air_side[..., ::-1].copy(), seg.affine)
    regions = compare_segmentations(mirrored, seg)
    assert regions["right_lung"].dice == 0.0
    assert regions["right_air"].dice == 0.0


def test_unusable_masks_are_refused() -> None:
    mask = np.ones((4, 4, 4), bool)
    with pytest.raises(InputError, match="boolean"):
        compare_masks(mask.astype(np.uint8), mask, spacing_mm=SPACING)
    with pytest.raises(InputError, match="one grid"):
        compare_masks(mask[:3], mask, spacing_mm=SPACING)
    with pytest.raises(InputError, match="spacing"):
        compare_masks(mask, mask, spacing_mm=(1.0, 0.0, 1.0))
    with pytest.raises(InputError, match="tolerance"):
        compare_masks(mask, mask, spacing_mm=SPACING, tolerance_mm=-1.0)
    with pytest.raises(InputError, match="no voxel"):
        surface_distances(mask, ~mask, spacing_mm=SPACING)
    with pytest.raises(InputError, match="unknown region"):
        region(thorax(), "heart")
    other = Segmentation(thorax().labels, thorax().air_side, np.diag([5.0, 4.0, 4.0, 1.0]))
    with pytest.raises(InputError, match="one grid"):
        compare_segmentations(other, thorax())
