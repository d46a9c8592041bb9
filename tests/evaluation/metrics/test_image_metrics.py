"""Image metrics: hand values, parity with scikit-image, conventions, masks, signs, refusals."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from xrecon.errors import InputError
from xrecon.evaluation.metrics import image
from xrecon.evaluation.metrics.catalogue import CATALOGUE
from xrecon.evaluation.metrics.image import (
    IMAGE_METRICS,
    ImageMetrics,
    bias_hu,
    image_metrics,
    mae_hu,
    psnr_volumetric,
    rmse_hu,
    ssim_3d,
)
from xrecon.volume import Volume


def random_pair(shape: tuple[int, int, int] = (12, 10, 9), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(-1000, 1400, shape).astype(np.float32)
    return np.clip(truth + rng.normal(0, 80, shape), -1024, 1476).astype(np.float32), truth


def test_hand_values() -> None:
    truth = np.zeros((2, 2, 2), np.float32)
    estimate = truth.copy()
    estimate[0, 0, 0], estimate[1, 1, 1] = 80.0, -40.0
    assert mae_hu(estimate, truth) == pytest.approx(120 / 8)
    assert rmse_hu(estimate, truth) == pytest.approx(math.sqrt((6400 + 1600) / 8))
    assert bias_hu(estimate, truth) == pytest.approx(40 / 8)
    assert psnr_volumetric(estimate, truth) == pytest.approx(20 * math.log10(2500 / math.sqrt(1000)))


def test_a_uniform_error_of_a_hundredth_of_the_peak_is_40_db() -> None:
    truth = np.full((3, 4, 5), -500.0, np.float32)
    assert psnr_volumetric(truth + 25, truth) == pytest.approx(40.0)


def test_psnr_equals_peak_one_on_the_network_range() -> None:
    estimate, truth = random_pair()
    a, b = ((v.astype(np.float64) + 1024) / 2500 for v in (estimate, truth))
    assert psnr_volumetric(estimate, truth) == pytest.approx(-10 * math.log10(np.mean((a - b) ** 2)))


def test_peak_4095_adds_4_29_db_and_the_convention_says_so() -> None:
    estimate, truth = random_pair()
    gain = psnr_volumetric(estimate, truth, peak_hu=4095) - psnr_volumetric(estimate, truth)
    assert gain == pytest.approx(20 * math.log10(4095 / 2500))
    assert round(gain, 2) == 4.29
    assert "4.29 dB" in CATALOGUE["psnr_2500_db"].convention


def test_psnr_clips_to_the_window_and_mae_does_not() -> None:
    truth = np.full((4, 4, 4), -1024.0, np.float32)
    estimate = np.full((4, 4, 4), -2048.0, np.float32)
    assert psnr_volumetric(estimate, truth) == math.inf
    assert mae_hu(estimate, truth) == pytest.approx(1024.0)


def test_identical_volumes_are_perfect() -> None:
    _, truth = random_pair()
    perfect = image_metrics(true=truth, estimate=truth, body=truth > 0)
    assert perfect == ImageMetrics(math.inf, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, pytest.approx(1.0))


def test_bias_is_positive_where_the_estimate_is_too_dense() -> None:
    truth = np.full((7, 7, 7), -700.0, np.float32)
    assert bias_hu(truth + 30, truth) == pytest.approx(30)
    assert bias_hu(truth - 30, truth) == pytest.approx(-30)


def test_image_metrics_take_the_true_volume_first() -> None:
    true = np.full((7, 7, 7), -700.0, np.float32)
    metrics = image_metrics(true, true + 30)
    assert metrics.bias_hu == pytest.approx(30)
    assert image_metrics(true=true, estimate=true + 30) == metrics
    body = np.zeros(true.shape, bool)
    body[0] = True
    assert image_metrics(true, true + 30 * body, body=body).bias_body_hu == pytest.approx(30)


def test_inside_the_repository_both_volumes_go_to_image_metrics_by_keyword() -> None:
    """The order of two volumes is easily exchanged, and only the sign of the bias would tell."""
    root = Path(__file__).resolve().parents[3]
    files = [path for folder in ("src", "benchmarks", "examples") for path in (root / folder).rglob("*.py")]
    calls = [
        (path, node)
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "image_metrics"
    ]
    assert len(calls) >= 3
    for path, call in calls:
        assert not call.args, f"{path}:{call.lineno}: write image_metrics(true=..., estimate=...)"


def test_a_mask_limits_the_average_to_its_voxels() -> None:
    truth = np.zeros((8, 8, 8), np.float32)
    estimate = truth.copy()
    estimate[:4] = 100.0
    estimate[4:] = -10.0
    mask = np.zeros(truth.shape, bool)
    mask[:4] = True
    metrics = image_metrics(true=truth, estimate=estimate, body=mask)
    assert (metrics.mae_body_hu, metrics.rmse_body_hu, metrics.bias_body_hu) == pytest.approx((100.0, 100.0, 100.0))
    assert (metrics.mae_hu, metrics.bias_hu) == pytest.approx((55.0, 45.0))


def test_without_a_body_the_body_metrics_are_absent() -> None:
    estimate, truth = random_pair()
    metrics = image_metrics(true=truth, estimate=estimate)
    assert (metrics.mae_body_hu, metrics.rmse_body_hu, metrics.bias_body_hu) == (None, None, None)
    assert metrics.mae_hu == pytest.approx(float(np.mean(np.abs(estimate.astype(np.float64) - truth))))


@pytest.mark.parametrize("depth", [7, 11, 32, 45, 70, 71])
def test_ssim_in_slabs_equals_scikit_image_on_the_whole_volume(depth: int) -> None:
    estimate, truth = random_pair((depth, 9, 8), seed=depth)
    whole = structural_similarity(estimate.astype(np.float64), truth.astype(np.float64), data_range=2500.0)
    assert ssim_3d(estimate, truth) == pytest.approx(whole, abs=1e-10)
    assert whole < 0.999


def test_ssim_depends_on_the_stated_data_range() -> None:
    estimate, truth = (values / 20 for values in random_pair())
    assert ssim_3d(estimate, truth, data_range_hu=4000.0) > ssim_3d(estimate, truth) + 1e-4


@given(st.integers(0, 2**32 - 1), st.floats(1.0, 300.0))
@settings(max_examples=15, deadline=None)
def test_mae_never_exceeds_rmse_nor_falls_below_the_bias(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(-1000, 400, (5, 6, 7))
    estimate = truth + rng.normal(3, scale, truth.shape)
    mae = mae_hu(estimate, truth)
    assert abs(bias_hu(estimate, truth)) <= mae + 1e-9
    assert mae <= rmse_hu(estimate, truth) + 1e-9
    assert bias_hu(estimate, truth) == pytest.approx(-bias_hu(truth, estimate))


def test_every_field_has_a_convention_and_a_label() -> None:
    names = list(ImageMetrics.__dataclass_fields__)
    assert [metric.name for metric in IMAGE_METRICS] == names
    assert all(metric.label for metric in IMAGE_METRICS)
    assert all("\n" not in metric.convention and len(metric.convention) > 40 for metric in IMAGE_METRICS)


def test_volumes_may_differ_in_origin_but_not_in_voxel_size() -> None:
    estimate, truth = random_pair()
    placed = Volume.centred(truth, (2.0, 2.0, 2.0))
    affine = placed.affine.copy()
    affine[:3, 3] += 50
    assert image_metrics(true=placed, estimate=Volume(estimate, affine)) == image_metrics(true=truth, estimate=estimate)
    with pytest.raises(InputError, match="voxel size"):
        image_metrics(true=placed, estimate=Volume.centred(estimate, (2.0, 2.0, 2.5)))


@pytest.mark.parametrize(
    "metric",
    [
        *(psnr_volumetric, mae_hu, rmse_hu, bias_hu, ssim_3d),
        lambda estimate, truth: image_metrics(true=truth, estimate=estimate),
    ],
)
def test_shape_mismatch_and_nan_are_refused(metric) -> None:
    volume = np.zeros((8, 8, 8), np.float32)
    with pytest.raises(InputError, match=r"\(8, 8, 8\).*\(8, 8, 9\)"):
        metric(volume, np.zeros((8, 8, 9), np.float32))
    damaged = volume.copy()
    damaged[1, 2, 3] = np.nan
    with pytest.raises(InputError, match="NaN"):
        metric(volume, damaged)


def test_unusable_masks_peaks_and_small_volumes_are_refused() -> None:
    volume = np.zeros((8, 8, 8), np.float32)
    with pytest.raises(InputError, match="no voxel"):
        mae_hu(volume, volume, mask=np.zeros(volume.shape, bool))
    with pytest.raises(InputError, match="boolean"):
        mae_hu(volume, volume, mask=np.ones(volume.shape, np.uint8))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="one grid"):
        mae_hu(volume, volume, mask=np.ones((8, 8, 7), bool))
    with pytest.raises(InputError, match="peak"):
        psnr_volumetric(volume, volume, peak_hu=0.0)
    with pytest.raises(InputError, match="data range"):
        ssim_3d(volume, volume, data_range_hu=math.nan)
    with pytest.raises(InputError, match="at least 7"):
        ssim_3d(volume[:6], volume[:6])


def test_window_is_the_network_range() -> None:
    assert image.WINDOW_HU[1] - image.WINDOW_HU[0] == image.PEAK_HU


def test_tensors_are_taken_as_arrays() -> None:
    truth = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    expected = image_metrics(truth, truth + 25)
    assert image_metrics(torch.from_numpy(truth), torch.from_numpy(truth + 25)) == expected
