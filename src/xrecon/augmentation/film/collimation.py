"""Shutters at the film's borders."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from xrecon.anatomy.morphology import Floats
from xrecon.augmentation.random_streams import log_uniform, signed
from xrecon.augmentation.ranges import PositiveRange, step_probability
from xrecon.augmentation.steps import Draws, FilmView
from xrecon.config import Config


class CollimationSettings(Config):
    """Shutters at the film's borders."""

    probability: float = step_probability(0.25)
    width_mm: PositiveRange = Field(default=(4.0, 40.0), description="Width of each shutter, mm, at most a quarter.")
    white_probability: float = Field(default=0.3, ge=0, le=1, description="Share that is white instead of black.")


def collimate(
    film: Floats, view: FilmView, settings: CollimationSettings, rng: np.random.Generator
) -> tuple[Floats, Draws]:
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
        width = min(log_uniform(rng, settings.width_mm) / view.beam.pixel_at_isocentre_mm[axis], film.shape[axis] / 4)
        along = turned_rows if axis == 0 else turned_cols
        depth = along if edge in ("top", "left") else film.shape[axis] - 1 - along
        share = np.clip(width - depth, 0.0, 1.0)
        out += share * (np.float32(white if is_white else black) - out)
        widths[edge] = float(width * view.beam.pixel_at_isocentre_mm[axis])
    return out, {"white": is_white, "width_mm": widths}
