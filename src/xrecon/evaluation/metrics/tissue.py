"""Errors by tissue, and errors of the films that a reconstruction would give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.evaluation.metrics.image import bias_hu, mae_hu
from xrecon.evaluation.metrics.metric import Metric
from xrecon.geometry import ConeBeam
from xrecon.projector.attenuation import hu_to_mu
from xrecon.projector.operator import project

TISSUES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "air": (-np.inf, -930.0),
        "lung": (-930.0, -400.0),
        "fat": (-150.0, -30.0),
        "soft": (-30.0, 130.0),
        "bone": (200.0, np.inf),
    }
)
"""Tissue -> HU of the truth, from (included) to (not included), inside the body. The gaps between lung and fat and
between soft tissue and bone hold the partial volume of their edges and belong to no tissue."""


def _tissue_metrics() -> Iterator[Metric]:
    """MAE and bias of each of `TISSUES`; their conventions state the band itself."""
    for name, (low, high) in TISSUES.items():
        limits = f"{'below' if low == -np.inf else f'{low:g} to'} {'' if high == np.inf else f'{high:g}'}".strip()
        limits = f"from {low:g}" if high == np.inf else limits
        voxels = f"over the voxels of the body whose true value is {limits} HU; values not clipped."
        words = "soft tissue" if name == "soft" else name
        yield Metric(
            f"mae_{name}_hu", f"MAE, {words}", "HU", 1, higher_is_better=False, region=words,
            convention=f"MAE, HU = mean |estimate - truth| {voxels}",
        )  # fmt: skip
        yield Metric(
            f"bias_{name}_hu", f"Bias, {words}", "HU", 1, higher_is_better=None, region=words,
            convention=f"Bias, HU = mean (estimate - truth) {voxels}",
        )  # fmt: skip


TISSUE_METRICS: tuple[Metric, ...] = tuple(_tissue_metrics())
"""The metrics of `tissue_errors`."""

PROJECTION_METRICS: tuple[Metric, ...] = (
    Metric(
        "projection_pa", "PA film error", "", 3, higher_is_better=False, region="PA film",
        convention="RMS difference of the PA films of estimate and truth (line integrals of the cube), over the "
        "standard deviation of the true film. 0 is perfect. Nearly blind to what lies along the rays: never read it "
        "alone.",
    ),
    Metric(
        "projection_lateral", "Lateral film error", "", 3, higher_is_better=False, region="lateral film",
        convention="The same of the lateral films.",
    ),
)  # fmt: skip
"""The metrics of `projection_errors`, in the order of the films."""


def tissue_errors(
    estimate_hu: NDArray[np.floating[Any]], truth_hu: NDArray[np.floating[Any]], *, body: NDArray[np.bool_]
) -> dict[str, float | None]:
    """`mae_<tissue>_hu` and `bias_<tissue>_hu` for each of `TISSUES`; None where the truth holds none of it.

    Args:
        estimate_hu: HU [D, H, W].
        truth_hu: HU [D, H, W].
        body: [D, H, W] bool.

    Raises:
        InputError: shapes differ, values are not finite, or the mask is not boolean.
    """
    if body.dtype != np.bool_ or body.shape != truth_hu.shape:
        raise InputError(f"the body must be a boolean mask of shape {truth_hu.shape}, got {body.dtype} of {body.shape}")
    errors: dict[str, float | None] = {}
    for name, (low, high) in TISSUES.items():
        mask = body & (truth_hu >= low) & (truth_hu < high)
        some = bool(mask.any())
        errors[f"mae_{name}_hu"] = mae_hu(estimate_hu, truth_hu, mask=mask) if some else None
        errors[f"bias_{name}_hu"] = bias_hu(estimate_hu, truth_hu, mask=mask) if some else None
    return errors


def projection_errors(
    estimate_hu: NDArray[np.floating[Any]],
    truth_hu: NDArray[np.floating[Any]],
    *,
    spacing_mm: float | Sequence[float],
    beams: Sequence[ConeBeam],
) -> dict[str, float | None]:
    """`projection_pa` and `projection_lateral`: RMS difference of the films of both volumes over the truth's own SD.

    Both volumes are projected here, so that only what lies in the cube counts; 0 is perfect, 1 as bad as a constant
    film of the right mean.

    Args:
        estimate_hu: HU [D, H, W], centred at the isocentre.
        truth_hu: HU [D, H, W], the same grid.
        spacing_mm: voxel pitch.
        beams: geometry of the PA and the lateral film, with one detector shape.

    Raises:
        InputError: shapes differ.
        GeometryError: as `project`.
    """
    if estimate_hu.shape != truth_hu.shape:
        raise InputError(f"expected two volumes of one shape, got {estimate_hu.shape} and {truth_hu.shape}")
    pair = torch.from_numpy(np.stack([estimate_hu, truth_hu]).astype(np.float32))[:, None]
    films = project(hu_to_mu(pair), spacing_mm, beams).double().numpy()
    errors: dict[str, float | None] = {}
    for index, metric in enumerate(PROJECTION_METRICS):
        spread = float(films[1, index].std())
        error = float(np.sqrt(np.mean(np.square(films[0, index] - films[1, index]))))
        errors[metric.name] = error / spread if spread > 0 else None
    return errors
