"""Landmarks of a chest as the pixels on which both films show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.anatomy.healthy_lungs import ChestAir
from xrecon.anatomy.morphology import Mask, Spacing, bounding_box
from xrecon.geometry import VIEWS, ConeBeam
from xrecon.priors.films import detector_pixels

_APEX_SHARE = 0.01
_WALL_SHARE = 0.15
"""Outer part of a lung's width in which its lateral angle is looked for."""
_DOME_PITCH_MM = 3.0
_DOME_BLUR_MM = 6.0
_DOME_RIM_MM = 15.0
"""So far from the rim of a lung, seen from below, its lower surface is no recess."""
_DOME_SLOPE_MM = 50.0
"""What a slope of 1 counts, as height: steep surfaces lie on the heart or in a recess."""
_DOME_SHARE = 0.35
"""Share of the lower surface that lies on heart and hilum at most."""


def chest_landmarks(chest: ChestAir, spacing: Spacing) -> dict[str, tuple[float, float, float]]:
    """Index (d, h, w) of the places that readers of films look at, as far as they are there.

    `carina`; for each side `apex` (the top of the lung), `dome` (the top of the diaphragm's half, where the lung's
    lower surface is level), `lateral_angle` (the lowest place beside the lateral wall: the costophrenic angle of a PA
    film) and `costophrenic` (the lowest place of all: mostly the posterior angle of a lateral film).

    Args:
        chest: healthy lungs and carina.
        spacing: voxel pitch (D, H, W), mm.
    """
    points: dict[str, tuple[float, float, float]] = {}
    if chest.carina is not None:
        points["carina"] = chest.carina
    for side, lung in (("right", chest.right), ("left", chest.left)):
        if bounding_box(lung) is None:
            continue
        points[f"{side}_apex"] = _mean_of_slices(lung, upper=True)
        points[f"{side}_costophrenic"] = _mean_of_slices(lung, upper=False)
        points[f"{side}_lateral_angle"] = _lateral_angle(lung, is_right=side == "right")
        points[f"{side}_dome"] = _dome(lung, spacing)
    return points


def _lateral_angle(lung: Mask, *, is_right: bool) -> tuple[float, float, float]:
    _, _, across = bounding_box(lung) or (slice(0), slice(0), slice(0))
    width = max(1, round(_WALL_SHARE * (across.stop - across.start)))
    first = across.start if is_right else across.stop - width
    d, h, w = np.nonzero(lung[:, :, first : first + width])
    lowest = d == d.max()
    return float(d.max()), float(h[lowest].mean()), float(first + w[lowest].mean())


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


def _dome(lung: Mask, spacing: Spacing) -> tuple[float, float, float]:
    """The highest place of the lower surface where it is level, away from its rim and from heart and hilum."""
    step = [max(1, round(_DOME_PITCH_MM / pitch)) for pitch in spacing[1:]]
    part = lung[:, :: step[0], :: step[1]]
    pitch = (spacing[1] * step[0], spacing[2] * step[1])
    inside = part.any(axis=0)
    lowest = np.where(inside, part.shape[0] - 1 - np.argmax(part[::-1], axis=0), 0).astype(np.float64)
    sigma = [_DOME_BLUR_MM / p for p in pitch]
    weight = ndimage.gaussian_filter(inside.astype(np.float64), sigma)
    height_mm = ndimage.gaussian_filter(lowest, sigma) / np.maximum(weight, 1e-6) * spacing[0]
    rim = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=pitch)[1:-1, 1:-1]
    slope = np.hypot(*np.gradient(height_mm, *pitch))
    level = inside & (rim > min(_DOME_RIM_MM, 0.6 * rim.max()))
    level &= height_mm >= np.quantile(height_mm[inside], _DOME_SHARE)
    cost = np.where(level if level.any() else inside, height_mm + _DOME_SLOPE_MM * slope, np.inf)
    h, w = np.unravel_index(int(np.argmin(cost)), cost.shape)
    return float(lowest[h, w]), float(h * step[0]), float(w * step[1])


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
