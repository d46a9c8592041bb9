"""The detector: unsharpness, scatter, quantum noise and read-out noise of a film."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from scipy import ndimage

from xrecon.anatomy.morphology import Floats
from xrecon.augmentation.random_streams import log_uniform, uniform
from xrecon.augmentation.ranges import PositiveRange, Range, step_probability
from xrecon.augmentation.steps import Draws, FilmView
from xrecon.config import Config
from xrecon.projector.detector import scattered
from xrecon.projector.physics import Scatter

_DARKEST = 1e-6
"""Signal of the open beam at which the logarithm is cut: 14 in the line integral."""


class ExposureSettings(Config):
    """Scatter and noise of the film."""

    probability: float = step_probability(0.8)
    quanta_per_mm2: PositiveRange = Field(
        default=(300.0, 1.0e5),
        description="Mean of the film's central half, at the detector plane, log-uniform; 75 000 is about 2.5 uGy, "
        "speed class 400, the low end a poor print that was photographed.",
    )
    electronic: Range = Field(
        default=(0.0, 20.0),
        description="Read-out noise of a square millimetre, rms, quanta; 20 is 3 per 0.14 mm element.",
    )
    scatter: Range = Field(
        default=(0.0, 0.6), description="Scatter over primary, summed behind the patient, behind the grid."
    )
    scatter_mm: PositiveRange = Field(default=(50.0, 130.0), description="Its width at the detector (FWHM), mm.")
    blur_mm: Range = Field(
        default=(0.0, 3.0), description="Unsharpness at the isocentre plane, standard deviation, mm."
    )


def expose(film: Floats, view: FilmView, settings: ExposureSettings, rng: np.random.Generator) -> tuple[Floats, Draws]:
    """Line integrals as they are read out: unsharp, with scatter, quantum noise and read-out noise."""
    quanta = log_uniform(rng, settings.quanta_per_mm2)
    electronic, scatter = uniform(rng, settings.electronic), uniform(rng, settings.scatter)
    scatter_mm, blur_mm = log_uniform(rng, settings.scatter_mm), uniform(rng, settings.blur_mm)
    signal = np.exp(-film)
    sigma = [blur_mm / pitch for pitch in view.beam.pixel_at_isocentre_mm]
    if max(sigma) > 0.2:
        signal = ndimage.gaussian_filter(signal, sigma, mode="nearest")
    cloud = Scatter(ratio=scatter, fwhm_mm=scatter_mm, grid=False)
    with torch.inference_mode():
        signal = signal + scattered(torch.from_numpy(signal), cloud, pixel_mm=view.beam.pixel_mm).numpy()
    area = view.beam.pixel_mm[0] * view.beam.pixel_mm[1]
    rows, cols = (slice(n // 4, n - n // 4) for n in film.shape)
    per_signal = quanta * area / max(float(signal[rows, cols].mean()), _DARKEST)
    counts = rng.poisson(signal.astype(np.float64) * per_signal)
    counts = counts + rng.standard_normal(film.shape) * electronic * np.sqrt(area)
    read = -np.log(np.maximum(counts / per_signal, _DARKEST)).astype(np.float32)
    return read, {
        "quanta_per_mm2": quanta,
        "electronic": electronic,
        "scatter": scatter,
        "scatter_mm": scatter_mm,
        "blur_mm": blur_mm,
    }
