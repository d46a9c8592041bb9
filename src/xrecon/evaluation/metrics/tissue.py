"""Errors by tissue, and errors of the films that a reconstruction would give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.evaluation.metrics.image import bias_hu, mae_hu
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
    found: dict[str, float | None] = {}
    for name, (low, high) in TISSUES.items():
        mask = body & (truth_hu >= low) & (truth_hu < high)
        some = bool(mask.any())
        found[f"mae_{name}_hu"] = mae_hu(estimate_hu, truth_hu, mask=mask) if some else None
        found[f"bias_{name}_hu"] = bias_hu(estimate_hu, truth_hu, mask=mask) if some else None
    return found


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
    both = torch.from_numpy(np.stack([estimate_hu, truth_hu]).astype(np.float32))[:, None]
    films = project(hu_to_mu(both), spacing_mm, beams).double().numpy()
    found: dict[str, float | None] = {}
    for index, name in enumerate(("projection_pa", "projection_lateral")):
        spread = float(films[1, index].std())
        error = float(np.sqrt(np.mean(np.square(films[0, index] - films[1, index]))))
        found[name] = error / spread if spread > 0 else None
    return found
