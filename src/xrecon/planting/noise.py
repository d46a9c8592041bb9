"""What free air looks like in one particular scan: its level, and the scanner's noise with its grain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xrecon.anatomy.healthy_lungs import ChestAir
from xrecon.anatomy.morphology import Floats, Mask, Spacing, depth_mm, eroded
from xrecon.smoothing import gaussian_smoothed
from xrecon.volume import Volume

_DEFAULT_HU = -985.0
_LEVEL_RANGE = (-1010.0, -930.0)
_MIN_VOXELS = 150
_MAX_SD = 80.0


@dataclass(frozen=True)
class ScanNoise:
    """Noise of a scan in air.

    Attributes:
        air_hu: level of free air, HU.
        sd_hu: standard deviation, HU.
        correlation: between neighbours along D, H, W, 0..1.
        source: where the level and the noise were measured.
    """

    air_hu: float
    sd_hu: float
    correlation: tuple[float, float, float]
    source: str

    def draw(self, shape: tuple[int, int, int], rng: np.random.Generator) -> Floats:
        """Noise [D, H, W] in HU with this deviation and neighbour correlation (Gaussian grain)."""
        noise = rng.standard_normal(shape, dtype=np.float32)
        # White noise under a Gaussian of sigma s has the neighbour correlation exp(-1 / (4 s^2)).
        sigma = [
            np.sqrt(-0.25 / np.log(np.clip(share, 1e-3, 0.97))) if share > 0.02 else 0.0 for share in self.correlation
        ]
        noise = gaussian_smoothed(noise, sigma, wrapped=True)
        return np.asarray(noise * np.float32(self.sd_hu / max(float(noise.std()), 1e-6)), dtype=np.float32)


def measure_noise(ct: Volume, air: ChestAir) -> ScanNoise:
    """Level and noise of air in this scan.

    Level: median of the windpipe's lumen, two voxels from its wall. Noise: residuals against a local mean, there or,
    where the windpipe is too small, in homogeneous soft tissue. (The air round the patient is often clipped or masked.)
    """
    spacing = ct.spacing_mm
    lumen = eroded(air.airway, max(2.0, 1.2 * max(spacing)), spacing)
    level, source = _DEFAULT_HU, "default"
    if lumen.sum() >= 20:
        level, source = float(np.median(ct.hu[lumen])), "windpipe"
    level = float(np.clip(level, *_LEVEL_RANGE))
    noise = _residual_noise(ct.hu, lumen) if lumen.sum() >= _MIN_VOXELS else None
    if noise is not None:
        return ScanNoise(level, *noise, source=f"level: {source}; noise: windpipe")
    soft = _soft_tissue(ct.hu, air.body, spacing)
    noise = _residual_noise(ct.hu, soft) if soft.sum() >= _MIN_VOXELS else None
    if noise is not None:
        return ScanNoise(level, *noise, source=f"level: {source}; noise: soft tissue")
    return ScanNoise(level, 0.0, (0.0, 0.0, 0.0), source=f"level: {source}; the scan has no measurable noise")


def _soft_tissue(hu: Floats, body: Mask, spacing: Spacing) -> Mask:
    """Homogeneous soft tissue deep in the body."""
    tissue = (hu > 0.0) & (hu < 90.0) & body
    return np.asarray(depth_mm(tissue, spacing) > 3.0 * max(spacing))


def _residual_noise(hu: Floats, mask: Mask) -> tuple[float, tuple[float, float, float]] | None:
    """Standard deviation and neighbour correlations of the mask's values about their slow trend; None if constant."""
    d, h, w = np.nonzero(mask)
    box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in (d, h, w))
    inside, values = mask[box], hu[box]
    weight = gaussian_smoothed(inside.astype(np.float32), 4.0)
    trend = gaussian_smoothed(np.where(inside, values, 0.0).astype(np.float32), 4.0) / np.maximum(weight, 1e-4)
    rest = np.where(inside, values - trend, 0.0)
    spread = float(np.median(np.abs(rest[inside] - np.median(rest[inside])))) * 1.4826
    if spread < 0.5:
        return None
    good = inside & (np.abs(rest) < 3.5 * spread)
    variance = float((rest[good] ** 2).mean())
    correlation = []
    for axis in range(3):
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        pairs = good[low] & good[high]
        product = float((rest[low] * rest[high])[pairs].mean()) if pairs.sum() > 30 else 0.0
        correlation.append(float(np.clip(product / variance, 0.0, 0.95)))
    return min(float(np.sqrt(variance)), _MAX_SD), (correlation[0], correlation[1], correlation[2])
