"""Structural similarity in three forms (3D, means over slices, several scales) and cosine similarity.

The values are those of scikit-image on the network range 0..1 with an explicit data range; on HU, as
`xrecon.evaluation.metrics.image.ssim_3d`, the luminance term reads otherwise, since SSIM is not free to be shifted.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.evaluation.metrics.image import check_pair
from xrecon.evaluation.metrics.metric import Metric
from xrecon.evaluation.metrics.psnr import unit_range
from xrecon.evaluation.metrics.ssim_window import SSIM_WINDOW, window_ssim

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the scales, finest first (Wang, Simoncelli and Bovik, Asilomar 2003)."""

Floats = NDArray[np.float64]

SIMILARITY_METRICS: tuple[Metric, ...] = (
    Metric(
        "ssim_unit_3d", "SSIM, 3D, on [0, 1]", "", 4,
        higher_is_better=True, region="whole volume", headline=3, tested=True,
        convention="SSIM in 3D as ssim_3d, but on (HU + 1024) / 2500 clipped to 0..1 with data range 1.0: the range on "
        "which the literature computes it. SSIM changes when both volumes are shifted, so this is another number than "
        "ssim_3d.",
    ),
    Metric(
        "ssim_x2ct_slices", "SSIM, slice mean of 3 directions (X2CT)", "", 4,
        higher_is_better=True, region="slices of the whole volume",
        convention="SSIM per slice: uniform 7x7 window, sample covariance, K1 = 0.01, K2 = 0.03, data range 1.0 on "
        "0..1, mean over the slices of each direction, then over the three directions (X2CT-GAN and X-Recon metrics "
        "modules).",
    ),
    Metric(
        "ms_ssim_3d", "Multi-scale SSIM, 3D", "", 4, higher_is_better=True, region="whole volume",
        convention="Multi-scale SSIM (Wang, Simoncelli and Bovik, Asilomar 2003) in 3D: 7x7x7 window, scales by 2x2x2 "
        "means, published weights; as many of the five scales as leave 7 voxels per edge, the weights normalised to 1.",
    ),
    Metric(
        "cosine", "Cosine similarity", "", 4, higher_is_better=True, region="whole volume",
        convention="Cosine similarity of the flattened volumes on 0..1: a.b / (|a| |b|). Blind to a common factor.",
    ),
)  # fmt: skip
"""The metrics of `similarities`."""


def similarities(
    estimate_hu: NDArray[np.floating[Any]], truth_hu: NDArray[np.floating[Any]]
) -> dict[str, float | None]:
    """`ssim_unit_3d`, `ssim_x2ct_slices`, `ms_ssim_3d` and `cosine` of two [D, H, W] volumes in HU.

    `ms_ssim_3d` is None below 14 voxels per edge, where there is no second scale.

    Raises:
        InputError: shapes differ, values are not finite, or an axis is shorter than the window of 7 voxels.
    """
    check_pair(estimate_hu, truth_hu)
    if min(truth_hu.shape) < SSIM_WINDOW:
        raise InputError(f"SSIM needs at least {SSIM_WINDOW} voxels along each axis, got shape {truth_hu.shape}")
    a, b = unit_range(estimate_hu), unit_range(truth_hu)
    return {
        "ssim_unit_3d": window_ssim(a, b)[0],
        "ssim_x2ct_slices": sum(window_ssim(a, b, axes=axes)[0] for axes in ((1, 2), (0, 2), (0, 1))) / 3,
        "ms_ssim_3d": _multi_scale(a, b),
        "cosine": _cosine(a, b),
    }


def _cosine(a: Floats, b: Floats) -> float | None:
    """a.b / (|a| |b|) of the flattened volumes; None where one is all zero (vacuum everywhere)."""
    length = math.sqrt(float(np.vdot(a, a))) * math.sqrt(float(np.vdot(b, b)))
    return float(np.vdot(a, b)) / length if length > 0 else None


def _multi_scale(a: Floats, b: Floats) -> float | None:
    scales = min(len(MS_SSIM_WEIGHTS), 1 + int(math.log2(min(a.shape) / SSIM_WINDOW)))
    if scales < 2:
        return None
    total = sum(MS_SSIM_WEIGHTS[:scales])
    product = 1.0
    for scale in range(scales):
        whole, structure = window_ssim(a, b)
        part = whole if scale == scales - 1 else structure
        # A negative mean has no real power: such volumes are unlike, and 0 says so.
        product *= max(part, 0.0) ** (MS_SSIM_WEIGHTS[scale] / total)
        a, b = _halved(a), _halved(b)
    return product


def _halved(values: Floats) -> Floats:
    """Means of 2 x 2 x 2 voxels; an odd last layer is dropped."""
    d, h, w = (n // 2 for n in values.shape)
    return np.asarray(values[: 2 * d, : 2 * h, : 2 * w].reshape(d, 2, h, 2, w, 2).mean(axis=(1, 3, 5)))
