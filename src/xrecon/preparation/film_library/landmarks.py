"""Landmarks of a chest as the pixels on which both films show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from xrecon.anatomy.healthy_lungs import ChestAir
from xrecon.anatomy.morphology import Mask, bounding_box
from xrecon.geometry import VIEWS, ConeBeam
from xrecon.priors.films import detector_pixels

_APEX_SHARE = 0.01


def chest_landmarks(chest: ChestAir) -> dict[str, tuple[float, float, float]]:
    """Index (d, h, w) of carina, apices, domes of the diaphragm and costophrenic angles, as far as they are there.

    The dome is the highest place of a lung's lower surface among its inner three quarters; the costophrenic angle is
    the lung's lowest place.
    """
    points: dict[str, tuple[float, float, float]] = {}
    if chest.carina is not None:
        points["carina"] = chest.carina
    for side, lung in (("right", chest.right), ("left", chest.left)):
        if bounding_box(lung) is None:
            continue
        points[f"{side}_apex"] = _mean_of_slices(lung, upper=True)
        points[f"{side}_costophrenic"] = _mean_of_slices(lung, upper=False)
        points[f"{side}_dome"] = _dome(lung)
    return points


def _mean_of_slices(lung: Mask, *, upper: bool) -> tuple[float, float, float]:
    """Centre of the first (or last) slices, which hold a hundredth of the lung."""
    counts = lung.sum(axis=(1, 2)).cumsum()
    limit = _APEX_SHARE * counts[-1]
    part = lung.copy()
    if upper:
        part[int(np.searchsorted(counts, limit)) + 1 :] = False
    else:
        part[: int(np.searchsorted(counts, counts[-1] - limit))] = False
    places = np.argwhere(part)
    depth = places[:, 0].min() if upper else places[:, 0].max()
    _, h, w = places.mean(axis=0)
    return float(depth), float(h), float(w)


def _dome(lung: Mask) -> tuple[float, float, float]:
    lowest = np.where(lung.any(axis=0), lung.shape[0] - 1 - np.argmax(lung[::-1], axis=0), -1)
    rows, cols = np.nonzero(lowest >= 0)
    low, high = np.quantile(rows, (0.2, 0.8)), np.quantile(cols, (0.2, 0.8))
    inner = (rows >= low[0]) & (rows <= low[1]) & (cols >= high[0]) & (cols <= high[1])
    rows, cols = rows[inner], cols[inner]
    depths = lowest[rows, cols]
    base = depths >= np.quantile(depths, 0.5)  # not the lung that lies on heart and hilum
    k = int(np.argmin(np.where(base, depths, depths.max() + 1)))
    return float(depths[k]), float(rows[k]), float(cols[k])


def on_films(
    points: Mapping[str, tuple[float, float, float]],
    middle: NDArray[np.float64],
    spacing: Sequence[float],
    views: Sequence[ConeBeam],
) -> dict[str, dict[str, list[float]]]:
    """View -> landmark -> (row, col) in pixels, of indices whose isocentre is the index `middle`."""
    if not points:
        return {view: {} for view in VIEWS}
    places = np.array([points[name] for name in points])
    positions = torch.from_numpy(((places - middle) * np.asarray(spacing)).astype(np.float32))
    out = {}
    for name, view in zip(VIEWS, views, strict=True):
        pixels = detector_pixels(positions, view).numpy()
        out[name] = {key: [round(float(v), 2) for v in pixel] for key, pixel in zip(points, pixels, strict=True)}
    return out
