"""Side letters and lines of text, burnt into the film."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydantic import Field

from xrecon.anatomy.morphology import Floats
from xrecon.augmentation.random_streams import log_uniform, uniform, whole
from xrecon.augmentation.ranges import Count, PositiveRange, step_probability
from xrecon.augmentation.steps import Draws, FilmView
from xrecon.config import Config
from xrecon.resample import resample_separable

_LETTERS = {"pa": ("R", "L"), "lateral": ("L", "LAT")}
_LINES = {"pa": ("PA", "ERECT", "PORTABLE", "120 kV"), "lateral": ("LATERAL", "ERECT", "120 kV")}


class MarkerSettings(Config):
    """Side letters and lines of text, burnt in."""

    probability: float = step_probability(0.3)
    count: Count = Field(default=(1, 3), description="How many per film, lowest and highest.")
    height_mm: PositiveRange = Field(default=(10.0, 22.0), description="Height of the letters, mm.")


def mark(film: Floats, view: FilmView, settings: MarkerSettings, rng: np.random.Generator) -> tuple[Floats, Draws]:
    """Side letters on their true side (the patient's right is on a PA film's left), and lines of text at the border."""
    out, white, written = film.copy(), np.float32(film.max()), []
    for _ in range(whole(rng, settings.count)):
        texts = _LETTERS[view.name] if rng.random() < 0.6 else _LINES[view.name]
        text = texts[int(rng.integers(len(texts)))]
        height = max(log_uniform(rng, settings.height_mm) / view.beam.pixel_at_isocentre_mm[0], 2.0)
        stamp = _stamp(text, round(height))
        room = [max(n - m, 1) for n, m in zip(film.shape, stamp.shape, strict=True)]
        row = int(room[0] * (uniform(rng, (0.0, 0.15)) if rng.random() < 0.7 else uniform(rng, (0.85, 1.0))))
        across = uniform(rng, (0.02, 0.25))
        on_left = text == "R" if view.name == "pa" and text in ("R", "L") else rng.random() < 0.5
        col = int(room[1] * (across if on_left else 1.0 - across))
        visible = stamp[: film.shape[0], : film.shape[1]]
        part = out[row : row + visible.shape[0], col : col + visible.shape[1]]
        part += visible[: part.shape[0], : part.shape[1]] * (white - part)
        written.append({"text": text, "row": row, "col": col})
    return out, {"marks": written}


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
