"""Conventions by name: parity with scikit-image and with formulas, and honesty: what must score badly does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from xrecon.errors import InputError
from xrecon.evaluation.metrics.catalogue import CATALOGUE, PAIR_METRICS, full_metrics
from xrecon.evaluation.metrics.image import ImageMetrics, psnr_volumetric, ssim_3d
from xrecon.evaluation.metrics.psnr import psnr_conventions, psnr_slices, psnr_synthrad, unit_range
from xrecon.evaluation.metrics.similarity import similarities
from xrecon.evaluation.metrics.tissue import TISSUES, projection_errors, tissue_errors
from xrecon.geometry import ConeBeam
from xrecon.phantoms.parameters import ThoraxParameters
from xrecon.phantoms.thorax import Phantom, thorax_phantom
from xrecon.volume import Volume

BEAMS = (ConeBeam.preset("chest", "pa", size=32), ConeBeam.preset("chest", "lateral", size=32))

OTHER = ThoraxParameters(chest_width_mm=320.0, chest_depth_mm=230.0, fat_mm=25.0, kyphosis_mm=30.0, seed=3)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return thorax_phantom(32, 12.0)


def noisy(truth: np.ndarray, seed: int = 0, scale: float = 60.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (truth + rng.normal(0, scale, truth.shape)).astype(np.float32)


def random_truth(shape: tuple[int, int, int] = (16, 15, 18), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1000, 1400, shape).astype(np.float32)


def test_conventions_by_their_formulas() -> None:
    truth = np.full((4, 5, 6), -24.0, np.float32)  # 1000 of 2500
    estimate = truth + 50.0
    decibels = psnr_conventions(estimate, truth, body=np.ones(truth.shape, bool))
    base = 20 * math.log10(2500 / 50)
    assert decibels["psnr_2500_db"] == pytest.approx(base)
    assert decibels["psnr_unit_db"] == pytest.approx(base)
    assert decibels["psnr_xrecon_slices_db"] == pytest.approx(base)  # every slice has the same error
    assert decibels["psnr_x2ct_slices_db"] == pytest.approx(base + 20 * math.log10(4095 / 2500))
    assert decibels["psnr_synthrad_db"] == pytest.approx(20 * math.log10(4000 / 50))


def test_slices_without_error_count_a_hundred_decibel() -> None:
    truth = np.zeros((10, 4, 4))
    estimate = truth.copy()
    estimate[0] = 0.1
    # Along D nine slices of ten are perfect; along H and W every slice has mean square 0.01 / 10.
    expected = ((9 * 100 + 20) / 10 + 2 * 30) / 3
    assert psnr_slices(estimate, truth, peak=1.0) == pytest.approx(expected)


def test_the_same_pair_under_all_conventions_is_far_apart(phantom: Phantom) -> None:
    """What the field's tables hide: one pair of volumes, many decibels between the conventions."""
    body = phantom.structures["body"]
    estimate = np.where(body, noisy(phantom.volume.hu, scale=250), phantom.volume.hu).astype(np.float32)
    decibels = psnr_conventions(estimate, phantom.volume.hu, body=body)
    values = [v for v in decibels.values() if v is not None and math.isfinite(v)]
    assert len(values) == 5
    assert max(values) - min(values) > 4.0
    # Less than 4.29 dB: the slices of empty air count 100 dB under both.
    assert 2.0 < decibels["psnr_x2ct_slices_db"] - decibels["psnr_xrecon_slices_db"] < 4.4


def test_ssim_forms_equal_scikit_image() -> None:
    truth = random_truth()
    estimate = noisy(truth, scale=300)
    a, b = unit_range(estimate), unit_range(truth)
    similarity = similarities(estimate, truth)
    assert similarity["ssim_unit_3d"] == pytest.approx(structural_similarity(a, b, data_range=1.0), abs=1e-9)
    # On HU, with negative values, the luminance term differs: another number, hence another name.
    assert abs(similarity["ssim_unit_3d"] - ssim_3d(estimate, truth)) > 1e-3
    slices = [structural_similarity(a, b, data_range=1.0, channel_axis=axis) for axis in range(3)]
    assert similarity["ssim_x2ct_slices"] == pytest.approx(np.mean(slices), abs=1e-9)
    assert similarity["cosine"] == pytest.approx(np.dot(a.ravel(), b.ravel()) / np.linalg.norm(a) / np.linalg.norm(b))


def test_multi_scale_ssim_by_hand() -> None:
    """Two scales of a 16^3 pair: contrast-structure of the fine one, the whole of the coarse one."""
    truth = random_truth((16, 16, 16))
    estimate = noisy(truth, scale=200)
    a, b = unit_range(estimate), unit_range(truth)
    coarse = [v.reshape(8, 2, 8, 2, 8, 2).mean(axis=(1, 3, 5)) for v in (a, b)]
    whole = structural_similarity(*coarse, data_range=1.0)
    # Contrast-structure: SSIM with K1 so large that the luminance part is 1.
    structure = structural_similarity(a, b, data_range=1.0, K1=1e6)
    first, second = 0.0448, 0.2856
    expected = structure ** (first / (first + second)) * whole ** (second / (first + second))
    assert similarities(estimate, truth)["ms_ssim_3d"] == pytest.approx(expected, abs=1e-6)
    assert similarities(truth[:8], truth[:8])["ms_ssim_3d"] is None
    assert similarities(truth, truth)["ms_ssim_3d"] == pytest.approx(1.0)


def test_tissue_bands_pick_their_voxels() -> None:
    values = {"air": -1000.0, "lung": -800.0, "fat": -100.0, "soft": 40.0, "bone": 700.0}
    truth = np.repeat(np.array([*values.values(), -300.0], np.float32)[:, None, None], 9, axis=1).reshape(6, 3, 3)
    estimate = truth + np.arange(6, dtype=np.float32)[:, None, None]
    errors = tissue_errors(estimate, truth, body=np.ones(truth.shape, bool))
    assert [errors[f"mae_{name}_hu"] for name in values] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert list(values) == list(TISSUES)
    body = np.ones(truth.shape, bool)
    body[4] = False
    assert tissue_errors(estimate, truth, body=body)["bias_bone_hu"] is None


def test_projection_error_of_a_pair(phantom: Phantom) -> None:
    truth = phantom.volume.hu
    same = projection_errors(truth, truth, spacing_mm=12.0, beams=BEAMS)
    assert same == {"projection_pa": 0.0, "projection_lateral": 0.0}
    mirrored = projection_errors(truth[..., ::-1], truth, spacing_mm=12.0, beams=BEAMS)
    assert mirrored["projection_pa"] > 0.02
    empty = projection_errors(np.full_like(truth, -1024.0), truth, spacing_mm=12.0, beams=BEAMS)
    assert empty["projection_pa"] > 1.0


def test_every_metric_has_words_and_a_label(phantom: Phantom) -> None:
    volume = Volume.centred(phantom.volume.hu, (12.0, 12.0, 12.0))
    metrics = full_metrics(volume, volume, body=phantom.structures["body"], beams=BEAMS)
    assert list(metrics) == [metric.name for metric in PAIR_METRICS]
    assert set(ImageMetrics.__dataclass_fields__) < set(metrics)
    assert all(value is not None for value in metrics.values())
    assert full_metrics(volume, volume)["psnr_synthrad_db"] is None
    for metric in CATALOGUE.values():
        assert "\n" not in metric.convention and len(metric.convention) > 20
        assert metric.label and metric.region and metric.decimals >= 0


def test_a_mirrored_volume_and_another_patient_score_clearly_worse(phantom: Phantom) -> None:
    truth, body = phantom.volume.hu, phantom.structures["body"]
    spacing = (12.0, 12.0, 12.0)
    reference = Volume.centred(truth, spacing)
    near = full_metrics(Volume.centred(noisy(truth, scale=30), spacing), reference, body=body, beams=BEAMS)
    other = thorax_phantom(32, 12.0, parameters=OTHER).volume.hu
    for wrong in (np.ascontiguousarray(truth[..., ::-1]), other):
        far = full_metrics(Volume.centred(wrong, spacing), reference, body=body, beams=BEAMS)
        # Not the slice means, see the next test.
        for name in ("psnr_2500_db", "psnr_synthrad_db"):
            assert far[name] < near[name] - 3, name
        assert far["mae_body_hu"] > 2 * near["mae_body_hu"]
        assert far["projection_pa"] > 2 * near["projection_pa"]
        assert far["ms_ssim_3d"] < near["ms_ssim_3d"]


def test_slice_means_prefer_a_mirrored_chest_to_a_noisy_true_one(phantom: Phantom) -> None:
    """Slices of empty air without noise count 100 dB each: why a slice mean is no headline."""
    truth = phantom.volume.hu
    near, mirrored = noisy(truth, scale=30), np.ascontiguousarray(truth[..., ::-1])
    good, wrong = psnr_conventions(near, truth), psnr_conventions(mirrored, truth)
    assert good["psnr_2500_db"] > wrong["psnr_2500_db"] + 10
    assert good["psnr_x2ct_slices_db"] < wrong["psnr_x2ct_slices_db"]


def test_a_constant_prediction_gives_the_stated_floor() -> None:
    """Against a constant the best PSNR is that of the standard deviation, and SSIM has no structure to find."""
    truth = random_truth((14, 14, 14))
    mean = float(truth.mean())
    constant = np.full_like(truth, mean)
    assert psnr_volumetric(constant, truth) == pytest.approx(20 * math.log10(2500 / truth.std()), abs=1e-3)
    assert psnr_volumetric(constant + 100, truth) < psnr_volumetric(constant, truth)
    assert similarities(constant, truth)["ssim_unit_3d"] < 0.05


def test_another_convention_has_another_label() -> None:
    words = [metric.convention for name, metric in CATALOGUE.items() if name.startswith("psnr_")]
    labels = [metric.label for name, metric in CATALOGUE.items() if name.startswith("psnr_")]
    assert len(set(words)) == len(set(labels)) == 5
    assert all("peak" in label for label in labels)


def test_unusable_input_is_refused() -> None:
    truth = random_truth((8, 8, 8))
    with pytest.raises(InputError, match="boolean mask"):
        psnr_synthrad(truth, truth, body=np.zeros(truth.shape, bool))
    with pytest.raises(InputError, match="boolean mask"):
        tissue_errors(truth, truth, body=np.ones((2, 2, 2), bool))
    with pytest.raises(InputError, match="at least 7"):
        similarities(truth[:5], truth[:5])
    with pytest.raises(InputError, match="one shape"):
        projection_errors(truth, truth[:5], spacing_mm=1.0, beams=BEAMS)
