"""All metrics by name: what each one is in words, how people read it, and one function that computes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from xrecon.evaluation.metrics.image import CONVENTIONS, DISPLAY, image_metrics
from xrecon.evaluation.metrics.psnr import psnr_conventions
from xrecon.evaluation.metrics.similarity import similarities
from xrecon.evaluation.metrics.tissue import TISSUES, projection_errors, tissue_errors
from xrecon.geometry import ConeBeam
from xrecon.volume import Volume


def _bands() -> dict[str, str]:
    """What the tissue metrics are, from the bands themselves."""
    words = {}
    for name, (low, high) in TISSUES.items():
        limits = f"{'below' if low == -np.inf else f'{low:g} to'} {'' if high == np.inf else f'{high:g}'}".strip()
        limits = f"from {low:g}" if high == np.inf else limits
        region = f"over the voxels of the body whose true value is {limits} HU; values not clipped."
        words[f"mae_{name}_hu"] = f"MAE, HU = mean |estimate - truth| {region}"
        words[f"bias_{name}_hu"] = f"Bias, HU = mean (estimate - truth) {region}"
    return words


_MORE = {
    "psnr_unit_db": (
        "PSNR, dB = -10 log10 MSE over the whole volume on (HU + 1024) / 2500 clipped to 0..1, peak 1.0: the number of "
        "psnr_2500_db, and the `true 3D` form of X-Recon's metrics module."
    ),
    "psnr_xrecon_slices_db": (
        "PSNR, dB, peak 1.0 on the range 0..1, one value per slice, mean over the slices of each of the three "
        "directions, then over the directions; slices without any error count 100 dB (X-Recon's metrics module)."
    ),
    "psnr_x2ct_slices_db": (
        "PSNR, dB, as X-Recon's slice mean but on integers 0..2500 with peak 4095 (X2CT-GAN's test script): about "
        "4.29 dB more for the same volumes. Not comparable with any volumetric value."
    ),
    "psnr_synthrad_db": (
        "PSNR, dB = 20 log10(4000 / RMSE) inside the body mask, values not clipped, peak 4000 HU (SynthRAD challenge)."
    ),
    "ssim_unit_3d": (
        "SSIM in 3D as ssim_3d, but on (HU + 1024) / 2500 clipped to 0..1 with data range 1.0: the range on which the "
        "literature computes it. SSIM changes when both volumes are shifted, so this is another number than ssim_3d."
    ),
    "ssim_x2ct_slices": (
        "SSIM per slice: uniform 7x7 window, sample covariance, K1 = 0.01, K2 = 0.03, data range 1.0 on 0..1, mean "
        "over the slices of each direction, then over the three directions (X2CT-GAN and X-Recon metrics modules)."
    ),
    "ms_ssim_3d": (
        "Multi-scale SSIM (Wang, Simoncelli and Bovik, Asilomar 2003) in 3D: 7x7x7 window, scales by 2x2x2 means, "
        "published weights; as many of the five scales as leave 7 voxels per edge, the weights normalised to 1."
    ),
    "cosine": "Cosine similarity of the flattened volumes on 0..1: a.b / (|a| |b|). Blind to a common factor.",
    **_bands(),
    "projection_pa": (
        "RMS difference of the PA films of estimate and truth (line integrals of the cube), over the standard "
        "deviation of the true film. 0 is perfect. Nearly blind to what lies along the rays: never read it alone."
    ),
    "projection_lateral": "The same of the lateral films.",
}

CATALOGUE: Mapping[str, str] = MappingProxyType({**CONVENTIONS, **_MORE})
"""Metric name -> formula, unit, region and source, one line."""

CATALOGUE_DISPLAY: Mapping[str, tuple[str, str, int]] = MappingProxyType(
    {
        **DISPLAY,
        "psnr_unit_db": ("PSNR, volumetric, peak 1 on [0, 1]", "dB", 2),
        "psnr_xrecon_slices_db": ("PSNR, slice mean, peak 1 (X-Recon)", "dB", 2),
        "psnr_x2ct_slices_db": ("PSNR, slice mean, peak 4095 (X2CT)", "dB", 2),
        "psnr_synthrad_db": ("PSNR, body, peak 4000 HU (SynthRAD)", "dB", 2),
        "ssim_unit_3d": ("SSIM, 3D, on [0, 1]", "", 4),
        "ssim_x2ct_slices": ("SSIM, slice mean of 3 directions (X2CT)", "", 4),
        "ms_ssim_3d": ("Multi-scale SSIM, 3D", "", 4),
        "cosine": ("Cosine similarity", "", 4),
        **{
            f"{kind}_{name}_hu": (f"{word}, {name if name != 'soft' else 'soft tissue'}", "HU", 1)
            for name in TISSUES
            for kind, word in (("mae", "MAE"), ("bias", "Bias"))
        },
        "projection_pa": ("PA film error", "", 3),
        "projection_lateral": ("Lateral film error", "", 3),
    }
)
"""Metric name -> (label, unit, decimals) for people."""

HIGHER_IS_BETTER = ("psnr_", "ssim_", "ms_ssim", "cosine", "dice", "iou", "nsd")
"""How the names of metrics begin, or their last part, of which more is better; less is better of all others."""


def full_metrics(
    estimate: Volume,
    truth: Volume,
    *,
    body: NDArray[np.bool_] | None = None,
    beams: Sequence[ConeBeam] | None = None,
) -> dict[str, float | None]:
    """Every metric of `CATALOGUE`, in its order; None where it could not be measured.

    Args:
        estimate: HU on the grid of the truth.
        truth: HU.
        body: [D, H, W] bool; None leaves out what needs it.
        beams: geometry of the two films, relative to the volume's centre; None leaves out the projection errors.

    Raises:
        InputError: as `image_metrics`.
    """
    found: dict[str, float | None] = dict.fromkeys(CATALOGUE)
    found.update(image_metrics(estimate, truth, body=body).to_dict())
    found.update(psnr_conventions(estimate.hu, truth.hu, body=body))
    found.update(similarities(estimate.hu, truth.hu))
    if body is not None:
        found.update(tissue_errors(estimate.hu, truth.hu, body=body))
    if beams is not None:
        found.update(projection_errors(estimate.hu, truth.hu, spacing_mm=truth.spacing_mm, beams=beams))
    return found
