"""The mechanism "flow": the lung contracts in a smooth flow and keeps its mass, air and fluid fill what it leaves."""

from __future__ import annotations

import math

import numpy as np

from xrecon.anatomy.morphology import Floats
from xrecon.errors import InputError
from xrecon.planting.flow import inflow_velocity
from xrecon.planting.inflow import air_inflow, tissue_contraction
from xrecon.planting.mechanisms.fit_occupancy import Target, fit_collapse, fit_surface
from xrecon.planting.noise import ScanNoise
from xrecon.planting.pattern import PATTERNS
from xrecon.planting.planted_side import PlantedSide
from xrecon.planting.prepared import PlantableSide
from xrecon.planting.render import CollapsedLung, Motion, build_scene, match_mass
from xrecon.planting.truth import LungMass, PlantedShares, PlantingSettings

FLUID_HU = 12.0
_MAX_EFFUSION_SHARE = 0.4
"""Most of the cavity that fluid may fill."""


def collapsed_side(
    prepared: PlantableSide, settings: PlantingSettings, *, noise: ScanNoise, rng: np.random.Generator
) -> PlantedSide:
    """The collapsed lung with air and fluid, drawn in a box round its cavity.

    Raises:
        InputError: the pocket or its fluid does not fit.
    """
    coarse, voxel_ml = prepared.coarse, prepared.ct.voxel_ml
    check_effusion(settings.effusion_ml, prepared.room_ml)
    air_ml = settings.occupancy * (prepared.room_ml - settings.effusion_ml)
    inflow = air_inflow(
        coarse,
        pattern=settings.pattern,
        side=settings.side,
        occupancy=settings.occupancy,
        fluid_share=settings.effusion_ml / (air_ml + settings.effusion_ml),
        rng=rng,
    )
    velocity = inflow_velocity(coarse, inflow, tissue_contraction(coarse, rng))
    gravity = PATTERNS[settings.pattern].gravity
    target = Target(
        prepared.wall, prepared.maps, prepared.spacing, settings.occupancy, settings.effusion_ml / voxel_ml, gravity
    )
    motion = fit_collapse(coarse, velocity, target)
    push_mm, below = fit_surface(target, motion)
    scene = build_scene(
        prepared.hu,
        prepared.wall,
        motion,
        spacing=prepared.spacing,
        push_mm=push_mm,
        pleura_mm=settings.pleura_mm,
    )
    return _draw(prepared, scene, _lost_noise(scene, motion), below, noise=noise, rng=rng)


def check_effusion(effusion_ml: float, room_ml: float) -> None:
    """Refuse more fluid than 40 % of a cavity of `room_ml`.

    Raises:
        InputError: it does not fit.
    """
    if effusion_ml > _MAX_EFFUSION_SHARE * room_ml:
        raise InputError(
            f"effusion_ml={effusion_ml:g} does not fit: at most {_MAX_EFFUSION_SHARE:.0%} of the cavity's "
            f"{room_ml:.0f} mL, {_MAX_EFFUSION_SHARE * room_ml:.0f} mL"
        )


def _draw(
    prepared: PlantableSide,
    scene: CollapsedLung,
    lost_noise: Floats,
    below: Floats,
    *,
    noise: ScanNoise,
    rng: np.random.Generator,
) -> PlantedSide:
    """Density and labels of the scene; `below` [D, H, W] is the share of the gap that lies below the fluid level."""
    hu, voxel_ml = prepared.hu, prepared.ct.voxel_ml
    air_density = np.float32(noise.air_hu + 1000.0)
    gap_density = air_density + below * np.float32(FLUID_HU + 1000.0 - air_density)
    density, before, after = match_mass(scene, hu, gap_density=gap_density)
    density = density + noise.draw((hu.shape[0], hu.shape[1], hu.shape[2]), rng) * lost_noise
    gap = scene.gap_share
    air = np.asarray(gap * (1.0 - below), dtype=np.float32)
    return PlantedSide(
        prepared.box,
        density,
        changed=(scene.wall.share < 1.0) & (scene.moved > 0.0),
        air=air >= 0.5,
        lung=(scene.wall.share < 0.5) & (scene.lung_share >= 0.5),
        fluid_ml=float((gap * below).sum(dtype=np.float64)) * voxel_ml,
        mass=LungMass(before * voxel_ml / 1000.0, after * voxel_ml / 1000.0),
        shares=PlantedShares(prepared.box, air, np.asarray((1.0 - scene.wall.share) * scene.lung_share)),
    )


def _lost_noise(scene: CollapsedLung, motion: Motion) -> Floats:
    """[D, H, W] share of the scan's noise that each voxel lacks: all of it in the gap, in moved lung what resampling
    took away.
    """
    shrunk = max(float(np.exp(np.log(np.maximum(motion.factor, 1.0)).mean())), 1.0) ** (1.0 / 3.0)
    remaining = min(1.0, shrunk**3 / (1.0 + 0.8 * (shrunk**2 - 1.0)) ** 1.5) * 0.85
    missing = (1.0 - scene.lung_share) + scene.lung_share * math.sqrt(1.0 - remaining**2)
    return np.asarray(np.sqrt(1.0 - scene.wall.share) * missing * scene.moved, dtype=np.float32)
