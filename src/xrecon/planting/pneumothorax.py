"""Plant a pneumothorax in a healthy chest CT, with exact truth.

The lung contracts in a smooth flow (`flow`), the space it leaves is air or fluid, and both are drawn with partial
volume (`render`). Nothing here knows how a pneumothorax is found: no threshold is shared with a segmenter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cc3d
import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.healthy_lungs import ChestAir, find_lungs
from xrecon.anatomy.morphology import Floats, Mask, Spacing, box_of, depth_mm, distance_mm
from xrecon.errors import InputError
from xrecon.planting.fit_occupancy import Target, fit_collapse, fit_surface
from xrecon.planting.flow import Cavity, inflow_velocity
from xrecon.planting.inflow import air_inflow, tissue_contraction
from xrecon.planting.noise import ScanNoise, measure_noise
from xrecon.planting.pattern import PATTERN_NAMES, PATTERNS
from xrecon.planting.render import PLEURA_MM, CollapsedLung, Motion, build_scene, find_wall, match_mass
from xrecon.planting.shift import shift_mediastinum
from xrecon.planting.truth import LungMass, PlantedOccupancy, PlantedVolumes, PlantingSettings, Truth
from xrecon.resample import resample_separable
from xrecon.segmentation import Label, Side
from xrecon.volume import RESEARCH_NOTICE, Volume

_PITCH_MM = (4.0, 8.0)
"""Finest and coarsest grid of the flow; between them it follows the CT's voxels."""
_MARGIN_MM = 14.0
_FLUID_HU = 12.0
_MAX_EFFUSION_SHARE = 0.4
"""Most of the cavity that fluid may fill."""

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class PlantedSide:
    """What was drawn in the box of one side.

    Attributes:
        box: where the arrays below lie in the CT.
        density: [D, H, W] HU + 1000.
        changed: [D, H, W] bool, voxels whose density counts; the others keep the CT's HU.
        air, lung: [D, H, W] bool, the labels.
        fluid_ml: fluid, mL.
        mass: of the lung, g.
    """

    box: Box
    density: Floats
    changed: Mask
    air: Mask
    lung: Mask
    fluid_ml: float
    mass: LungMass


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
) -> tuple[Volume, Truth]:
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
        voxel is free pleural air. A `Truth` also holds what was asked for (`settings`) and what was reached: volumes in
        mL, occupancy per side and of the whole chest, largest depth in mm, mass of the lung before and after, noise.

    Raises:
        InputError: a parameter out of range, the CT not canonical, no lungs in it, or a pocket that does not fit.

    Example:
        >>> from xrecon.phantoms.thorax import thorax_phantom
        >>> sick, truth = plant_pneumothorax(thorax_phantom(64, 6.0).volume, side="left", occupancy=0.3)
        >>> round(truth.occupancy.left, 2)
        0.3
    """
    settings = PlantingSettings(side, occupancy, seed, pattern, tension, effusion_ml, pleura_mm)
    rng = np.random.default_rng([seed, 5, PATTERN_NAMES.index(pattern), int(side == "left")])
    chest = find_lungs(ct) if chest is None else chest
    noise = measure_noise(ct, chest)
    if tension > 0:
        ct, chest = shift_mediastinum(ct, chest, side=side, tension=tension)
    planted = _plant_side(ct, chest, settings, noise, rng)
    return _sick_ct(ct, planted, settings), _truth(ct, chest, planted, settings, noise)


def _plant_side(
    ct: Volume, chest: ChestAir, settings: PlantingSettings, noise: ScanNoise, rng: np.random.Generator
) -> PlantedSide:
    """The collapsed lung with air and fluid, drawn in a box round its cavity."""
    lung, other_lung = (chest.right, chest.left) if settings.side == "right" else (chest.left, chest.right)
    box = box_of(lung, ct.spacing_mm, margin_mm=_MARGIN_MM)
    hu, cavity = ct.hu[box], lung[box]
    fluid_share = _fluid_share(cavity, ct.voxel_ml, settings.occupancy, settings.effusion_ml)
    coarse = _coarse_cavity(cavity, ct.spacing_mm, _root_mm(chest, box, settings.side, ct.spacing_mm))
    inflow = air_inflow(
        coarse,
        pattern=settings.pattern,
        side=settings.side,
        occupancy=settings.occupancy,
        fluid_share=fluid_share,
        rng=rng,
    )
    velocity = inflow_velocity(coarse, inflow, tissue_contraction(coarse, rng))
    wall = find_wall(hu, cavity, chest.airway[box] | other_lung[box], ct.spacing_mm)
    fluid_voxels = settings.effusion_ml / ct.voxel_ml
    gravity = PATTERNS[settings.pattern].gravity
    target = Target(wall, ct.spacing_mm, settings.occupancy, fluid_voxels, gravity)
    motion = fit_collapse(coarse, velocity, target)
    push_mm, below = fit_surface(target, motion)
    scene = build_scene(hu, wall, motion, spacing=ct.spacing_mm, push_mm=push_mm, pleura_mm=settings.pleura_mm)
    return _draw(ct, box, scene, _lost_noise(scene, motion), below, noise, rng)


def _fluid_share(cavity: Mask, voxel_ml: float, occupancy: float, effusion_ml: float) -> float:
    """Share of the fluid in what replaces the lung."""
    room_ml = float(cavity.sum()) * voxel_ml
    if effusion_ml > _MAX_EFFUSION_SHARE * room_ml:
        raise InputError(
            f"effusion_ml={effusion_ml:g} does not fit: at most {_MAX_EFFUSION_SHARE:.0%} of the cavity's "
            f"{room_ml:.0f} mL, {_MAX_EFFUSION_SHARE * room_ml:.0f} mL"
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


def _root_mm(chest: ChestAir, box: Box, side: str, spacing: Spacing) -> NDArray[np.float64]:
    """The lung root, mm from the box's first voxel: 20 mm below the fork of the windpipe, at the lung's medial face."""
    cavity = (chest.right if side == "right" else chest.left)[box]
    places = np.argwhere(cavity) * np.asarray(spacing)
    start = np.array([part.start for part in box]) * np.asarray(spacing)
    medial = 1.0 if side == "right" else -1.0
    if chest.carina is not None:
        expected = np.asarray(chest.carina) * np.asarray(spacing) - start + np.array([20.0, 5.0, -medial * 30.0])
    else:
        expected = places.mean(axis=0)
        expected[2] = (places[:, 2] * medial).max() * medial
    return np.asarray(places[np.argmin(((places - expected) ** 2).sum(axis=1))], dtype=np.float64)


def _draw(
    ct: Volume,
    box: Box,
    scene: CollapsedLung,
    lost_noise: Floats,
    below: Floats,
    noise: ScanNoise,
    rng: np.random.Generator,
) -> PlantedSide:
    """Density and labels of the scene; `below` [D, H, W] is the share of the gap that lies below the fluid level."""
    hu, voxel_ml = ct.hu[box], ct.voxel_ml
    air_density = np.float32(noise.air_hu + 1000.0)
    gap_density = air_density + below * np.float32(_FLUID_HU + 1000.0 - air_density)
    density, before, after = match_mass(scene, hu, gap_density=gap_density)
    density = density + noise.draw((hu.shape[0], hu.shape[1], hu.shape[2]), rng) * lost_noise
    return PlantedSide(
        box,
        density,
        changed=(scene.wall.share < 1.0) & (scene.moved > 0.0),
        air=scene.gap_share * (1.0 - below) >= 0.5,
        lung=(scene.wall.share < 0.5) & (scene.lung_share >= 0.5),
        fluid_ml=float((scene.gap_share * below).sum(dtype=np.float64)) * voxel_ml,
        mass=LungMass(before * voxel_ml / 1000.0, after * voxel_ml / 1000.0),
    )


def _lost_noise(scene: CollapsedLung, motion: Motion) -> Floats:
    """[D, H, W] share of the scan's noise that each voxel lacks: all of it in the gap, in moved lung what resampling
    took away.
    """
    shrunk = max(float(np.exp(np.log(np.maximum(motion.factor, 1.0)).mean())), 1.0) ** (1.0 / 3.0)
    remaining = min(1.0, shrunk**3 / (1.0 + 0.8 * (shrunk**2 - 1.0)) ** 1.5) * 0.85
    missing = (1.0 - scene.lung_share) + scene.lung_share * math.sqrt(1.0 - remaining**2)
    return np.asarray(np.sqrt(1.0 - scene.wall.share) * missing * scene.moved, dtype=np.float32)


def _sick_ct(ct: Volume, planted: PlantedSide, settings: PlantingSettings) -> Volume:
    """The CT with the drawn side in it, marked as synthetic."""
    hu = np.array(ct.hu)
    density = np.clip(planted.density - 1000.0, ct.hu.min(), None)
    hu[planted.box] = np.where(planted.changed, density, ct.hu[planted.box])
    note = f"{settings.side} pneumothorax planted; {RESEARCH_NOTICE}"
    return replace(ct, hu=hu, synthetic=True, notes=(*ct.notes, note))


def _truth(ct: Volume, chest: ChestAir, planted: PlantedSide, settings: PlantingSettings, noise: ScanNoise) -> Truth:
    """Labels of the whole CT and what was reached."""
    is_right = settings.side == "right"
    sick, other = (Label.RIGHT_LUNG, Label.LEFT_LUNG) if is_right else (Label.LEFT_LUNG, Label.RIGHT_LUNG)
    labels = np.zeros(ct.shape, dtype=np.uint8)
    labels[chest.left if is_right else chest.right] = other
    part = labels[planted.box]
    part[planted.lung] = sick
    part[planted.air] = Label.AIR
    air_side = np.where(labels == Label.AIR, np.uint8(Side.RIGHT if is_right else Side.LEFT), np.uint8(0))
    right_ml, left_ml, air_ml = (
        float((labels == value).sum()) * ct.voxel_ml for value in (Label.RIGHT_LUNG, Label.LEFT_LUNG, Label.AIR)
    )
    return Truth(
        labels,
        air_side,
        ct.affine,
        notes=(RESEARCH_NOTICE,),
        source_grid=ct.source_grid,
        settings=settings,
        volumes_ml=PlantedVolumes(right_ml, left_ml, air_ml, planted.fluid_ml),
        occupancy=PlantedOccupancy(
            right=air_ml / (air_ml + right_ml) if is_right else 0.0,
            left=0.0 if is_right else air_ml / (air_ml + left_ml),
            whole_chest=air_ml / max(right_ml + left_ml + air_ml, 1e-9),
        ),
        max_depth_mm=_max_depth_mm(planted, ct.spacing_mm),
        lung_mass_g=planted.mass,
        noise=noise,
    )


def _max_depth_mm(planted: PlantedSide, spacing: Spacing) -> float:
    """Largest distance of the lung's free surface from the wall of the cavity, across the pocket, mm."""
    to_wall = depth_mm(planted.air | planted.lung, spacing)
    beside = planted.air & (distance_mm(planted.lung, spacing) <= 1.01 * max(spacing))
    return float(to_wall[beside].max()) if beside.any() else 0.0
