"""Draw a fitted pneumothorax into a reconstructed CT: free air, the line of the pleura, and the lung that gave way.

The lung keeps its mass: what is left of it gets denser by as much as it became smaller, up to airless lung.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from xrecon.anatomy.morphology import Floats, Mask, Spacing, box_of, depth_mm, distance_mm
from xrecon.inference.paint.surfaces import PleuralSurfaces
from xrecon.volume import Volume
from xrecon.warp import Grid

AIR_HU = -1000.0
_PLEURA_HU = 10.0
_AIRLESS_HU = 60.0
_PARENCHYMA_HU = -300.0
"""Denser voxels of a reconstructed lung are vessels, which do not get denser."""
_EDGE_DENSITY = 250.0
"""Below the density of `_PARENCHYMA_HU`: over this range voxels go from wall to lung."""
_NEAR_MM = 8.0
_MARGIN_MM = 30.0
"""Round the pleural space: what is drawn depends on nothing farther away."""
_RIM_MM = 8.0
"""Round the lung of the reconstruction: where its blurred edge lies."""
_WALL_DENSITY = (850.0, 1080.0)
"""Fat to muscle: what the wall between ribs is made of."""
_BESIDE_MM, _BESIDE_WIDTH_MM = 14.0, 8.0
"""Up to this distance from the air the wall and the rim of the lung are drawn anew, fading over the width."""


@dataclass(frozen=True, eq=False)
class PaintedSide:
    """What was drawn on one side, on the grid of the CT.

    Attributes:
        air: [D, H, W] float32 0..1, free pleural air.
        lung: [D, H, W] float32 0..1, lung of that side.
        density_factor: how much denser the lung became.
    """

    air: Floats
    lung: Floats
    density_factor: float


def paint_side(ct: Volume, lung: Mask, surfaces: PleuralSurfaces) -> tuple[Volume, PaintedSide]:
    """The CT with the free air of one pleural space in it; unchanged where no voxel is half air.

    Args:
        ct: reconstruction on a cube round the isocentre, HU.
        lung: [D, H, W] bool, the reconstructed lung of this side.
        surfaces: as fitted to the thickness maps.
    """
    grid = Grid(ct.shape, ct.spacing_mm[0])
    parts = surfaces.on(grid)
    air, pleura, hemithorax = (
        np.asarray(part.numpy(), dtype=np.float32) for part in (parts.air, parts.pleura, parts.hemithorax)
    )
    if not (air >= 0.5).any():
        return ct, PaintedSide(np.zeros_like(air), lung.astype(np.float32), 1.0)
    touched = lung | (air + pleura > 1e-3) | (distance_mm(lung, ct.spacing_mm) <= _RIM_MM)
    hu, share = np.array(ct.hu), np.zeros(ct.shape, dtype=np.float32)
    box = box_of(touched, ct.spacing_mm, margin_mm=_MARGIN_MM)
    inside = _LungBox(hu[box] + np.float32(1000.0), lung[box], air[box], pleura[box], hemithorax[box], ct.spacing_mm)
    density, left, factor = inside.drawing()
    hu[box] = np.where(touched[box], density - 1000.0, hu[box])
    share[box] = left * lung[box]
    return ct.with_hu(hu), PaintedSide(air, share, factor)


@dataclass(frozen=True, eq=False)
class _LungBox:
    """The part of the CT round one pleural space, [D, H, W] each; density is HU + 1000, shares are 0..1."""

    density: Floats
    lung: Mask
    air: Floats
    pleura: Floats
    hemithorax: Floats
    spacing: Spacing

    def drawing(self) -> tuple[Floats, Floats, float]:
        """Density with the air in it, the share of what is neither air nor wall, and how much denser the lung got."""
        beside = _nearness(self.air, self.spacing)
        # Beside the air the wall lies where the films put it; elsewhere the reconstruction stays as it is.
        rim = distance_mm(self.lung, self.spacing) <= _RIM_MM
        outside = beside * np.where(rim, 1.0 - self.hemithorax, 0.0)
        base = _lung_inside(self.density, self.lung, self.spacing, near=beside)
        parenchyma = self.lung & (base < _PARENCHYMA_HU + 1000.0)
        left = np.clip(1.0 - self.air - self.pleura - outside, 0.0, 1.0)
        factor = _density_factor(base, left * parenchyma, float(base[parenchyma].sum(dtype=np.float64)))
        # Voxels between lung and tissue are partly wall or vessel, and get denser by less.
        aerated = np.clip((_PARENCHYMA_HU + 1000.0 - base) / _EDGE_DENSITY, 0.0, 1.0)
        denser = 1.0 + (factor - 1.0) * _soft(parenchyma) * aerated
        tissue = np.minimum(base * denser, np.maximum(base, np.float32(_AIRLESS_HU + 1000.0)))
        wall = _wall_inside(self.density, self.lung, self.spacing)
        # Ribs stay; the blurred edge of the lung as it was becomes wall.
        wall = np.where(self.lung, wall, np.maximum(wall, self.density))
        free = self.air * np.float32(AIR_HU + 1000.0) + self.pleura * np.float32(_PLEURA_HU + 1000.0)
        return np.asarray(free + outside * wall + left * tissue, dtype=np.float32), left, factor


def _nearness(air: Floats, spacing: Spacing) -> Floats:
    """[D, H, W] 1 in and beside the air, 0 from about 15 mm on."""
    distance = distance_mm(air > 0.5, spacing)
    return np.asarray(np.clip((_BESIDE_MM - distance) / _BESIDE_WIDTH_MM, 0.0, 1.0), dtype=np.float32)


def _soft(mask: Mask) -> Floats:
    return np.asarray(ndimage.gaussian_filter(mask.astype(np.float32), 0.7) * mask, dtype=np.float32)


def _density_factor(base: Floats, share: Floats, mass: float) -> float:
    """How much denser the remaining lung has to be to weigh what the whole one did; 1 to 6."""
    reached = float((base * share).sum(dtype=np.float64))
    return float(np.clip(mass / max(reached, 1.0), 1.0, 6.0))


def _lung_inside(density: Floats, lung: Mask, spacing: Spacing, *, near: Floats) -> Floats:
    """The density with the rim of the lung beside the air taken from the lung behind it: its voxels are partly wall."""
    inner = lung & (depth_mm(lung, spacing) > 1.6 * max(spacing))
    rim = lung & ~inner
    smooth = _spread(density, inner & (density < _PARENCHYMA_HU + 1000.0), spacing)
    return np.where(rim, density + near * (smooth - density), density).astype(np.float32)


def _wall_inside(density: Floats, lung: Mask, spacing: Spacing) -> Floats:
    """The density of the wall round the lung, continued into it."""
    low, high = _WALL_DENSITY
    near = distance_mm(lung, spacing) < max(4.0 * max(spacing), 2.0 * _RIM_MM)
    tissue = ~lung & near & (density > low) & (density < high)
    return _spread(density, tissue, spacing)


def _spread(values: Floats, where: Mask, spacing: Spacing) -> Floats:
    """Local mean of the values at `where`, everywhere; far from it the mean of all of them."""
    sigma = [_NEAR_MM / s for s in spacing]
    weight = ndimage.gaussian_filter(where.astype(np.float32), sigma)
    mean = ndimage.gaussian_filter(np.where(where, values, 0.0).astype(np.float32), sigma)
    everywhere = np.float32(values[where].mean()) if where.any() else np.float32(0.0)
    return np.where(weight > 1e-3, mean / np.maximum(weight, 1e-3), everywhere).astype(np.float32)
