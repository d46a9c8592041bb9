"""What happens to a film between patient and network: scatter, noise, look-up table, processing, shutters, markers.

Films are [rows, cols], dense tissue bright. `expose` turns line integrals into noisy line integrals and `tone` into
display values 0..1; all other steps work on either, in units of the film's own range. A plain gain or offset is no
step: `network_film` takes both away.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from xrecon.anatomy.morphology import Floats
from xrecon.augmentation.random_streams import log_uniform, signed, uniform, whole
from xrecon.augmentation.settings import Collimation, Equalise, Exposure, Inversion, Markers, Tone
from xrecon.geometry import ConeBeam
from xrecon.projector.detector import scattered
from xrecon.projector.physics import Scatter
from xrecon.resample import resample_separable

Drawn = tuple[Floats, dict[str, Any]]

_DARKEST = 1e-6
"""Signal of the open beam at which the logarithm is cut: 14 in the line integral."""
_STEEPNESS = 6.0
_LETTERS = {"pa": ("R", "L"), "lateral": ("L", "LAT")}
_LINES = {"pa": ("PA", "ERECT", "PORTABLE", "120 kV"), "lateral": ("LATERAL", "ERECT", "120 kV")}


def expose(film: Floats, beam: ConeBeam, settings: Exposure, rng: np.random.Generator) -> Drawn:
    """Line integrals as they are read out: unsharp, with scatter, quantum noise and read-out noise."""
    quanta = log_uniform(rng, settings.quanta_per_mm2)
    electronic, scatter = uniform(rng, settings.electronic), uniform(rng, settings.scatter)
    scatter_mm, blur_mm = log_uniform(rng, settings.scatter_mm), uniform(rng, settings.blur_mm)
    signal = np.exp(-film)
    sigma = [blur_mm / pitch for pitch in beam.pixel_at_isocentre_mm]
    if max(sigma) > 0.2:
        signal = ndimage.gaussian_filter(signal, sigma, mode="nearest")
    cloud = Scatter(ratio=scatter, fwhm_mm=scatter_mm, grid=False)
    with torch.inference_mode():
        signal = signal + scattered(torch.from_numpy(signal), cloud, pixel_mm=beam.pixel_mm).numpy()
    area = beam.pixel_mm[0] * beam.pixel_mm[1]
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


def tone(film: Floats, settings: Tone, rng: np.random.Generator) -> Drawn:
    """Display values 0..1: window, exponent, S-curve, steps of so many bits."""
    low, high = uniform(rng, settings.low_percent), uniform(rng, settings.high_percent)
    gamma, blend, bits = log_uniform(rng, settings.gamma), uniform(rng, settings.sigmoid), whole(rng, settings.bits)
    black, white = np.percentile(film, (low, high))
    grey = np.clip((film - black) / max(float(white - black), 1e-9), 0.0, 1.0) ** gamma
    curve = np.tanh(0.5 * _STEEPNESS * (grey - 0.5)) / (2.0 * np.tanh(0.25 * _STEEPNESS)) + 0.5
    grey = (1.0 - blend) * grey + blend * curve
    steps = float(2**bits - 1)
    return (np.rint(grey * steps) / steps).astype(np.float32), {
        "low_percent": low,
        "high_percent": high,
        "gamma": gamma,
        "sigmoid": blend,
        "bits": bits,
    }


def equalise(film: Floats, beam: ConeBeam, settings: Equalise, rng: np.random.Generator) -> Drawn:
    """A blend with the film whose local mean and contrast are made alike everywhere."""
    strength, window = uniform(rng, settings.strength), log_uniform(rng, settings.window_mm)
    sigma = [0.5 * window / pitch for pitch in beam.pixel_at_isocentre_mm]
    mean = ndimage.gaussian_filter(film, sigma, mode="reflect")
    spread = np.sqrt(np.maximum(ndimage.gaussian_filter((film - mean) ** 2, sigma, mode="reflect"), 0.0))
    whole_mean, whole_spread = float(film.mean()), float(film.std())
    # The floor keeps the noise of empty places from being blown up.
    local = whole_mean + (film - mean) * (0.7 * whole_spread / (spread + np.float32(0.35 * whole_spread + 1e-9)))
    out = (1.0 - strength) * film + strength * local
    return out.astype(np.float32), {"strength": strength, "window_mm": window}


def collimate(film: Floats, beam: ConeBeam, settings: Collimation, rng: np.random.Generator) -> Drawn:
    """One to four shutters, slightly turned, black or white."""
    black, white = float(film.min()), float(film.max())
    is_white = bool(rng.random() < settings.white_probability)
    closed = [edge for edge in ("top", "bottom", "left", "right") if rng.random() < 0.6] or ["top"]
    slope = float(np.tan(np.deg2rad(signed(rng, 2.0))))
    rows, cols = (np.arange(n, dtype=np.float32) for n in film.shape)
    turned_rows = rows[:, None] + slope * (cols - cols.mean())[None, :]
    turned_cols = cols[None, :] - slope * (rows - rows.mean())[:, None]
    out, widths = film.copy(), {}
    for edge in closed:
        axis = 0 if edge in ("top", "bottom") else 1
        width = min(log_uniform(rng, settings.width_mm) / beam.pixel_at_isocentre_mm[axis], film.shape[axis] / 4)
        along = turned_rows if axis == 0 else turned_cols
        depth = along if edge in ("top", "left") else film.shape[axis] - 1 - along
        share = np.clip(width - depth, 0.0, 1.0)
        out += share * (np.float32(white if is_white else black) - out)
        widths[edge] = float(width * beam.pixel_at_isocentre_mm[axis])
    return out, {"white": is_white, "width_mm": widths}


def mark(film: Floats, beam: ConeBeam, settings: Markers, rng: np.random.Generator, *, view: str) -> Drawn:
    """Side letters on their true side (the patient's right is on a PA film's left), and lines of text at the border."""
    out, white, written = film.copy(), np.float32(film.max()), []
    for _ in range(whole(rng, settings.count)):
        texts = _LETTERS[view] if rng.random() < 0.6 else _LINES[view]
        text = texts[int(rng.integers(len(texts)))]
        height = max(log_uniform(rng, settings.height_mm) / beam.pixel_at_isocentre_mm[0], 2.0)
        stamp = _stamp(text, round(height))
        room = [max(n - m, 1) for n, m in zip(film.shape, stamp.shape, strict=True)]
        row = int(room[0] * (uniform(rng, (0.0, 0.15)) if rng.random() < 0.7 else uniform(rng, (0.85, 1.0))))
        across = uniform(rng, (0.02, 0.25))
        on_left = text == "R" if view == "pa" and text in ("R", "L") else rng.random() < 0.5
        col = int(room[1] * (across if on_left else 1.0 - across))
        shown = stamp[: film.shape[0], : film.shape[1]]
        part = out[row : row + shown.shape[0], col : col + shown.shape[1]]
        part += shown[: part.shape[0], : part.shape[1]] * (white - part)
        written.append({"text": text, "row": row, "col": col})
    return out, {"marks": written}


def invert(film: Floats, settings: Inversion, rng: np.random.Generator) -> Drawn:
    """Dense tissue dark."""
    del settings, rng  # nothing to draw
    return np.asarray(film.max() + film.min() - film, dtype=np.float32), {"inverted": True}


@functools.lru_cache(maxsize=128)
def _stamp(text: str, height: int) -> NDArray[np.float32]:
    """[height, cols] 0..1, the text in capitals of this height, averaged down from a larger drawing."""
    font = ImageFont.load_default(size=48)
    left, top, right, bottom = font.getbbox(text)
    image = Image.new("L", (int(np.ceil(right - left)) + 2, int(np.ceil(bottom - top)) + 2))
    ImageDraw.Draw(image).text((1 - left, 1 - top), text, fill=255, font=font)
    large = np.asarray(image, dtype=np.float32) / np.float32(255.0)
    scale = large.shape[0] / height
    shape = (height, max(1, round(large.shape[1] / scale)))
    stamp = resample_separable(large, shape, scale=(scale, scale), offset=((scale - 1) / 2,) * 2, fill=0.0)
    stamp.flags.writeable = False
    return stamp
