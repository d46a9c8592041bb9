"""Smooth deformation of the chest by cubic B-splines, weakened until nothing folds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydantic import Field

from xrecon.augmentation.random_streams import uniform
from xrecon.augmentation.ranges import Range, step_probability
from xrecon.augmentation.spatial.deformation import ChestDeformation, voxel_places
from xrecon.augmentation.steps import Draws
from xrecon.config import Config

_TRIES = 6
_CHECKED = 48
"""Places per edge of the cube at which the compression is checked."""


class ElasticSettings(Config):
    """Smooth deformation: cubic B-splines on a coarse grid of control points."""

    probability: float = step_probability(0.7)
    knot_mm: float = Field(default=64.0, ge=24, le=200, description="Distance of the control points, mm.")
    amplitude_mm: Range = Field(
        default=(2.0, 10.0), description="Standard deviation of the control points' displacement, mm."
    )
    least_jacobian: float = Field(
        default=0.4,
        gt=0,
        lt=1,
        description="Smallest local volume change allowed; the amplitude is reduced until it is kept.",
    )


def draw_elastic(
    deformation: ChestDeformation, settings: ElasticSettings, rng: np.random.Generator, *, frame_mm: float
) -> tuple[ChestDeformation, Draws]:
    """A smooth displacement on top; reduced until no place is compressed below `least_jacobian` of the affine map."""
    count = int(np.ceil(frame_mm / settings.knot_mm)) + 3
    amplitude = uniform(rng, settings.amplitude_mm)
    knots = rng.standard_normal((3, count, count, count)).astype(np.float32)
    places = voxel_places(_CHECKED, frame_mm)
    affine_change = float(np.linalg.det(deformation.matrix))
    for _ in range(_TRIES):
        candidate = replace(deformation, knots_mm=knots * np.float32(amplitude), knot_mm=settings.knot_mm)
        change = candidate.jacobian(places) / affine_change
        least = float(min(change.min(), 1.0 / change.max()))
        if least >= settings.least_jacobian:
            return candidate, {"amplitude_mm": amplitude, "least_jacobian": least}
        amplitude *= 0.6
    return deformation, {"amplitude_mm": 0.0, "least_jacobian": 1.0}
