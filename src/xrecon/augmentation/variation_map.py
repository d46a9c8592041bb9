"""The backward map of a varied chest: fitted to another patient's lungs, then breathing, size and posture on top.

Places are (d, h, w) mm: of the new chest from the middle of its lungs' box, of the source from the middle of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.anatomy.healthy_lungs import ChestAir
from xrecon.anatomy.morphology import Floats, Mask, bounding_box, signed_mm
from xrecon.augmentation.lung_shapes import PITCH_MM, LungShapes
from xrecon.volume import Volume
from xrecon.warp import Grid, SplineField, sample

_FIT_GRID = Grid((52, 44, 52), 8.0)
"""Where the fit to another patient's lungs is computed; covers 416 x 352 x 416 mm."""
_KNOT_MM = 44.0
_FIT_STEPS = 50
_CLIP_MM = 24.0
"""Distances to a lung's surface beyond this do not count."""
_STIFFNESS = 0.02
_SHAPE_SHARE = 0.75
"""Share of the maps that follow another patient's lungs; the others are random fields."""
_CHECK_MM = 8.0


@dataclass(frozen=True, eq=False)
class VariationMap:
    """source = spacing^-1 (middle + breathing(R (scale x) + spline(x))), as indices of the source.

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
        least_jacobian, mean_jacobian: source volume per new volume: smallest value, and mean over the lungs.
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
    least_jacobian: float = 1.0
    mean_jacobian: float = 1.0

    def indices(self, places_mm: Sequence[NDArray[np.float64]]) -> tuple[Floats, Floats]:
        """[3, P, Q, R] indices of the source at the grid of places along each axis, and the Jacobian [P, Q, R]."""
        origin = self._origin(places_mm)
        steps = [float(axis[1] - axis[0]) for axis in places_mm]
        jacobian = _determinant(origin, steps)
        index = origin / self.spacing.reshape(3, 1, 1, 1).astype(np.float32)
        index += self.middle.reshape(3, 1, 1, 1).astype(np.float32)
        return np.ascontiguousarray(index, dtype=np.float32), jacobian

    def _origin(self, places_mm: Sequence[NDArray[np.float64]]) -> Floats:
        d, h, w = (axis.astype(np.float32) for axis in places_mm)
        out = _spline_values(self.knots_mm, places_mm)
        matrix = (self.rotation * self.scale).astype(np.float32)
        lift = np.float32(self.raise_mm) * self._lift(d, h, w)
        for row in range(3):
            out[row] += matrix[row, 0] * d[:, None, None] + matrix[row, 1] * h[:, None] + matrix[row, 2] * w
        out[0] += lift
        return out

    def _lift(self, d: Floats, h: Floats, w: Floats) -> Floats:
        """[P, Q, R] 0..1: share of the diaphragm's movement, full below the base, none at the apices or in the wall."""
        along = _smoothstep((d - np.float32(self.top_mm)) / np.float32(max(self.base_mm - self.top_mm, 1.0)))
        a, b = self.half_width_mm
        radius: Floats = np.sqrt((h[:, None] / np.float32(a)) ** 2 + (w[None, :] / np.float32(b)) ** 2)
        inside = 1.0 - _smoothstep((radius - 0.75) / np.float32(0.55))
        return np.asarray(along[:, None, None] * inside[None], dtype=np.float32)

    def forward(
        self, index: tuple[float, float, float], places_mm: Sequence[NDArray[np.float64]]
    ) -> tuple[float, float, float]:
        """Index in the new grid of the place whose origin is nearest to an index of the source."""
        stride = 4
        coarse = [axis[::stride] for axis in places_mm]
        source, _ = self.indices(coarse)
        target = np.asarray(index, dtype=np.float32).reshape(3, 1, 1, 1)
        away = np.linalg.norm((source - target) * self.spacing.reshape(3, 1, 1, 1), axis=0)
        d, h, w = np.unravel_index(int(np.argmin(away)), away.shape)
        return float(d * stride), float(h * stride), float(w * stride)


def draw_map(ct: Volume, chest: ChestAir, shapes: LungShapes | None, rng: np.random.Generator) -> VariationMap:
    """A map drawn at random; its parameters say what it is."""
    lungs = chest.right | chest.left
    low, high = _box(lungs)
    spacing = np.asarray(ct.spacing_mm)
    middle = 0.5 * (low + high)
    source_size = (high - low + 1) * spacing
    parameters: dict[str, Any] = {}
    knots = torch.zeros(SplineField(_FIT_GRID, _KNOT_MM).shape)
    size = rng.uniform(0.9, 1.12)
    if shapes is not None and rng.random() < _SHAPE_SHARE:
        name = shapes.names[rng.integers(len(shapes.names))]
        target, target_size = _target(shapes.masks[name], height=size * rng.uniform(1.08, 1.3), size=size)
        scale = source_size / target_size
        knots = _fit(ct, chest, target, scale, middle)
        parameters["shape"] = name
    else:
        scale = 1.0 / (size * rng.uniform(0.94, 1.06, 3))
        knots = torch.from_numpy(_random_knots(rng, knots.shape))
        parameters["shape"] = None
    new_size = source_size / scale
    turns = np.clip(rng.normal(0.0, [4.0, 2.0, 2.0]), -9.0, 9.0)  # about the long axis; tilts to the back and side
    raise_mm = float(rng.uniform(-10.0, 50.0)) if rng.random() < 0.5 else 0.0
    raise_mm = min(raise_mm, 0.22 * float(new_size[0]))
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
    parameters |= {
        "scale": [round(float(1.0 / s), 4) for s in scale],
        "rotation_deg": [round(float(t), 3) for t in turns],
        "diaphragm_raised_mm": round(raise_mm, 2),
    }
    return _checked(result, lungs, parameters, new_size)


def _checked(
    chest_map: VariationMap, lungs: Mask, parameters: dict[str, Any], new_size: NDArray[np.float64]
) -> VariationMap:
    """The map with its Jacobian measured on a coarse grid over the thorax."""
    places = [np.arange(-0.6 * s, 0.6 * s, _CHECK_MM) for s in new_size]
    index, jacobian = chest_map.indices(places)
    inside = ndimage.map_coordinates(lungs.view(np.uint8), index, order=0, mode="constant") > 0
    mean = float(jacobian[inside].mean()) if inside.any() else 1.0
    least = float(jacobian.min())
    parameters |= {"least_jacobian": round(least, 4), "lung_jacobian": round(mean, 4)}
    return VariationMap(**{**vars(chest_map), "parameters": parameters, "least_jacobian": least, "mean_jacobian": mean})


def _target(mask: NDArray[np.uint8], *, height: float, size: float) -> tuple[torch.Tensor, NDArray[np.float64]]:
    """Clipped signed distances [2, D, H, W] of the target's lungs on the fit's grid, and its box, mm."""
    low, high = _box(mask > 0)
    factor = np.array([height, size, size])
    middle = 0.5 * (low + high)
    pitch = PITCH_MM * factor
    axes = [_FIT_GRID.axis_mm(axis).numpy().astype(np.float64) / pitch[axis] + middle[axis] for axis in range(3)]
    index = np.stack(np.meshgrid(*axes, indexing="ij"))
    maps = []
    for side in (1, 2):
        padded = np.pad(mask == side, 8)
        distance = signed_mm(padded, (float(pitch[0]), float(pitch[1]), float(pitch[2])))
        maps.append(ndimage.map_coordinates(distance, index + 8, order=1, mode="nearest"))
    values = np.clip(np.stack(maps), -_CLIP_MM, _CLIP_MM).astype(np.float32)
    return torch.from_numpy(values), (high - low + 1) * pitch


def _fit(
    ct: Volume, chest: ChestAir, target: torch.Tensor, scale: NDArray[np.float64], middle: NDArray[np.float64]
) -> torch.Tensor:
    """Coefficients of the displacement that brings the source's lungs to the target's; stiff."""
    pitch = 5.0
    source = []
    shape = [int(np.ceil(n * s / pitch)) for n, s in zip(ct.shape, ct.spacing_mm, strict=True)]
    axes = [np.arange(n) * pitch / s for n, s in zip(shape, ct.spacing_mm, strict=True)]
    index = np.stack(np.meshgrid(*axes, indexing="ij"))
    for mask in (chest.right, chest.left):
        coarse = ndimage.map_coordinates(mask.view(np.uint8), index, order=0, mode="constant") > 0
        source.append(np.clip(signed_mm(coarse, (pitch, pitch, pitch)), -2 * _CLIP_MM, _CLIP_MM).astype(np.float32))
    moving = torch.from_numpy(np.stack(source))
    # `sample` counts from the volume's centre.
    centre_mm = (np.asarray(shape) - 1) / 2 * pitch
    offset = torch.from_numpy((middle * np.asarray(ct.spacing_mm) - centre_mm).astype(np.float32))
    positions = _FIT_GRID.positions_mm() * torch.from_numpy(scale.astype(np.float32)) + offset
    spline = SplineField(_FIT_GRID, _KNOT_MM)
    knots = torch.zeros(spline.shape, requires_grad=True)
    optimiser = torch.optim.Adam([knots], lr=2.0)
    near = (target.amax(dim=0) > -_CLIP_MM).float()
    for _ in range(_FIT_STEPS):
        optimiser.zero_grad()
        moved = sample(moving, positions + spline(knots), pitch).clamp(-_CLIP_MM, _CLIP_MM)
        misfit = ((moved - target).abs() * near).sum() / (2 * near.sum())
        loss = misfit + _STIFFNESS * spline.roughness(knots)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return knots.detach()


def _random_knots(rng: np.random.Generator, shape: Sequence[int]) -> Floats:
    amplitude = rng.uniform(4.0, 14.0)
    knots = ndimage.gaussian_filter(rng.standard_normal(tuple(shape)), (0, 0.7, 0.7, 0.7), mode="wrap")
    return np.asarray(knots * amplitude / max(float(knots.std()), 1e-6), dtype=np.float32)


def _spline_values(knots: torch.Tensor, places_mm: Sequence[NDArray[np.float64]]) -> Floats:
    """[3, P, Q, R] of a spline field at any places; beyond the fit's grid the displacement of its border goes on."""
    half = [0.5 * extent - _FIT_GRID.spacing_mm / 2 for extent in _FIT_GRID.extent_mm]
    axes = [torch.from_numpy(np.clip(axis, -h, h).astype(np.float32)) for axis, h in zip(places_mm, half, strict=True)]
    return np.ascontiguousarray(SplineField.at(axes, _FIT_GRID.extent_mm, _KNOT_MM)(knots).permute(3, 0, 1, 2).numpy())


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


def _box(mask: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    box = bounding_box(mask)
    assert box is not None
    return np.array([float(p.start) for p in box]), np.array([float(p.stop - 1) for p in box])


def _smoothstep(x: Floats) -> Floats:
    x = np.clip(x, 0.0, 1.0)
    return np.asarray(x * x * (3.0 - 2.0 * x), dtype=np.float32)
