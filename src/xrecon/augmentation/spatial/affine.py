"""Pose and size of the patient in the frame: turned, scaled and shifted, never mirrored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from xrecon.augmentation.random_streams import log_uniform, signed
from xrecon.augmentation.ranges import PositiveRange, step_probability
from xrecon.augmentation.spatial.deformation import ChestDeformation
from xrecon.augmentation.steps import Draws
from xrecon.config import Config


class AffineSettings(Config):
    """Pose and size of the patient in the frame."""

    probability: float = step_probability(0.9)
    rotation_deg: float = Field(default=5.0, ge=0, le=20, description="Largest turn about each axis, degrees.")
    scale: PositiveRange = Field(default=(0.88, 1.10), description="Size of the whole patient, log-uniform.")
    axis_scale: float = Field(default=0.06, ge=0, le=0.3, description="Largest further change of one axis, share.")
    shift_mm: float = Field(default=12.0, ge=0, le=60, description="Largest displacement along each axis, mm.")


def draw_affine(
    deformation: ChestDeformation, settings: AffineSettings, rng: np.random.Generator, *, frame_mm: float
) -> tuple[ChestDeformation, Draws]:
    """The deformation with turns about the three axes, sizes along them and a shift as its affine part.

    The determinant is positive by construction.
    """
    del frame_mm  # an affine map has no scale of its own
    angles = [signed(rng, settings.rotation_deg) for _ in range(3)]
    size = log_uniform(rng, settings.scale)
    axes = [1.0 + signed(rng, settings.axis_scale) for _ in range(3)]
    shift = [signed(rng, settings.shift_mm) for _ in range(3)]
    forward = _rotation(angles) @ np.diag([size * axis for axis in axes])
    draws = {"rotation_deg": angles, "scale": size, "axis_scale": axes, "shift_mm": shift}
    matrix: NDArray[np.float64] = np.asarray(np.linalg.inv(forward), dtype=np.float64)
    return replace(deformation, matrix=matrix, shift_mm=np.asarray(shift, dtype=np.float64)), draws


def _rotation(angles_deg: list[float]) -> NDArray[np.float64]:
    """Turns about the axes D, H, W, one after the other."""
    total = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(angles_deg)):
        turn = np.eye(3)
        i, j = (k for k in range(3) if k != axis)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        total = turn @ total
    return total
