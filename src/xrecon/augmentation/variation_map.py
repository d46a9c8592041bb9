"""The backward map of a varied chest: fitted to another patient's lungs, then breathing, size and posture on top.

Places are (d, h, w) mm: of the new chest from the middle of its lungs' box, of the source from the middle of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.anatomy.healthy_lungs import ChestAir
from xrecon.anatomy.morphology import Floats, Mask
from xrecon.augmentation.lung_shapes import PITCH_MM, LungShapes
from xrecon.augmentation.random_streams import uniform
from xrecon.augmentation.shape_fit import FIT_GRID, KNOT_MM, fit_lungs, lung_target, mask_box
from xrecon.augmentation.variation_settings import VariationSettings
from xrecon.resample import resample_separable
from xrecon.volume import Volume
from xrecon.warp import SplineField

_CHECK_MM = 8.0
"""The map is so smooth (`KNOT_MM`) that its change of volume is measured about every so many mm."""
_LARGEST_MM = np.array([345.0, 265.0, 345.0])
"""Largest extent of both lungs: what fits on a film of 384 mm at the isocentre."""
_LARGEST_RAISE = 0.22
"""The diaphragm rises by at most this share of the lungs' height."""
_TURN_SPREAD = 0.5
"""Standard deviation of turns and tilts as a share of the largest."""

Places = Sequence[NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class VariationMap:
    """source = middle + (R (scale x) + spline(x) + breath(x)) / spacing, as indices of the source.

    The spline is not turned with the patient: at the largest turns the lungs lie some mm beside the fitted shape.

    Attributes:
        scale: [3] source mm per new mm along D, H, W.
        rotation: 3 x 3, of the patient.
        knots_mm: [3, a, b, c] B-spline coefficients of the displacement, mm.
        raise_mm: how far the diaphragm stands higher than in the source.
        top_mm, base_mm: d of the apices and of the diaphragm's edge in the new chest.
        half_width_mm: (h, w) half axes of the thorax in the new chest.
        middle: index (d, h, w) of the middle of the source's lungs.
        spacing: of the source, mm.
        parameters: what was drawn, JSON values.
        mean_jacobian: source volume per new volume, mean over the lungs, before the breath.
    """

    scale: NDArray[np.float64]
    rotation: NDArray[np.float64]
    knots_mm: torch.Tensor
    raise_mm: float
    top_mm: float
    base_mm: float
    half_width_mm: tuple[float, float]
    middle: NDArray[np.float64]
    spacing: NDArray[np.float64]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    mean_jacobian: float = 1.0

    def indices(self, places_mm: Places) -> Floats:
        """[3, P, Q, R] indices of the source at the grid of places along each axis."""
        index = self._origin(places_mm)
        index /= self.spacing.reshape(3, 1, 1, 1).astype(np.float32)
        index += self.middle.reshape(3, 1, 1, 1).astype(np.float32)
        return index

    def jacobian(self, places_mm: Places) -> Floats:
        """[P, Q, R] source volume per new volume at the grid of evenly spaced places; 1 where nothing changes."""
        steps = [float(axis[1] - axis[0]) for axis in places_mm]
        strides = [max(1, round(_CHECK_MM / step)) for step in steps]
        coarse = [
            axis[0] + step * stride * np.arange(-(-(len(axis) - 1) // stride) + 1)
            for axis, step, stride in zip(places_mm, steps, strides, strict=True)
        ]
        values = _determinant(self._origin(coarse), [a * b for a, b in zip(steps, strides, strict=True)])
        shape = tuple(len(axis) for axis in places_mm)
        scale = tuple(1.0 / stride for stride in strides)
        return resample_separable(values, shape, scale=scale, offset=(0.0, 0.0, 0.0), fill=1.0)

    def _origin(self, places_mm: Places) -> Floats:
        d, h, w = (axis.astype(np.float32) for axis in places_mm)
        out = _spline_values(self.knots_mm, places_mm)
        matrix = (self.rotation * self.scale).astype(np.float32)
        for row in range(3):
            out[row] += matrix[row, 0] * d[:, None, None] + matrix[row, 1] * h[:, None] + matrix[row, 2] * w
        if self.raise_mm:
            out[0] += np.float32(self.raise_mm) * self._lift(d, h, w)
        return out

    def _lift(self, d: Floats, h: Floats, w: Floats) -> Floats:
        """[P, Q, R] 0..1: share of the diaphragm's movement, full below the base, none at the apices or in the wall.

        Along D it is x^3 (4 - 3 x), whose slope is largest at two thirds of the way down: the base is compressed most.
        """
        x = np.clip((d - np.float32(self.top_mm)) / np.float32(max(self.base_mm - self.top_mm, 1.0)), 0.0, 1.0)
        along = x**3 * (np.float32(4.0) - np.float32(3.0) * x)
        a, b = self.half_width_mm
        radius: Floats = np.sqrt((h[:, None] / np.float32(a)) ** 2 + (w[None, :] / np.float32(b)) ** 2)
        inside = 1.0 - smoothstep((radius - 0.75) / np.float32(0.55))
        return np.asarray(along[:, None, None] * inside[None], dtype=np.float32)

    def forward(self, index: tuple[float, float, float], places_mm: Places) -> tuple[float, float, float]:
        """Index of the voxel of the new grid whose origin is nearest to an index of the source."""
        stride = 4
        start = self._nearest(index, [axis[::stride] for axis in places_mm])
        first = [max(0, stride * (i - 1)) for i in start]
        block = [axis[f : f + 2 * stride + 1] for axis, f in zip(places_mm, first, strict=True)]
        d, h, w = (float(f + i) for f, i in zip(first, self._nearest(index, block), strict=True))
        return d, h, w

    def _nearest(self, index: tuple[float, float, float], places_mm: Places) -> list[int]:
        away = self.indices(places_mm) - np.asarray(index, dtype=np.float32).reshape(3, 1, 1, 1)
        away *= self.spacing.reshape(3, 1, 1, 1).astype(np.float32)
        square = np.einsum("ndhw,ndhw->dhw", away, away)
        return [int(i) for i in np.unravel_index(int(np.argmin(square)), square.shape)]


def draw_map(
    ct: Volume, chest: ChestAir, shapes: LungShapes | None, *, settings: VariationSettings, rng: np.random.Generator
) -> VariationMap:
    """A map drawn at random; its parameters say what it is."""
    lungs = chest.right | chest.left
    low, high = mask_box(lungs)
    spacing = np.asarray(ct.spacing_mm)
    middle = 0.5 * (low + high)
    source_size = (high - low + 1) * spacing
    size = uniform(rng, settings.size)
    name = None
    if shapes is not None and rng.random() < settings.shape_share:
        name = shapes.names[rng.integers(len(shapes.names))]
        target = lung_target(shapes.masks[name], _enlargement(shapes.masks[name], size, settings, rng))
        scale = source_size / target.size_mm
        knots = fit_lungs(ct, chest, target, scale=scale, middle=middle)
    else:
        scale = 1.0 / (size * rng.uniform(1.0 - settings.axis_scale, 1.0 + settings.axis_scale, 3))
        knots = torch.from_numpy(_random_knots(rng, uniform(rng, settings.elastic_mm)))
    new_size = source_size / scale
    turns = _turns(settings, rng)
    raise_mm = uniform(rng, settings.raised_mm) if rng.random() < settings.breath_probability else 0.0
    raise_mm = min(raise_mm, _LARGEST_RAISE * float(new_size[0]))
    result = VariationMap(
        scale,
        _rotation(turns),
        knots,
        raise_mm,
        top_mm=-0.42 * float(new_size[0]),
        base_mm=0.42 * float(new_size[0]),
        half_width_mm=(0.62 * float(new_size[1]), 0.56 * float(new_size[2])),
        middle=middle,
        spacing=spacing,
    )
    parameters = {
        "shape": name,
        "scale": [round(float(1.0 / s), 4) for s in scale],
        "rotation_deg": [round(float(t), 3) for t in turns],
        "diaphragm_raised_mm": round(raise_mm, 2),
    }
    return _measured(result, lungs, parameters, new_size)


def _enlargement(
    mask: NDArray[np.uint8], size: float, settings: VariationSettings, rng: np.random.Generator
) -> NDArray[np.float64]:
    """[3] factor of a lung shape towards inspiration, within the largest volume and extent."""
    gains = [uniform(rng, span) for span in (settings.height_gain, settings.width_gain, settings.width_gain)]
    factor = size * np.array(gains)
    volume_ml = float((mask > 0).sum()) * PITCH_MM**3 / 1000.0 * float(np.prod(factor))
    factor *= min(1.0, (settings.largest_lungs_ml / volume_ml) ** (1.0 / 3.0))
    low, high = mask_box(mask > 0)
    return np.asarray(np.minimum(factor, _LARGEST_MM / (PITCH_MM * (high - low + 1))), dtype=np.float64)


def _turns(settings: VariationSettings, rng: np.random.Generator) -> NDArray[np.float64]:
    """Degrees about the long axis, forwards and sidewards."""
    limit = np.array([settings.turn_deg, settings.tilt_deg, settings.tilt_deg])
    return np.asarray(np.clip(rng.normal(0.0, _TURN_SPREAD, 3), -1.0, 1.0) * limit, dtype=np.float64)


def _measured(
    variation: VariationMap, lungs: Mask, parameters: dict[str, Any], new_size: NDArray[np.float64]
) -> VariationMap:
    """The map with the mean change of the lungs' volume, before the breath and with it."""
    places = [np.arange(-0.6 * s, 0.6 * s, _CHECK_MM) for s in new_size]
    means = []
    for part in (replace(variation, raise_mm=0.0), variation):
        inside = ndimage.map_coordinates(lungs.view(np.uint8), part.indices(places), order=0, mode="constant") > 0
        means.append(float(part.jacobian(places)[inside].mean()) if inside.any() else 1.0)
    parameters["lung_jacobian"] = round(means[1], 4)
    return replace(variation, parameters=parameters, mean_jacobian=means[0])


def _random_knots(rng: np.random.Generator, amplitude_mm: float) -> Floats:
    shape = SplineField(FIT_GRID, KNOT_MM).shape
    knots = ndimage.gaussian_filter(rng.standard_normal(shape), (0, 0.7, 0.7, 0.7), mode="wrap")
    return np.asarray(knots * amplitude_mm / max(float(knots.std()), 1e-6), dtype=np.float32)


def _spline_values(knots: torch.Tensor, places_mm: Places) -> Floats:
    """[3, P, Q, R] of a spline field at any places; beyond the fit's grid the displacement of its border goes on."""
    half = [0.5 * extent - FIT_GRID.spacing_mm / 2 for extent in FIT_GRID.extent_mm]
    axes = [torch.from_numpy(np.clip(axis, -h, h).astype(np.float32)) for axis, h in zip(places_mm, half, strict=True)]
    return np.ascontiguousarray(SplineField.at(axes, FIT_GRID.extent_mm, KNOT_MM)(knots).permute(3, 0, 1, 2).numpy())


def _rotation(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """About D (long axis), W (nodding) and H (leaning), for columns (d, h, w)."""
    a, b, c = np.radians(degrees)
    long = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    nod = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    lean = np.array([[np.cos(c), 0, -np.sin(c)], [0, 1, 0], [np.sin(c), 0, np.cos(c)]])
    return np.asarray(long @ nod @ lean, dtype=np.float64)


def _determinant(origin: Floats, steps: Sequence[float]) -> Floats:
    """Local change of volume of a map sampled on a grid with these steps, mm."""
    gradient = [np.gradient(origin[row], *steps) for row in range(3)]
    a, b, c = gradient
    return np.asarray(
        a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) + a[2] * (b[0] * c[1] - b[1] * c[0]),
        dtype=np.float32,
    )


def smoothstep(x: Floats) -> Floats:
    """0 below 0, 1 above 1, smooth between."""
    x = np.clip(x, 0.0, 1.0)
    return np.asarray(x * x * (3.0 - 2.0 * x), dtype=np.float32)
