"""Tissue of an augmented chest: densities, bullae, nodules, pleural fluid, and the scanner that saw it all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.anatomy.morphology import Floats, Mask
from xrecon.augmentation.random_streams import log_uniform, signed, uniform, whole
from xrecon.augmentation.settings import Bulla, Density, Effusion, Nodules, Scanner
from xrecon.augmentation.spatial import Chest
from xrecon.volume import OUTSIDE_HU

_BONE_HU = 150.0
_FAT_HU, _FAT_WIDTH_HU = -95.0, 65.0
_LUNG_HU, _TISSUE_HU = -500.0, -250.0
"""All lung below the first, none above the second; between them partial volume with vessels and the chest wall."""
_BULLA_HU = -970.0
_FLUID_HU = (0.0, 25.0)
_MENISCUS_MM = 25.0
_LEAST_LUNG_ML = 300.0


def change_density(chest: Chest, settings: Density, rng: np.random.Generator) -> tuple[Chest, dict[str, Any]]:
    """Lung denser or thinner, with a slope from front to back; fat shifted; bone scaled above 150 HU."""
    factor = log_uniform(rng, settings.lung)
    slope, fat, bone = signed(rng, settings.gradient), signed(rng, settings.fat_hu), log_uniform(rng, settings.bone)
    hu = chest.hu.copy()
    inside = (chest.sides > 0) & (chest.air == 0)
    lung = _lung_share(hu) * inside
    along = np.linspace(-1.0, 1.0, hu.shape[1], dtype=np.float32)[None, :, None] * np.float32(slope)
    hu += lung * (np.float32(factor) * (1.0 + along) - 1.0) * np.maximum(hu + np.float32(1000.0), 0.0)
    fatty = np.clip(1.0 - np.abs(chest.hu - np.float32(_FAT_HU)) / np.float32(_FAT_WIDTH_HU), 0.0, 1.0)
    hu += np.float32(fat) * fatty * ~inside
    hu += np.float32(bone - 1.0) * np.maximum(hu - np.float32(_BONE_HU), 0.0)
    return replace(chest, hu=hu), {"lung": factor, "gradient": slope, "fat_hu": fat, "bone": bone}


def add_bullae(chest: Chest, settings: Bulla, rng: np.random.Generator) -> tuple[Chest, dict[str, Any]]:
    """Balls of air in the lung; the tissue they displace is pressed into a shell of half their radius."""
    hu = chest.hu.copy()
    places, found = _in_lung(chest), []
    for _ in range(whole(rng, settings.count) if len(places) else 0):
        place, radius = places[rng.integers(len(places))], log_uniform(rng, settings.radius_mm)
        box, away = _around(chest, place, 1.5 * radius)
        free = (chest.sides[box] == chest.sides[tuple(place)]) & (chest.air[box] == 0)
        ball = _ball_share(away, radius, chest.pitch_mm) * free
        # Mass of the ball over volume of the shell from r to 1.5 r: 1 / (1.5^3 - 1).
        shell = _ball_share(away, 1.5 * radius, chest.pitch_mm) * free * _lung_share(hu[box]) * (1.0 - ball)
        density = (hu[box] + np.float32(1000.0)) * (1.0 + shell / np.float32(1.5**3 - 1.0))
        hu[box] = (1.0 - ball) * density + ball * np.float32(_BULLA_HU + 1000.0) - np.float32(1000.0)
        found.append({"place": place.tolist(), "radius_mm": radius})
    return replace(chest, hu=hu), {"bullae": found}


def add_nodules(chest: Chest, settings: Nodules, rng: np.random.Generator) -> tuple[Chest, dict[str, Any]]:
    """Balls of soft tissue in the lung. The hemithorax keeps its label: a nodule is part of the lung."""
    hu = chest.hu.copy()
    places, found = _in_lung(chest), []
    for _ in range(whole(rng, settings.count) if len(places) else 0):
        place, radius = places[rng.integers(len(places))], log_uniform(rng, settings.radius_mm)
        level = uniform(rng, settings.hu)
        box, away = _around(chest, place, radius)
        share = _ball_share(away, radius, chest.pitch_mm) * ((chest.sides[box] > 0) & (chest.air[box] == 0))
        hu[box] = np.maximum(hu[box], hu[box] + share * (np.float32(level) - hu[box]))
        found.append({"place": place.tolist(), "radius_mm": radius, "hu": level})
    return replace(chest, hu=hu), {"nodules": found}


def add_effusion(chest: Chest, settings: Effusion, rng: np.random.Generator) -> tuple[Chest, dict[str, Any]]:
    """Fluid at the back or at the base of one hemithorax, with a rim that climbs the chest wall; no longer lung.

    A side with free air keeps its flat level and is left alone.
    """
    upright, share = bool(rng.random() < settings.upright_probability), log_uniform(rng, settings.share)
    level_hu, first = uniform(rng, _FLUID_HU), int(rng.integers(2))
    side = next((s for s in healthy_sides(chest, first)), None)
    if side is None:
        return chest, {"skipped": "no side without free air"}
    cavity = chest.sides == side
    depth = gravity_depth_mm(cavity, chest.pitch_mm, axis=0 if upright else 1)
    columns = np.flatnonzero(cavity.any(axis=(0, 1)))
    lateral = (np.arange(cavity.shape[2]) - columns[0]) / max(len(columns) - 1, 1)
    lateral = 1.0 - lateral if side == 1 else lateral  # the right lung's costal wall has the low columns
    depth = depth + (np.clip(lateral, 0.0, 1.0) ** 3 * _MENISCUS_MM).astype(np.float32)
    fluid = filled_below(depth, cavity.astype(np.float32), share * float(cavity.sum()), chest.pitch_mm)
    density = (chest.hu + np.float32(1000.0)) * (1.0 + cavity * _lung_share(chest.hu) * np.float32(share))
    hu = density - np.float32(1000.0)
    hu = hu + fluid * (np.float32(level_hu) - hu)
    sides = np.where(fluid >= 0.5, np.uint8(0), chest.sides)
    record = {"side": "right" if side == 1 else "left", "upright": upright, "share": share, "hu": level_hu}
    return replace(chest, hu=hu.astype(np.float32), sides=sides), record


def scan(chest: Chest, settings: Scanner, rng: np.random.Generator) -> tuple[Chest, dict[str, Any]]:
    """A softer kernel, and noise with its grain, inside the patient and the measured part only."""
    blur, noise, grain = (uniform(rng, one) for one in (settings.blur_mm, settings.noise_hu, settings.grain_mm))
    hu = chest.hu
    if blur > 0.2 * chest.pitch_mm:
        hu = ndimage.gaussian_filter(hu, blur / chest.pitch_mm, mode="nearest", truncate=3.0)
    else:
        hu, blur = hu.copy(), 0.0
    pattern = rng.standard_normal(hu.shape, dtype=np.float32)
    if grain > 0.2 * chest.pitch_mm:
        pattern = ndimage.gaussian_filter(pattern, grain / chest.pitch_mm, mode="wrap", truncate=3.0)
    pattern *= np.float32(noise / max(float(pattern.std()), 1e-6))
    hu += pattern * (chest.measured & (chest.hu > OUTSIDE_HU + 4.0))
    return replace(chest, hu=np.maximum(hu, np.float32(OUTSIDE_HU))), {
        "blur_mm": blur,
        "noise_hu": noise,
        "grain_mm": grain,
    }


def healthy_sides(chest: Chest, first: int) -> list[int]:
    """Sides (1 right, 2 left) with a lung and without free air; with `first` 1 the left one comes first."""
    out = []
    for side in (1, 2) if first == 0 else (2, 1):
        own = chest.sides == side
        if own.sum() * chest.voxel_ml >= _LEAST_LUNG_ML and not chest.air[own].any():
            out.append(side)
    return out


def gravity_depth_mm(cavity: Mask, pitch_mm: float, *, axis: int) -> Floats:
    """[D, H, W] height of every voxel along `axis` (0 to the feet, 1 to the back), mm, growing downwards."""
    shape = [-1 if a == axis else 1 for a in range(3)]
    along = np.arange(cavity.shape[axis], dtype=np.float32) * np.float32(pitch_mm)
    return np.broadcast_to(along.reshape(shape), cavity.shape)


def filled_below(depth_mm: Floats, room: Floats, voxels: float, pitch_mm: float) -> Floats:
    """[D, H, W] share 0..1 of each voxel that fluid fills: all `room` below a level that makes `voxels` of it."""
    if voxels <= 0:
        return np.zeros(room.shape, dtype=np.float32)
    open_to = room > 0
    values, weights = depth_mm[open_to], room[open_to]
    order = np.argsort(-values, kind="stable")
    filled = np.cumsum(weights[order], dtype=np.float64)
    last = min(int(np.searchsorted(filled, voxels)), len(order) - 1)
    level = float(values[order[last]])
    share = np.clip((depth_mm - np.float32(level)) / np.float32(pitch_mm) + 0.5, 0.0, 1.0)
    return np.asarray(share * room, dtype=np.float32)


def _lung_share(hu: Floats) -> Floats:
    return np.asarray(
        np.clip((np.float32(_TISSUE_HU) - hu) / np.float32(_TISSUE_HU - _LUNG_HU), 0.0, 1.0), dtype=np.float32
    )


def _in_lung(chest: Chest) -> NDArray[np.int64]:
    """[N, 3] voxels of aerated lung."""
    return np.argwhere((chest.sides > 0) & (chest.air == 0) & (chest.hu < -500.0))


def _around(chest: Chest, place: NDArray[np.int64], radius_mm: float) -> tuple[tuple[slice, slice, slice], Floats]:
    """A box round a voxel that holds a ball of this radius, and the distance of its voxels to that voxel, mm."""
    reach = int(np.ceil(radius_mm / chest.pitch_mm)) + 1
    parts = [slice(max(int(p) - reach, 0), int(p) + reach + 1) for p in place]
    axes = [
        (np.arange(n, dtype=np.float32)[part] - np.float32(p)) * np.float32(chest.pitch_mm)
        for n, part, p in zip(chest.hu.shape, parts, place, strict=True)
    ]
    away = np.sqrt(axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2)
    return (parts[0], parts[1], parts[2]), away


def _ball_share(away_mm: Floats, radius_mm: float, pitch_mm: float) -> Floats:
    return np.asarray(np.clip((radius_mm - away_mm) / pitch_mm + 0.5, 0.0, 1.0), dtype=np.float32)
