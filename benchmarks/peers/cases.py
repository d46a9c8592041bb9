"""The geometries of the projector benchmark, and a smooth phantom whose line integrals are known exactly.

Positions are in (d, h, w) mm from the volume's centre: head to feet, front to back, right to left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import erf
from torch import Tensor

from xrecon.geometry import ConeBeam
from xrecon.projector.rays import RayFrame, ray_frame

Array = NDArray[np.float64]

_DETECTOR_MM = 373.76


@dataclass(frozen=True)
class Case:
    """One volume grid and one view.

    Attributes:
        name: for the table.
        size: voxels per edge of the cube.
        spacing_mm: voxel pitch.
        view: geometry of the film.
        forward_target: times faster than RTK that the forward projection must be (the project's own goal).
        both_target: the same for forward and backward together; None: no goal.
    """

    name: str
    size: int
    spacing_mm: float
    view: ConeBeam
    forward_target: float
    both_target: float | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels (D, H, W)."""
        return self.size, self.size, self.size

    @property
    def frame(self) -> RayFrame:
        """Source, first pixel and pixel steps in (d, h, w) mm."""
        return ray_frame(self.view)

    def reduced(self, factor: int) -> Case:
        """The same set-up with voxels and pixels `factor` times as large, for a quick try."""
        rows, cols = self.view.detector_shape
        return replace(
            self,
            size=self.size // factor,
            spacing_mm=self.spacing_mm * factor,
            view=self.view.with_detector((rows // factor, cols // factor)),
        )


def _view(pixels: int, *, angle: float, tilt: float = 0.0, roll: float = 0.0, moved: bool = True) -> ConeBeam:
    return ConeBeam(
        source_to_isocentre_mm=400.0,
        source_to_detector_mm=700.0,
        detector_shape=(pixels, pixels),
        pixel_mm=(_DETECTOR_MM / pixels, _DETECTOR_MM / pixels),
        angle_deg=angle,
        tilt_deg=tilt,
        roll_deg=roll,
        translation_mm=(6.0, -5.0, 8.0) if moved else (0.0, 0.0, 0.0),
    )


CASES: Sequence[Case] = (
    Case("tilted frontal", 224, 1.6, _view(128, angle=7.0, tilt=-9.0, roll=11.0), 3.0, 7.0),
    Case("tilted sagittal", 224, 1.6, _view(128, angle=97.0, tilt=-9.0, roll=11.0), 2.0, 4.0),
    Case("tilted axial", 224, 1.6, _view(128, angle=7.0, tilt=81.0, roll=11.0), 3.0, 7.0),
    Case("aligned frontal", 224, 1.6, _view(128, angle=0.0, moved=False), 6.0, None),
    Case("aligned lateral", 224, 1.6, _view(128, angle=90.0, moved=False), 6.0, None),
    Case("large frontal", 256, 1.4, _view(512, angle=7.0, tilt=-9.0, roll=11.0), 5.0, 5.0),
)


@dataclass(frozen=True)
class Blob:
    """mu(x) = peak exp(-|x - centre|^2 / (2 sigma^2)), 1/mm."""

    centre_mm: tuple[float, float, float]
    sigma_mm: float
    peak_per_mm: float


PHANTOM: Sequence[Blob] = (
    Blob((4.0, -6.0, 9.0), 40.0, 0.012),
    Blob((-30.0, 12.0, -25.0), 34.0, 0.008),
    Blob((28.0, -20.0, 30.0), 34.0, 0.006),
)
"""Chest-sized, as good as zero at the faces of the cube (358 mm wide)."""


def phantom_volume(case: Case) -> Tensor:
    """Mean mu of the phantom over every voxel, [D, H, W] float32, 1/mm."""
    edges = (np.arange(case.size + 1) - case.size / 2) * case.spacing_mm
    total = np.zeros(case.shape)
    for blob in PHANTOM:
        width = blob.sigma_mm * math.sqrt(2.0)
        # The mean over a voxel is a product of three one-dimensional means.
        d, h, w = (
            np.diff(erf((edges - centre) / width)) * blob.sigma_mm * math.sqrt(math.pi / 2) / case.spacing_mm
            for centre in blob.centre_mm
        )
        total += blob.peak_per_mm * d[:, None, None] * h[None, :, None] * w[None, None, :]
    return torch.from_numpy(total.astype(np.float32))


def phantom_film(case: Case) -> Array:
    """Exact line integrals of the phantom within the cube, [rows, cols]; the rays are those of the case's view."""
    frame = case.frame
    source = frame.source.numpy()
    ray = frame.pixels(*case.view.detector_shape).numpy() - source
    length = np.linalg.norm(ray, axis=-1)
    direction = ray / length[..., None]
    half = case.size * case.spacing_mm / 2
    safe = np.where(np.abs(direction) < 1e-12, 1e-12, direction)
    faces = np.stack([(-half - source) / safe, (half - source) / safe])
    enter = np.maximum(faces.min(axis=0).max(axis=-1), 0.0)
    leave = np.maximum(np.minimum(faces.max(axis=0).min(axis=-1), length), enter)
    film = np.zeros(length.shape)
    for blob in PHANTOM:
        towards = np.asarray(blob.centre_mm) - source
        nearest = direction @ towards
        distance2 = np.sum((towards - nearest[..., None] * direction) ** 2, axis=-1)
        width = blob.sigma_mm * math.sqrt(2.0)
        along = (
            blob.sigma_mm * math.sqrt(math.pi / 2) * (erf((leave - nearest) / width) - erf((enter - nearest) / width))
        )
        film += blob.peak_per_mm * np.exp(-distance2 / width**2) * along
    return film
