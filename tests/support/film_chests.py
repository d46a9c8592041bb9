"""A film library of drawn chests: ellipses of lung, and air in the apex of a side; made in a fraction of a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from xrecon.data.film_library import ANATOMIES_FOLDER, LIBRARY_NAME, FilmSample, anatomy_bytes, anatomy_name
from xrecon.io.output.atomic import write_json_atomic

CASES = ("anna", "bert", "carl", "dora")


def ellipse(size: int, row: float, col: float, half_rows: float, half_cols: float) -> np.ndarray:
    """[size, size] thickness 0..1 of an ellipsoid seen from in front; places as shares of the size."""
    rows, cols = (np.mgrid[:size, :size] + 0.5) / size
    depth = 1.0 - ((rows - row) / half_rows) ** 2 - ((cols - col) / half_cols) ** 2
    return np.sqrt(np.clip(depth, 0.0, None)).astype(np.float32)


def drawn_sample(size: int, rng: np.random.Generator, *, side: int | None, confounders: bool = False) -> FilmSample:
    """One film pair; `side` 0 has air on the right, 1 on the left, None on neither."""
    shift = rng.uniform(-0.03, 0.03)
    body = 220.0 * np.stack([ellipse(size, 0.5, 0.5, 0.75, 0.46), ellipse(size, 0.5, 0.5, 0.75, 0.4)])
    lung = np.zeros((2, 2, size, size), dtype=np.float32)
    air = np.zeros_like(lung)
    for k, col in enumerate((0.3, 0.7)):
        lung[0, k] = 120.0 * ellipse(size, 0.5 + shift, col, 0.3, 0.14)
        lung[1, k] = 110.0 * ellipse(size, 0.5 + shift, 0.5, 0.3, 0.25)
    share = float(rng.uniform(0.2, 0.7))
    if side is not None:
        top = (np.arange(size) < (0.2 + 0.6 * share) * size)[:, None]
        air[:, side] = lung[:, side] * top
        lung[:, side] *= ~top
    water = np.clip(body - 0.75 * lung.sum(axis=1) - air.sum(axis=1), 0.0, None)
    water += rng.normal(0.0, 1.0, water.shape) * (body > 0)
    bone = 4.0 * (body > 0) * (np.arange(size) % 8 < 2)[:, None]
    volumes = lung[0].sum(axis=(-2, -1)) * (384.0 / size) ** 2 / 1000.0
    free_ml = float(air[0].sum()) * (384.0 / size) ** 2 / 1000.0
    meta: dict[str, Any] = {"kind": "healthy", "confounders": ["bulla"] if confounders else []}
    meta["volumes_ml"] = {"right_lung": float(volumes[0]), "left_lung": float(volumes[1]), "air": free_ml}
    if side is not None:
        occupancy = free_ml / (free_ml + float(volumes[side]))
        whole = free_ml / (free_ml + float(volumes.sum()))
        meta |= {"kind": "pneumothorax", "film_width_mm": [30.0, 40.0]}
        meta["planting"] = {"side": ("right", "left")[side], "pattern": "upright", "mechanism": "flow"}
        meta["occupancy"] = {"right": 0.0, "left": 0.0, "whole_chest": whole, ("right", "left")[side]: occupancy}
    return FilmSample(np.clip(water, 0.0, None).astype(np.float32), bone.astype(np.float32), air, lung, meta)


def write_film_chests(folder: Path, *, anatomies: int = 8, size: int = 64, seed: int = 0, first: int = 0) -> Path:
    """A library in `folder`: per anatomy a healthy pair, a healthy one with a confounder, a sick right and left one."""
    (folder / ANATOMIES_FOLDER).mkdir(parents=True, exist_ok=True)
    facts = {"settings": {"size": size}, "cases": dict.fromkeys(CASES, "0" * 16)}
    write_json_atomic(folder / LIBRARY_NAME, facts, overwrite=True)
    for number in range(first, first + anatomies):
        rng, case = np.random.default_rng([seed, number]), CASES[number % len(CASES)]
        samples = [
            drawn_sample(size, rng, side=side, confounders=other)
            for side, other in ((None, False), (None, True), (0, False), (1, False))
        ]
        content = anatomy_bytes(samples, {"case": case, "number": number})
        (folder / ANATOMIES_FOLDER / anatomy_name(case, number)).write_bytes(content)
    return folder
