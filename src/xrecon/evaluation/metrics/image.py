"""Image metrics of a synthetic CT against the true one, in HU, each with its convention in words.

PSNR is not one metric in this field: for the same pair of volumes the peak (2500 or 4095), the averaging (whole
volume or slices) and the clipping move it by many dB (`docs/evaluation.md`). Each number here therefore has a
convention in words, to be printed below any table that shows it.

`image_metrics` is public and takes the true volume first. The functions of the single metrics take the estimate first:
errors are estimate minus truth.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.evaluation.metrics.metric import Metric
from xrecon.evaluation.metrics.ssim_window import SSIM_WINDOW, window_ssim
from xrecon.volume import Volume

WINDOW_HU = (-1024.0, 1476.0)
"""The range of the networks, (HU + 1024) / 2500 in 0..1, in HU (`docs/geometry-and-conventions.md`)."""

PEAK_HU = 2500.0
"""Width of `WINDOW_HU`."""

PEAK_4095_OFFSET_DB = 20 * math.log10(4095 / PEAK_HU)
"""What a peak of 4095 on the same 2500 HU range adds, as in the test script of X2CT-GAN: 4.29 dB."""

IMAGE_METRICS: tuple[Metric, ...] = (
    Metric(
        "psnr_2500_db", "PSNR, volumetric, peak 2500 HU", "dB", 2,
        higher_is_better=True, region="whole volume", headline=1, tested=True,
        convention="PSNR, dB = 20 log10(2500 / RMSE) over the whole volume at once, both volumes clipped to "
        "-1024..1476 HU, peak 2500 HU; equal to peak 1.0 on the network range. Peak 4095 on the same range (X2CT-GAN "
        f"test script) would read {PEAK_4095_OFFSET_DB:.2f} dB more, and means over slices differ again. Higher is "
        "better.",
    ),
    Metric(
        "mae_hu", "MAE, whole volume", "HU", 1, higher_is_better=False, region="whole volume", headline=4,
        convention="MAE, HU = mean |estimate - truth| over all voxels of the volume, values not clipped.",
    ),
    Metric(
        "rmse_hu", "RMSE, whole volume", "HU", 1, higher_is_better=False, region="whole volume",
        convention="RMSE, HU = sqrt(mean (estimate - truth)^2) over all voxels of the volume, values not clipped.",
    ),
    Metric(
        "bias_hu", "Bias, whole volume", "HU", 1, higher_is_better=None, region="whole volume",
        convention="Bias, HU = mean (estimate - truth) over all voxels; positive: the estimate is too dense.",
    ),
    Metric(
        "mae_body_hu", "MAE, inside the body", "HU", 1,
        higher_is_better=False, region="body", headline=5, tested=True,
        convention="MAE, HU = mean |estimate - truth| inside the body mask, values not clipped.",
    ),
    Metric(
        "rmse_body_hu", "RMSE, inside the body", "HU", 1, higher_is_better=False, region="body",
        convention="RMSE, HU = sqrt(mean (estimate - truth)^2) inside the body mask, values not clipped.",
    ),
    Metric(
        "bias_body_hu", "Bias, inside the body", "HU", 1, higher_is_better=None, region="body", headline=6,
        convention="Bias, HU = mean (estimate - truth) inside the body mask; positive: the estimate is too dense.",
    ),
    Metric(
        "ssim_3d", "SSIM, 3D", "", 4, higher_is_better=True, region="whole volume",
        convention="SSIM (Wang et al., IEEE TIP 2004) in 3D: uniform 7x7x7 voxel window, sample covariance (N - 1), "
        "K1 = 0.01, K2 = 0.03, data range 2500 HU, both volumes clipped to -1024..1476 HU, mean over all windows "
        "that lie inside the volume; equals scikit-image with an explicit data_range. 1 is identical.",
    ),
)  # fmt: skip
"""The metrics of `image_metrics`, in the order of its fields."""


@dataclass(frozen=True)
class ImageMetrics:
    """The metrics of one reconstruction; see `IMAGE_METRICS` for the meaning of each.

    Attributes:
        psnr_2500_db: dB; infinite for identical volumes.
        mae_hu: HU, whole volume, 0...
        rmse_hu: HU, whole volume, 0...
        bias_hu: HU, whole volume, estimate minus truth.
        mae_body_hu: HU, inside the body; None without a body mask.
        rmse_body_hu: HU, inside the body; None without a body mask.
        bias_body_hu: HU, inside the body; None without a body mask.
        ssim_3d: -1..1.
    """

    psnr_2500_db: float
    mae_hu: float
    rmse_hu: float
    bias_hu: float
    mae_body_hu: float | None
    rmse_body_hu: float | None
    bias_body_hu: float | None
    ssim_3d: float

    def to_dict(self) -> dict[str, float | None]:
        """Metric name -> value, in the order of `IMAGE_METRICS`."""
        return asdict(self)


def image_metrics(
    true: Volume | NDArray[np.floating[Any]],
    estimate: Volume | NDArray[np.floating[Any]],
    *,
    body: NDArray[np.bool_] | None = None,
) -> ImageMetrics:
    """All image metrics of an estimate against the true CT.

    The true volume comes first here. Inside the package both are passed by keyword, so that they cannot be exchanged.

    Args:
        true: HU [D, H, W], a Volume, an array, or a tensor on the CPU.
        estimate: the same, on the same grid.
        body: [D, H, W] bool, the patient's body in the truth; None leaves the body metrics out (None).

    Raises:
        InputError: shapes differ, values are not finite, the mask is empty, or two Volumes have other voxel sizes or
            directions. Their origins may differ: two films do not know where the scanner put its zero.

    Example:
        >>> true = np.zeros((8, 8, 8))
        >>> image_metrics(true, true + 25.0).bias_hu
        25.0
    """
    if isinstance(estimate, Volume) and isinstance(true, Volume):
        _same_voxels(estimate, true)
    hu = estimate.hu if isinstance(estimate, Volume) else np.asarray(estimate)
    true_hu = true.hu if isinstance(true, Volume) else np.asarray(true)
    return ImageMetrics(
        psnr_2500_db=psnr_volumetric(hu, true_hu),
        mae_hu=mae_hu(hu, true_hu),
        rmse_hu=rmse_hu(hu, true_hu),
        bias_hu=bias_hu(hu, true_hu),
        mae_body_hu=None if body is None else mae_hu(hu, true_hu, mask=body),
        rmse_body_hu=None if body is None else rmse_hu(hu, true_hu, mask=body),
        bias_body_hu=None if body is None else bias_hu(hu, true_hu, mask=body),
        ssim_3d=ssim_3d(hu, true_hu),
    )


def psnr_volumetric(
    estimate_hu: NDArray[np.floating[Any]], truth_hu: NDArray[np.floating[Any]], *, peak_hu: float = PEAK_HU
) -> float:
    """Peak signal-to-noise ratio of the whole volume, dB: 20 log10(peak_hu / RMSE).

    Both [D, H, W] volumes, HU, are clipped to `WINDOW_HU` first, whatever the peak. Identical volumes give infinity.

    Raises:
        InputError: shapes differ, values are not finite, or the peak is not positive.
    """
    if not (math.isfinite(peak_hu) and peak_hu > 0):
        raise InputError(f"the peak of a PSNR must be a positive number of HU, got {peak_hu}")
    check_pair(estimate_hu, truth_hu)
    error = np.clip(estimate_hu, *WINDOW_HU).astype(np.float64) - np.clip(truth_hu, *WINDOW_HU)
    mean_square = float(np.mean(np.square(error)))
    return math.inf if mean_square == 0 else 10 * math.log10(peak_hu**2 / mean_square)


def mae_hu(
    estimate_hu: NDArray[np.floating[Any]],
    truth_hu: NDArray[np.floating[Any]],
    *,
    mask: NDArray[np.bool_] | None = None,
) -> float:
    """Mean absolute error, HU, over the volume or the voxels of `mask` [D, H, W]. Raises InputError as `bias_hu`."""
    return float(np.mean(np.abs(_difference(estimate_hu, truth_hu, mask))))


def rmse_hu(
    estimate_hu: NDArray[np.floating[Any]],
    truth_hu: NDArray[np.floating[Any]],
    *,
    mask: NDArray[np.bool_] | None = None,
) -> float:
    """Root mean square error, HU, over the volume or the voxels of `mask`. Raises InputError as `bias_hu`."""
    return math.sqrt(float(np.mean(np.square(_difference(estimate_hu, truth_hu, mask)))))


def bias_hu(
    estimate_hu: NDArray[np.floating[Any]],
    truth_hu: NDArray[np.floating[Any]],
    *,
    mask: NDArray[np.bool_] | None = None,
) -> float:
    """Mean of estimate minus truth, HU, over the volume or the voxels of `mask`; positive is too dense.

    Raises:
        InputError: shapes differ, values are not finite, or the mask is not boolean or marks no voxel.
    """
    return float(np.mean(_difference(estimate_hu, truth_hu, mask)))


def ssim_3d(
    estimate_hu: NDArray[np.floating[Any]],
    truth_hu: NDArray[np.floating[Any]],
    *,
    data_range_hu: float = PEAK_HU,
) -> float:
    """Structural similarity in 3D, -1..1; [D, H, W] HU, clipped to `WINDOW_HU`; the convention is in `IMAGE_METRICS`.

    The value of scikit-image, in less time and memory (`xrecon.evaluation.metrics.ssim_window`).

    Raises:
        InputError: shapes differ, values are not finite, an axis is shorter than the window of 7 voxels, or the data
            range is not positive.
    """
    check_pair(estimate_hu, truth_hu)
    if not (math.isfinite(data_range_hu) and data_range_hu > 0):
        raise InputError(f"the data range of an SSIM must be a positive number of HU, got {data_range_hu}")
    if min(truth_hu.shape) < SSIM_WINDOW:
        raise InputError(f"SSIM needs at least {SSIM_WINDOW} voxels along each axis, got shape {truth_hu.shape}")
    # SSIM does not change when values and data range are multiplied alike.
    scaled = (np.clip(values, *WINDOW_HU).astype(np.float64) / data_range_hu for values in (estimate_hu, truth_hu))
    return window_ssim(*scaled)[0]


def _difference(
    estimate_hu: NDArray[np.floating[Any]], truth_hu: NDArray[np.floating[Any]], mask: NDArray[np.bool_] | None
) -> NDArray[np.float64]:
    """Estimate minus truth, HU: [D, H, W], or [voxels] of the mask."""
    check_pair(estimate_hu, truth_hu)
    if mask is None:
        return np.asarray(np.subtract(estimate_hu, truth_hu, dtype=np.float64))
    if mask.dtype != np.bool_:
        raise InputError(f"a mask must be boolean, got {mask.dtype}; write mask > 0 to choose labels")
    if mask.shape != truth_hu.shape:
        raise InputError(f"the mask has shape {mask.shape}, the volumes {truth_hu.shape}: bring them to one grid")
    if not mask.any():
        raise InputError("the mask marks no voxel: there is nothing to average over")
    return np.asarray(np.subtract(estimate_hu[mask], truth_hu[mask], dtype=np.float64))


def check_pair(estimate_hu: NDArray[np.floating[Any]], truth_hu: NDArray[np.floating[Any]]) -> None:
    """Raise InputError unless both are finite [D, H, W] arrays of one shape."""
    if estimate_hu.ndim != 3 or estimate_hu.shape != truth_hu.shape:
        raise InputError(
            f"expected two volumes [D, H, W] of one shape, got an estimate of {estimate_hu.shape} and a truth of "
            f"{truth_hu.shape}: resample the truth to the grid of the estimate first"
        )
    for name, values in (("estimate", estimate_hu), ("truth", truth_hu)):
        # The sum is finite if and only if no value is NaN or infinite (HU are far from overflow in double precision).
        if not math.isfinite(float(np.sum(values, dtype=np.float64))):
            raise InputError(f"the {name} holds NaN or infinite values: metrics over it would mean nothing")


def _same_voxels(estimate: Volume, truth: Volume) -> None:
    if not np.allclose(estimate.affine[:3, :3], truth.affine[:3, :3], rtol=0, atol=1e-3):
        raise InputError(
            f"estimate ({estimate!r}) and truth ({truth!r}) differ in voxel size or direction: resample the truth to "
            "the grid of the estimate first"
        )
