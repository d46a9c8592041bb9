"""Plant a pneumothorax in a healthy chest CT, with exact truth.

The lung contracts in a smooth flow (`plant_flow`), the space it leaves is air or fluid, and both are drawn with partial
volume (`plant_render`). Nothing here knows how a pneumothorax is found: no threshold is shared with a segmenter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import cc3d
import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.healthy_lungs import ChestAir, find_lungs
from xrecon.anatomy.morphology import Floats, Mask, Spacing, box_of, depth_mm, distance_mm
from xrecon.errors import InputError
from xrecon.planting.flow import Cavity, collapse_to, inflow_velocity
from xrecon.planting.noise import ScanNoise, measure_noise
from xrecon.planting.pattern import PATTERNS, SPREADS, contraction, inflow
from xrecon.planting.render import PLEURA_MM, Motion, Scene, Wall, build_scene, find_wall, match_mass, move
from xrecon.planting.shift import FULL_SHIFT_MM, shift_mediastinum
from xrecon.resample import resample_separable
from xrecon.segmentation import Label, Segmentation, SegmentationDetails, Side
from xrecon.volume import RESEARCH_NOTICE, Volume

__all__ = ["PATTERNS", "plant_pneumothorax"]

_PITCH_MM = (4.0, 8.0)
"""Finest and coarsest grid of the flow; between them it follows the CT's voxels."""
_MARGIN_MM = 14.0
_FLUID_HU = 12.0
MIN_OCCUPANCY, MAX_OCCUPANCY = 0.01, 0.90
MAX_EFFUSION_SHARE = 0.4
_MAX_TRIES = 8
_MAX_PUSH_MM = 1.5
"""The flow meets the asked volume on its coarse grid; what is left is met by shifting the surface by less than this."""


@dataclass(frozen=True, eq=False)
class Planted:
    """What was drawn in the box of one side."""

    density: Floats
    changed: Mask
    air: Mask
    lung: Mask
    fluid_ml: float
    push_mm: float
    mass_before_g: float
    mass_after_g: float


def plant_pneumothorax(
    ct: Volume,
    *,
    side: str = "right",
    occupancy: float = 0.25,
    seed: int = 0,
    pattern: str = "supine",
    tension: float = 0.0,
    effusion_ml: float = 0.0,
    pleura_mm: float = PLEURA_MM,
    chest: ChestAir | None = None,
) -> tuple[Volume, Segmentation]:
    """A chest CT with a pneumothorax, and where it is.

    Args:
        ct: healthy chest, HU, canonical orientation, any spacing.
        side: "right" or "left", the patient's.
        occupancy: air / (air + lung) of that side, 0.01..0.90; the labels meet it to half a percentage point.
        seed: of the pocket's shape and of the noise in it, >= 0.
        pattern: "supine" (in front and at the base), "upright" (at the apex), "lateral", "apical" (a cap) or
            "loculated" (round a random place of the costal wall).
        tension: 0..1, how far air under pressure pushes the mediastinum to the other side (1: 20 mm).
        effusion_ml: fluid in the same pleural space, mL, with a flat level; it sinks to the back, for "upright" to
            the base.
        pleura_mm: thickness of the line between lung and air, mm, 0.1..3.
        chest: `xrecon.anatomy.healthy_lungs.find_lungs(ct)`, to plant several times in one CT without finding its
            lungs again.

    Returns:
        The CT (synthetic, on the same grid) and its truth: 1 right lung, 2 left lung, 3 air where at least half of a
        voxel is free pleural air. `findings` holds what was asked for and what was reached: volumes in mL, occupancy
        per side and of the whole chest, largest depth in mm, mass of the lung before and after, noise.

    Raises:
        InputError: a parameter out of range, the CT not canonical, no lungs in it, or a pocket that does not fit.

    Example:
        >>> from xrecon.phantoms.thorax import thorax_phantom
        >>> sick, truth = plant_pneumothorax(thorax_phantom(64, 6.0).volume, side="left", occupancy=0.3)
        >>> round(truth.findings["occupancy"]["left"], 2)
        0.3
    """
    _check(side, occupancy, seed, pattern, tension, effusion_ml, pleura_mm)
    rng = np.random.default_rng([seed, 5, PATTERNS.index(pattern), int(side == "left")])
    chest = find_lungs(ct) if chest is None else chest
    noise = measure_noise(ct, chest)
    if tension > 0:
        ct, chest = shift_mediastinum(ct, chest, side=side, tension=tension)
    own, other = (chest.right, chest.left) if side == "right" else (chest.left, chest.right)
    box = box_of(own, ct.spacing_mm, margin_mm=_MARGIN_MM)
    hu, cavity = ct.hu[box], own[box]
    fluid_share = _fluid_share(cavity, ct.voxel_ml, occupancy, effusion_ml)
    coarse = _coarse_cavity(cavity, ct.spacing_mm, _root_mm(chest, box, side, ct.spacing_mm))
    wind = inflow(coarse, pattern=pattern, side=side, occupancy=occupancy, fluid_share=fluid_share, rng=rng)
    velocity = inflow_velocity(coarse, wind, contraction(coarse, rng))
    wall = find_wall(hu, cavity, chest.airway[box] | other[box], ct.spacing_mm)
    fluid_voxels = effusion_ml / ct.voxel_ml
    motion = _collapse(coarse, velocity, wall, ct.spacing_mm, occupancy, fluid_voxels, SPREADS[pattern].gravity)
    planted = _draw(hu, wall, motion, ct, occupancy, effusion_ml, pleura_mm, SPREADS[pattern].gravity, noise, rng)
    out = np.array(ct.hu)
    out[box] = np.where(planted.changed, np.clip(planted.density - 1000.0, ct.hu.min(), None), hu)
    sick = replace(ct, hu=out, synthetic=True, notes=(*ct.notes, f"{side} pneumothorax planted; {RESEARCH_NOTICE}"))
    asked = {
        "side": side,
        "occupancy": occupancy,
        "seed": seed,
        "pattern": pattern,
        "tension": tension,
        "effusion_ml": effusion_ml,
        "pleura_mm": pleura_mm,
    }
    return sick, _truth(ct, chest, box, side, planted, asked, noise)


def _check(
    side: str, occupancy: float, seed: int, pattern: str, tension: float, effusion_ml: float, pleura_mm: float
) -> None:
    if side not in ("right", "left"):
        raise InputError(f'side must be "right" or "left" (the patient\'s), got {side!r}')
    if pattern not in PATTERNS:
        raise InputError(f"pattern must be one of {', '.join(PATTERNS)}, got {pattern!r}")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InputError(f"seed must be an integer of at least 0, got {seed!r}")
    for name, value, low, high in (
        ("occupancy", occupancy, MIN_OCCUPANCY, MAX_OCCUPANCY),
        ("tension", tension, 0.0, 1.0),
        ("effusion_ml", effusion_ml, 0.0, 3000.0),
        ("pleura_mm", pleura_mm, 0.1, 3.0),
    ):
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise InputError(f"{name} must be a number from {low:g} to {high:g}, got {value!r}")
        if not (math.isfinite(value) and low <= value <= high):
            raise InputError(f"{name} must be from {low:g} to {high:g}, got {value:g}")


def _fluid_share(cavity: Mask, voxel_ml: float, occupancy: float, effusion_ml: float) -> float:
    """Share of the fluid in what replaces the lung."""
    room_ml = float(cavity.sum()) * voxel_ml
    if effusion_ml > MAX_EFFUSION_SHARE * room_ml:
        raise InputError(
            f"effusion_ml={effusion_ml:g} does not fit: at most {MAX_EFFUSION_SHARE:.0%} of the cavity's "
            f"{room_ml:.0f} mL, {MAX_EFFUSION_SHARE * room_ml:.0f} mL"
        )
    air_ml = occupancy * (room_ml - effusion_ml)
    return effusion_ml / (air_ml + effusion_ml)


def _coarse_cavity(cavity: Mask, spacing: Spacing, root_mm: NDArray[np.float64]) -> Cavity:
    pitch = min(max(_PITCH_MM[0], *spacing), _PITCH_MM[1])
    scale = tuple(pitch / s for s in spacing)
    shape = tuple(int(np.ceil((n - 1) / f)) + 1 for n, f in zip(cavity.shape, scale, strict=True))
    soft = resample_separable(
        cavity.astype(np.float32), shape, scale=(scale[0], scale[1], scale[2]), offset=(0.0, 0.0, 0.0), fill=0.0
    )
    # One connected piece: the flow's equation has a solution only where in- and outflow balance.
    mask = cc3d.largest_k(soft > 0.5, k=1, connectivity=6) > 0
    if mask.sum() < 200:
        raise InputError(
            f"the lung is too small to plant in: {mask.sum()} voxels of {pitch:g} mm, expected at least 200"
        )
    return Cavity.of(mask, pitch, root_mm)


def _root_mm(chest: ChestAir, box: tuple[slice, slice, slice], side: str, spacing: Spacing) -> NDArray[np.float64]:
    """The lung root, mm from the box's first voxel: 20 mm below the fork of the windpipe, at the lung's medial face."""
    cavity = (chest.right if side == "right" else chest.left)[box]
    places = np.argwhere(cavity) * np.asarray(spacing)
    start = np.array([part.start for part in box]) * np.asarray(spacing)
    medial = 1.0 if side == "right" else -1.0
    if chest.carina is not None:
        wanted = np.asarray(chest.carina) * np.asarray(spacing) - start + np.array([20.0, 5.0, -medial * 30.0])
    else:
        wanted = places.mean(axis=0)
        wanted[2] = (places[:, 2] * medial).max() * medial
    return np.asarray(places[np.argmin(((places - wanted) ** 2).sum(axis=1))], dtype=np.float64)


def _collapse(
    coarse: Cavity,
    velocity: Floats,
    wall: Wall,
    spacing: Spacing,
    occupancy: float,
    fluid_voxels: float,
    gravity: int,
) -> Motion:
    """The collapse whose labels come nearest to the occupancy.

    The flow knows volumes on its coarse grid only; how much lung it must leave is found by the secant method.
    """
    fluid = fluid_voxels / float((1.0 - wall.share).sum(dtype=np.float64))
    remaining = (1.0 - occupancy) * (1.0 - fluid)
    tried: list[tuple[float, float]] = []
    best, best_error = None, math.inf
    for _ in range(_MAX_TRIES):
        collapse = collapse_to(coarse, velocity, remaining)
        motion = move(wall, collapse, pitch_mm=coarse.pitch_mm, spacing=spacing)
        error = _occupancy(wall, motion, 0.0, fluid_voxels, gravity)[0] - occupancy
        if best is None or abs(error) < best_error:
            best, best_error = motion, abs(error)
        if best_error < min(0.003, 0.15 * occupancy):
            break
        slope = 0.7
        if tried and abs(error - tried[-1][1]) > 1e-6 and remaining != tried[-1][0]:
            slope = (tried[-1][1] - error) / (remaining - tried[-1][0])
        tried.append((remaining, error))
        remaining = float(np.clip(remaining + error / np.clip(slope, 0.3, 3.0), 0.02, 0.999))
    assert best is not None
    return best


def _draw(
    hu: Floats,
    wall: Wall,
    motion: Motion,
    ct: Volume,
    occupancy: float,
    effusion_ml: float,
    pleura_mm: float,
    gravity: int,
    noise: ScanNoise,
    rng: np.random.Generator,
) -> Planted:
    spacing, voxel_ml = ct.spacing_mm, ct.voxel_ml
    push, below = _meet_occupancy(wall, motion, spacing, occupancy, effusion_ml / voxel_ml, gravity)
    scene = build_scene(hu, wall, motion, spacing=spacing, push_mm=push, pleura_mm=pleura_mm)
    air_density = np.float32(noise.air_hu + 1000.0)
    gap_density = air_density + below * np.float32(_FLUID_HU + 1000.0 - air_density)
    density, before, after = match_mass(scene, hu, gap_density=gap_density)
    grain = noise.draw((hu.shape[0], hu.shape[1], hu.shape[2]), rng)
    density = density + grain * _noise_gain(scene, motion)
    air = scene.gap_share * (1.0 - below) >= 0.5
    lung = (wall.share < 0.5) & (scene.lung_share >= 0.5)
    fluid_ml = float((scene.gap_share * below).sum(dtype=np.float64)) * voxel_ml
    changed = (wall.share < 1.0) & (scene.moved > 0.0)
    return Planted(density, changed, air, lung, fluid_ml, push, before * voxel_ml / 1000.0, after * voxel_ml / 1000.0)


def _noise_gain(scene: Scene, motion: Motion) -> Floats:
    """How much noise each voxel lacks: all of it in the gap, in moved lung what the resampling took away."""
    shrunk = max(float(np.exp(np.log(np.maximum(motion.factor, 1.0)).mean())), 1.0) ** (1.0 / 3.0)
    kept = min(1.0, shrunk**3 / (1.0 + 0.8 * (shrunk**2 - 1.0)) ** 1.5) * 0.85
    missing = (1.0 - scene.lung_share) + scene.lung_share * math.sqrt(1.0 - kept**2)
    return np.asarray(np.sqrt(1.0 - scene.wall.share) * missing * scene.moved, dtype=np.float32)


def _occupancy(wall: Wall, motion: Motion, push_mm: float, fluid_voxels: float, gravity: int) -> tuple[float, Floats]:
    """Occupancy by the labels when the lung's surface recedes by `push_mm`, and the share of fluid [D, H, W]."""
    share = wall.share[motion.near]
    lung = motion.lung_share(push_mm)
    gap = np.zeros(wall.share.shape, dtype=np.float32)
    gap[motion.near] = (1.0 - share) * (1.0 - lung)
    below = _below_level(gap, fluid_voxels, gravity)
    air = int(np.count_nonzero(gap * (1.0 - below) >= 0.5))
    tissue = int(np.count_nonzero((share < 0.5) & (lung >= 0.5)))
    return air / max(air + tissue, 1), below


def _meet_occupancy(
    wall: Wall, motion: Motion, spacing: Spacing, occupancy: float, fluid_voxels: float, gravity: int
) -> tuple[float, Floats]:
    """How far to push the lung's surface so that the labels meet the occupancy, and the share of fluid [D, H, W]."""
    low, high = -_MAX_PUSH_MM, _MAX_PUSH_MM
    middle, error, below = 0.0, 1.0, np.zeros(0, dtype=np.float32)
    for _ in range(12):
        middle = 0.5 * (low + high)
        reached, below = _occupancy(wall, motion, middle, fluid_voxels, gravity)
        error = reached - occupancy
        if abs(error) < 2e-4:
            break
        low, high = (middle, high) if error < 0 else (low, middle)
    if abs(error) > 0.005:
        raise InputError(
            f"an occupancy of {occupancy:.1%} cannot be drawn on voxels of {max(spacing):.3g} mm: "
            f"{occupancy + error:.1%} reached; use a finer CT or a larger pneumothorax"
        )
    return middle, below


def _below_level(gap: Floats, fluid_voxels: float, gravity: int) -> Floats:
    """Share [D, H, W] of the gap that lies below a flat fluid level, which holds `fluid_voxels` of it."""
    if fluid_voxels <= 0:
        return np.zeros(gap.shape, dtype=np.float32)
    planes = gap.sum(axis=tuple(a for a in range(3) if a != gravity), dtype=np.float64)
    from_below = np.cumsum(planes[::-1])[::-1]
    level = float(np.interp(-fluid_voxels, -from_below, np.arange(gap.shape[gravity])))
    profile = np.clip(np.arange(gap.shape[gravity]) - level + 1.0, 0.0, 1.0).astype(np.float32)
    shape = [-1 if a == gravity else 1 for a in range(3)]
    return np.broadcast_to(profile.reshape(shape), gap.shape)


def _truth(
    ct: Volume,
    chest: ChestAir,
    box: tuple[slice, slice, slice],
    side: str,
    planted: Planted,
    asked: Mapping[str, Any],
    noise: ScanNoise,
) -> Segmentation:
    own, other = (Label.RIGHT_LUNG, Label.LEFT_LUNG) if side == "right" else (Label.LEFT_LUNG, Label.RIGHT_LUNG)
    labels = np.zeros(ct.shape, dtype=np.uint8)
    labels[chest.left if side == "right" else chest.right] = other
    part = labels[box]
    part[planted.lung] = own
    part[planted.air] = Label.AIR
    air_side = np.where(labels == Label.AIR, np.uint8(Side.RIGHT if side == "right" else Side.LEFT), np.uint8(0))
    volumes = {
        name: float((labels == value).sum()) * ct.voxel_ml
        for name, value in (("right_lung", Label.RIGHT_LUNG), ("left_lung", Label.LEFT_LUNG), ("air", Label.AIR))
    }
    lung_ml, air_ml = volumes[f"{side}_lung"], volumes["air"]
    findings = {
        "kind": "planted pneumothorax",
        "notice": RESEARCH_NOTICE,
        "asked": dict(asked),
        "volumes_ml": {**volumes, "fluid": planted.fluid_ml},
        "occupancy": {
            "right": air_ml / (air_ml + lung_ml) if side == "right" else 0.0,
            "left": air_ml / (air_ml + lung_ml) if side == "left" else 0.0,
            "whole_chest": air_ml / max(sum(volumes.values()), 1e-9),
        },
        "mediastinal_shift_mm": asked["tension"] * FULL_SHIFT_MM,
        "max_depth_mm": _max_depth_mm(planted, ct.spacing_mm),
        "lung_mass_g": {"before": planted.mass_before_g, "after": planted.mass_after_g},
        "noise": {
            "air_hu": noise.air_hu,
            "sd_hu": noise.sd_hu,
            "correlation": list(noise.correlation),
            "source": noise.source,
        },
    }
    return Segmentation(labels, air_side, ct.affine, cast(SegmentationDetails, findings), (RESEARCH_NOTICE,))


def _max_depth_mm(planted: Planted, spacing: Spacing) -> float:
    """Largest distance of the lung's free surface from the wall of the cavity, across the pocket, mm."""
    to_wall = depth_mm(planted.air | planted.lung, spacing)
    beside = planted.air & (distance_mm(planted.lung, spacing) <= 1.01 * max(spacing))
    return float(to_wall[beside].max()) if beside.any() else 0.0
