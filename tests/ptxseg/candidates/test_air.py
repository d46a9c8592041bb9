"""Candidates for free air, on shapes whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from support.voxel_shapes import LEVELS, SHAPE, D, H, W, ball
from xrecon.anatomy import morphology
from xrecon.ptxseg import judge
from xrecon.ptxseg.candidates.air import _ends_at_wall_and_step, find_candidates
from xrecon.ptxseg.candidates.features import measure
from xrecon.ptxseg.levels import AirLevels


def film(thickness: int, *, pleura_hu: float = -450.0) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A block of lung with air of some voxels in front of it, and the hemithorax."""
    hemithorax = (np.abs(D - 20) < 17) & (np.abs(H - 20) < 17) & (np.abs(W - 20) < 17)
    hu = np.where(hemithorax, -850.0, 40.0).astype(np.float32)
    part = hemithorax & (4 + thickness > H)
    hu[part] = -980.0
    hu[hemithorax & (4 + thickness == H)] = pleura_hu
    noise = np.random.default_rng(0).normal(0.0, 10.0, SHAPE).astype(np.float32)
    return hu + noise, hemithorax


@pytest.mark.parametrize("split", [1, 2])
def test_a_core_reaches_a_wall_that_is_blurred(split: int) -> None:
    hemithorax = D > 8
    # The core begins behind the partial volume of the wall: two voxels of it, and more where slices are interpolated.
    core = (np.abs(D - 11 - split) < 1.5) & (np.hypot(H - 20, W - 20) < 10)
    hu = np.where(core, -980.0, np.where(hemithorax, -550.0, 40.0)).astype(np.float32)
    levels = replace(LEVELS, spread=(split - 1, 0, 0))
    assert _ends_at_wall_and_step(core, hemithorax, hu, levels)
    if split > 1:
        assert not _ends_at_wall_and_step(core, hemithorax, hu, LEVELS)


@pytest.mark.parametrize("thickness", [2, 4, 8])
def test_air_in_front_of_the_lung_is_a_pneumothorax(thickness: int) -> None:
    hu, hemithorax = film(thickness)
    spacing = (1.8, 1.8, 1.8)
    labels, count = find_candidates(hu, hemithorax, LEVELS, spacing=spacing)
    assert count == 1
    truth = hemithorax & (4 + thickness > H)
    assert 2.0 * float(((labels > 0) & truth).sum()) / float((labels > 0).sum() + truth.sum()) > 0.97
    features = measure(labels > 0, hemithorax, hu, levels=LEVELS, spacing=spacing)
    verdict = judge.judge(features, LEVELS, pitch_mm=1.8)
    assert verdict.kind == judge.PNEUMOTHORAX
    assert features.wall_share > 0.3
    assert features.volume_ml == pytest.approx(truth.sum() * 1.8**3 / 1000.0, rel=0.05)


def test_thin_lung_between_air_and_wall_stays_lung() -> None:
    """Nowhere deep enough for a core of lung, as at the heart and in the recesses: air must not flood it."""
    hu, hemithorax = film(6)
    tongue = hemithorax & (H > 10) & (H < 17)
    hemithorax &= H < 17
    hu[H >= 17] = 40.0
    labels, count = find_candidates(hu, hemithorax, LEVELS, spacing=(1.8, 1.8, 1.8))
    assert count == 1
    assert (labels[hemithorax & (H < 10)] > 0).mean() > 0.97
    assert (labels[tongue] > 0).mean() < 0.01


@pytest.mark.parametrize(("line_hu", "expected_share"), [(-800.0, 0.0), (-400.0, 1.0)])
def test_thin_lung_without_a_pleural_line_is_no_air(line_hu: float, expected_share: float) -> None:
    """Behind a film of air lies something hardly brighter: lung, unless a pleural line parts it from the lung."""
    levels = AirLevels(-980.0, 10.0, -800.0)
    hemithorax = (np.abs(D - 20) < 17) & (np.abs(H - 20) < 17) & (np.abs(W - 20) < 17)
    hu = np.where(hemithorax, -800.0, 40.0).astype(np.float32)
    film = hemithorax & (H <= 7)
    thin = hemithorax & (H > 7) & (H < 14) & (np.abs(W - 20) < 6) & (np.abs(D - 20) < 6)
    hu[film], hu[hemithorax & (H == 8)] = -980.0, -450.0
    hu[morphology.grown(thin) & ~thin & ~film] = line_hu
    hu[thin] = -904.0
    hu += np.random.default_rng(0).normal(0.0, 6.0, SHAPE).astype(np.float32)
    labels, count = find_candidates(hu, hemithorax, levels, spacing=(1.8, 1.8, 1.8))
    assert count == 1
    assert (labels[film] > 0).mean() > 0.97
    assert (labels[thin & (H > 9)] > 0).mean() == pytest.approx(expected_share, abs=0.1)


def test_plain_lung_holds_no_candidate() -> None:
    hemithorax = (np.abs(D - 20) < 17) & (np.abs(H - 20) < 17) & (np.abs(W - 20) < 17)
    texture = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=SHAPE), 1.0)
    hu = np.where(hemithorax, -850.0 + 40.0 * texture / texture.std(), 40.0).astype(np.float32)
    assert find_candidates(hu, hemithorax, LEVELS, spacing=(1.8, 1.8, 1.8))[1] == 0


def test_a_bubble_inside_the_lung_is_no_pneumothorax() -> None:
    hemithorax = ball(18)
    hu = np.where(hemithorax, -850.0, 40.0).astype(np.float32)
    bubble = ball(7)
    hu[bubble] = -980.0
    hu[morphology.grown(bubble) & ~bubble] = -500.0
    assert find_candidates(hu, hemithorax, LEVELS, spacing=(1.8, 1.8, 1.8))[1] == 0
    features = measure(bubble, hemithorax, hu, levels=LEVELS, spacing=(1.8, 1.8, 1.8))
    assert features.sphericity > 0.7
    assert judge.judge(features, LEVELS, pitch_mm=1.8).kind == judge.BULLA
