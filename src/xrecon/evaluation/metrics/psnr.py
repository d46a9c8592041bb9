"""Every convention of PSNR that published tables of this field use, each by its own name, in dB.

For one pair of volumes they read many dB apart (`docs/evaluation.md`), so a value never travels without the name of
its convention, which `PSNR_METRICS` says in words.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.evaluation.metrics.image import PEAK_HU, WINDOW_HU, check_pair, psnr_volumetric
from xrecon.evaluation.metrics.metric import Metric

ZERO_ERROR_DB = 100.0
"""What a slice without any error counts in the slice means of the X2CT line: an arbitrary figure."""

X2CT_PEAK = 4095.0
"""Peak of the X2CT test script, on integers 0..2500."""

SYNTHRAD_PEAK_HU = 4000.0
"""Peak of the SynthRAD challenge."""

PSNR_METRICS: tuple[Metric, ...] = (
    Metric(
        "psnr_unit_db", "PSNR, volumetric, peak 1 on [0, 1]", "dB", 2, higher_is_better=True, region="whole volume",
        convention="PSNR, dB = -10 log10 MSE over the whole volume on (HU + 1024) / 2500 clipped to 0..1, peak 1.0: "
        "the number of psnr_2500_db, and the `true 3D` form of X-Recon's metrics module.",
    ),
    Metric(
        "psnr_xrecon_slices_db", "PSNR, slice mean, peak 1 (X-Recon)", "dB", 2,
        higher_is_better=True, region="slices of the whole volume",
        convention="PSNR, dB, peak 1.0 on the range 0..1, one value per slice, mean over the slices of each of the "
        "three directions, then over the directions; slices without any error count 100 dB (X-Recon's metrics module).",
    ),
    Metric(
        "psnr_x2ct_slices_db", "PSNR, slice mean, peak 4095 (X2CT)", "dB", 2,
        higher_is_better=True, region="slices of the whole volume", headline=2,
        convention="PSNR, dB, as X-Recon's slice mean but on integers 0..2500 with peak 4095 (X2CT-GAN's test script): "
        "about 4.29 dB more for the same volumes. Not comparable with any volumetric value.",
    ),
    Metric(
        "psnr_synthrad_db", "PSNR, body, peak 4000 HU (SynthRAD)", "dB", 2, higher_is_better=True, region="body",
        convention="PSNR, dB = 20 log10(4000 / RMSE) inside the body mask, values not clipped, peak 4000 HU (SynthRAD "
        "challenge).",
    ),
)  # fmt: skip
"""The conventions of `psnr_conventions` beside `psnr_2500_db`, which is one of the image metrics."""


def psnr_conventions(
    estimate_hu: NDArray[np.floating[Any]],
    truth_hu: NDArray[np.floating[Any]],
    *,
    body: NDArray[np.bool_] | None = None,
) -> dict[str, float | None]:
    """Name -> dB under every convention; [D, H, W] HU each. Infinite for identical volumes, where nothing caps it.

    `psnr_synthrad_db` is None without a body mask.

    Raises:
        InputError: shapes differ, values are not finite, or the mask is not boolean or marks no voxel.
    """
    return {
        "psnr_2500_db": psnr_volumetric(estimate_hu, truth_hu),
        "psnr_unit_db": psnr_unit(estimate_hu, truth_hu),
        "psnr_xrecon_slices_db": psnr_slices(unit_range(estimate_hu), unit_range(truth_hu), peak=1.0),
        "psnr_x2ct_slices_db": psnr_slices(integers(estimate_hu), integers(truth_hu), peak=X2CT_PEAK),
        "psnr_synthrad_db": None if body is None else psnr_synthrad(estimate_hu, truth_hu, body=body),
    }


def unit_range(hu: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """(HU + 1024) / 2500, clipped to 0..1: the range in which the networks work."""
    return np.asarray((np.clip(hu, *WINDOW_HU).astype(np.float64) - WINDOW_HU[0]) / PEAK_HU)


def integers(hu: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The same as whole numbers 0..2500, cut off as the conversion to an integer does."""
    # Float noise must not turn a whole number of HU into the next lower one.
    return np.floor(unit_range(hu) * PEAK_HU + 1e-6)


def psnr_unit(estimate_hu: NDArray[np.floating[Any]], truth_hu: NDArray[np.floating[Any]]) -> float:
    """PSNR of the whole volume on the network range, peak 1: the number of `psnr_2500_db`, computed the other way.

    Raises:
        InputError: shapes differ, or values are not finite.
    """
    check_pair(estimate_hu, truth_hu)
    return _decibel(float(np.mean(np.square(unit_range(estimate_hu) - unit_range(truth_hu)))), 1.0)


def psnr_slices(estimate: NDArray[np.float64], truth: NDArray[np.float64], *, peak: float) -> float:
    """Mean over the slices of one direction, then over the three directions; a slice without error counts 100 dB.

    Both [D, H, W], in units of `peak`. The mean of logarithms lies above the logarithm of the mean, and a few slices of
    empty air raise it at will: that is why this number and a volumetric one can't be compared.

    Raises:
        InputError: shapes differ, or values are not finite.
    """
    check_pair(estimate, truth)
    square = np.square(estimate - truth)
    means = []
    for axes in ((1, 2), (0, 2), (0, 1)):
        error = square.mean(axis=axes)
        empty = error == 0
        decibel = 10 * np.log10(peak**2 / np.where(empty, 1.0, error))
        means.append(float(np.where(empty, ZERO_ERROR_DB, decibel).mean()))
    return sum(means) / 3


def psnr_synthrad(
    estimate_hu: NDArray[np.floating[Any]], truth_hu: NDArray[np.floating[Any]], *, body: NDArray[np.bool_]
) -> float:
    """PSNR inside the body, peak 4000 HU, values not clipped. [D, H, W] each.

    Raises:
        InputError: shapes differ, values are not finite, or the mask is not boolean or marks no voxel.
    """
    check_pair(estimate_hu, truth_hu)
    if body.dtype != np.bool_ or body.shape != truth_hu.shape or not body.any():
        raise InputError(
            f"the body must be a boolean mask of shape {truth_hu.shape} with at least one voxel, got {body.dtype} "
            f"{body.shape} with {int(np.count_nonzero(body))}"
        )
    difference = np.subtract(estimate_hu[body], truth_hu[body], dtype=np.float64)
    return _decibel(float(np.mean(np.square(difference))), SYNTHRAD_PEAK_HU)


def _decibel(mean_square: float, peak: float) -> float:
    return math.inf if mean_square == 0 else 10 * math.log10(peak**2 / mean_square)
