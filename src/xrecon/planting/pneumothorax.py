"""Plant a pneumothorax in a healthy chest CT, with exact truth.

The lung contracts in a smooth flow (`flow`), the space it leaves is air or fluid, and both are drawn with partial
volume (`render`). Nothing here knows how a pneumothorax is found: no threshold is shared with a segmenter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from xrecon.anatomy.healthy_lungs import ChestAir
from xrecon.anatomy.morphology import Spacing, beside_mask, bounding_box, depth_mm
from xrecon.errors import InputError
from xrecon.planting.mechanisms.collapse import collapsed_side
from xrecon.planting.mechanisms.offset import set_back_side
from xrecon.planting.noise import ScanNoise
from xrecon.planting.pattern import MECHANISMS, PATTERN_NAMES
from xrecon.planting.planted_side import PlantedSide
from xrecon.planting.prepared import PlantableChest, prepare_chest
from xrecon.planting.render import PLEURA_MM
from xrecon.planting.truth import PlantedOccupancy, PlantedVolumes, PlantingSettings, Truth
from xrecon.segmentation import Label, Side
from xrecon.volume import RESEARCH_NOTICE, Volume

_DRAWN: Mapping[str, Callable[..., PlantedSide]] = {"flow": collapsed_side, "offset": set_back_side}
"""Mechanism -> function that draws one side; the names are those of `xrecon.planting.pattern.MECHANISMS`."""


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
    mechanism: str = "flow",
    chest: ChestAir | None = None,
    prepared: PlantableChest | None = None,
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
        mechanism: "flow" (the lung contracts in a smooth flow and keeps its mass) or "offset" (its surface is set back
            from the wall by a smooth random depth; no fluid).
        chest: `xrecon.anatomy.healthy_lungs.find_lungs(ct)`, to plant several times in one CT without finding its
            lungs again.
        prepared: `xrecon.planting.prepare_chest(ct)`, to plant several times in one CT with all that does not depend on
            the plant computed once.

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
    settings = PlantingSettings(side, occupancy, seed, pattern, tension, effusion_ml, pleura_mm, mechanism)
    if prepared is None:
        prepared = prepare_chest(ct, chest)
    elif prepared.ct is not ct or (chest is not None and chest is not prepared.chest):
        raise InputError("the prepared chest is that of another CT: call prepare_chest(ct) for this one")
    # The first mechanism keeps the random numbers that it had when it was the only one.
    stream = [seed, 5, PATTERN_NAMES.index(pattern), int(side == "left")]
    rng = np.random.default_rng(stream if mechanism == MECHANISMS[0] else [*stream, MECHANISMS.index(mechanism)])
    noise = prepared.noise
    pleural_space = prepared.pushed(side, tension)
    planted = _DRAWN[mechanism](pleural_space, settings, noise=noise, rng=rng)
    truth = _truth(pleural_space.ct, pleural_space.chest, planted, settings, noise)
    return _sick_ct(pleural_space.ct, planted, settings), truth


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
        float(np.count_nonzero(labels == value)) * ct.voxel_ml
        for value in (Label.RIGHT_LUNG, Label.LEFT_LUNG, Label.AIR)
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
        shares=planted.shares,
        carina=chest.carina,
    )


def _max_depth_mm(planted: PlantedSide, spacing: Spacing) -> float:
    """Largest distance of the lung's free surface from the wall of the cavity, across the pocket, mm."""
    inside = planted.air | planted.lung
    box = bounding_box(inside, margin=1)
    if box is None:
        return 0.0
    to_wall = depth_mm(inside[box], spacing)
    beside = planted.air[box] & beside_mask(planted.lung[box], 1.01 * max(spacing), spacing)
    return float(to_wall[beside].max()) if beside.any() else 0.0
