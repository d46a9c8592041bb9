"""The fit of one chest's lungs to another patient's: a stiff spline displacement on a coarse grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.anatomy.healthy_lungs import ChestAir
from xrecon.anatomy.morphology import Mask, bounding_box, signed_mm
from xrecon.augmentation.lung_shapes import PITCH_MM
from xrecon.volume import Volume
from xrecon.warp import Grid, SplineField, sample

FIT_GRID = Grid((52, 44, 52), 8.0)
"""Where the fit is computed; covers 416 x 352 x 416 mm round the middle of the lungs' box."""
KNOT_MM = 44.0
"""Distance of the knots: coarser than ribs and vertebrae, so that these move and stretch but keep their form."""
_STEPS = 50
_CLIP_MM = 24.0
"""Distances to a lung's surface beyond this do not count."""
_STIFFNESS = 0.02
_SOURCE_PITCH_MM = 5.0


@dataclass(frozen=True, eq=False)
class LungTarget:
    """The lungs that a chest is to get.

    Attributes:
        distances: [2, D, H, W] mm to the surface of the right and left lung on `FIT_GRID`, positive inside, clipped.
        size_mm: [3] extent of both lungs along D, H, W.
    """

    distances: torch.Tensor
    size_mm: NDArray[np.float64]


def lung_target(mask: NDArray[np.uint8], factor: NDArray[np.float64]) -> LungTarget:
    """A lung shape [D, H, W] (1 right, 2 left, `PITCH_MM`), enlarged by a factor [3] for each axis."""
    low, high = mask_box(mask > 0)
    middle = 0.5 * (low + high)
    pitch = PITCH_MM * factor
    axes = [FIT_GRID.axis_mm(axis).numpy().astype(np.float64) / pitch[axis] + middle[axis] for axis in range(3)]
    index = np.stack(np.meshgrid(*axes, indexing="ij"))
    maps = []
    for side in (1, 2):
        padded = np.pad(mask == side, 8)
        distance = signed_mm(padded, (float(pitch[0]), float(pitch[1]), float(pitch[2])))
        maps.append(ndimage.map_coordinates(distance, index + 8, order=1, mode="nearest"))
    values = np.clip(np.stack(maps), -_CLIP_MM, _CLIP_MM).astype(np.float32)
    return LungTarget(torch.from_numpy(values), (high - low + 1) * pitch)


def fit_lungs(
    ct: Volume, chest: ChestAir, target: LungTarget, *, scale: NDArray[np.float64], middle: NDArray[np.float64]
) -> torch.Tensor:
    """Knots [3, a, b, c] (mm) of the displacement that brings the source's lungs to the target's.

    Least mean difference of the signed distances near the target, with a bending penalty; not exact on purpose.

    Args:
        ct: the source.
        chest: its lungs.
        target: the lungs to reach.
        scale: [3] source mm per target mm along D, H, W, before the displacement.
        middle: index of the middle of the source's lungs.
    """
    moving, centre_mm = _source_distances(ct, chest)
    offset = torch.from_numpy((middle * np.asarray(ct.spacing_mm) - centre_mm).astype(np.float32))
    positions = FIT_GRID.positions_mm() * torch.from_numpy(scale.astype(np.float32)) + offset
    spline = SplineField(FIT_GRID, KNOT_MM)
    knots = torch.zeros(spline.shape, requires_grad=True)
    optimiser = torch.optim.Adam([knots], lr=2.0)
    near = (target.distances.amax(dim=0) > -_CLIP_MM).float()
    for _ in range(_STEPS):
        optimiser.zero_grad()
        moved = sample(moving, positions + spline(knots), _SOURCE_PITCH_MM).clamp(-_CLIP_MM, _CLIP_MM)
        misfit = ((moved - target.distances).abs() * near).sum() / (2 * near.sum())
        loss = misfit + _STIFFNESS * spline.roughness(knots)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return knots.detach()


def _source_distances(ct: Volume, chest: ChestAir) -> tuple[torch.Tensor, NDArray[np.float64]]:
    """Signed distances [2, D, H, W] of the source's lungs on a coarse grid, and its centre from the first voxel, mm."""
    pitch = _SOURCE_PITCH_MM
    shape = [int(np.ceil(n * s / pitch)) for n, s in zip(ct.shape, ct.spacing_mm, strict=True)]
    axes = [np.arange(n) * pitch / s for n, s in zip(shape, ct.spacing_mm, strict=True)]
    index = np.stack(np.meshgrid(*axes, indexing="ij"))
    maps = []
    for mask in (chest.right, chest.left):
        coarse = ndimage.map_coordinates(mask.view(np.uint8), index, order=0, mode="constant") > 0
        maps.append(np.clip(signed_mm(coarse, (pitch, pitch, pitch)), -2 * _CLIP_MM, _CLIP_MM).astype(np.float32))
    # `sample` counts from the volume's centre.
    return torch.from_numpy(np.stack(maps)), (np.asarray(shape) - 1) / 2 * pitch


def mask_box(mask: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """First and last index [3] of a mask that is not empty, along each axis."""
    box = bounding_box(mask)
    assert box is not None
    return np.array([float(p.start) for p in box]), np.array([float(p.stop - 1) for p in box])
