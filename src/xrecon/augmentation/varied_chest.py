"""One chest CT, many anatomies: the lungs of other patients, breathing, size, posture, at the CT's own resolution.

A varied chest is the source CT seen through one smooth backward map (from a place of the new chest to the place of the
source that is drawn there). The masks of lungs, airway and body go through the same map, so that they stay exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.anatomy.body import body_mask, without_table
from xrecon.anatomy.healthy_lungs import ChestAir, find_lungs
from xrecon.anatomy.morphology import Floats, Mask, bounding_box
from xrecon.augmentation.lung_shapes import LungShapes
from xrecon.augmentation.sampling_kernel import sample_all
from xrecon.augmentation.scan_ends import ScanEnds, scan_ends, without_gas
from xrecon.augmentation.variation_map import Places, VariationMap, draw_map
from xrecon.augmentation.variation_settings import VariationSettings
from xrecon.errors import InputError
from xrecon.volume import OUTSIDE_HU, RESEARCH_NOTICE, Volume

_TRIES = 8
LEAST_JACOBIAN = 0.1
"""No place of a varied chest stands for less than this share, or more than its inverse, of the source's volume."""
_LARGEST_VOXELS = 18_000_000
"""A varied chest of more voxels gets coarser ones."""
_MASS_RANGE = (0.55, 1.9)
"""Least and largest change of the lung's density."""
_AIRLESS_HU = 40.0
_COARSE_MM, _COARSE_STEPS = 6.0, (36, 48, 56)
"""Grid on which the new body is looked for: 216 mm to head and feet, 288 mm to front and back, 336 mm to the sides."""
_DENSE, _DENSE_WIDTH = 650.0, 300.0
"""HU + 1000 above which a voxel of the lung is vessel or partly wall, and how soft that limit is."""


@dataclass(frozen=True, eq=False)
class SourceChest:
    """A healthy chest CT, ready to be varied.

    Attributes:
        name: of the case.
        ct: canonical, without its table.
        chest: its lungs, airway and body.
    """

    name: str
    ct: Volume
    chest: ChestAir


@dataclass(frozen=True, eq=False)
class VariedChest:
    """A chest that nobody has.

    Attributes:
        ct: HU, synthetic, canonical.
        chest: lungs, airway and body, carried along by the same map.
        parameters: what was drawn, JSON values.
    """

    ct: Volume
    chest: ChestAir
    parameters: Mapping[str, Any]


def source_chest(ct: Volume, name: str) -> SourceChest:
    """A CT without its table, with its lungs.

    Raises:
        InputError: no body, or no lung on each side.
    """
    ct = ct.canonical()
    body = body_mask(ct)
    ct = without_table(ct, mask=body)
    return SourceChest(name, ct, find_lungs(ct))


def unvaried(source: SourceChest) -> VariedChest:
    """The source itself."""
    return VariedChest(source.ct, source.chest, {"case": source.name, "varied": False})


def varied_chest(
    source: SourceChest,
    shapes: LungShapes | None,
    *,
    seed: tuple[int, ...],
    settings: VariationSettings | None = None,
) -> VariedChest:
    """The source with other lungs, another breath, size and posture; the same for the same arguments.

    Args:
        source: a healthy chest.
        shapes: lungs of other patients; None: only random elastic fields.
        seed: of every choice.
        settings: ranges of the choices.

    Raises:
        InputError: none of several maps leaves the chest unfolded.
    """
    settings = VariationSettings() if settings is None else settings
    for attempt in range(_TRIES):
        rng = np.random.default_rng([*seed, 21, attempt])
        variation = draw_map(source.ct, source.chest, shapes, settings=settings, rng=rng)
        draws = rng.random(2) < settings.carried_on_share
        ends = scan_ends(source.ct, source.chest, head=bool(draws[0]), feet=bool(draws[1]))
        pitch, places = _grid(source, variation, ends)
        jacobian = variation.jacobian(places)
        least, largest = float(jacobian.min()), float(jacobian.max())
        if least > LEAST_JACOBIAN and largest < 1.0 / LEAST_JACOBIAN:
            extra = {
                "least_jacobian": round(least, 4),
                "largest_jacobian": round(largest, 4),
                "carried_on": {"head": ends.head is not None, "feet": ends.feet is not None},
                "pitch_mm": round(pitch, 4),
                "attempt": attempt,
            }
            return _warped(source, variation, ends, (pitch, places), jacobian, extra)
    raise InputError(
        f"none of {_TRIES} maps of seed {seed} leaves the chest of {source.name} unfolded (least change of volume "
        f"{LEAST_JACOBIAN}); take another seed or narrower settings"
    )


def _warped(
    source: SourceChest,
    variation: VariationMap,
    ends: ScanEnds,
    grid: tuple[float, Places],
    jacobian: Floats,
    extra: Mapping[str, Any],
) -> VariedChest:
    """The source seen through a map, on a grid of voxels."""
    pitch, places = grid
    index = variation.indices(places)
    below = ends.carry_on(index)
    hu, codes = sample_all(index, source.ct.hu, _codes(source.chest), np.float32(OUTSIDE_HU))
    body = _nearest(source.chest.body, index)
    sides = codes & 3
    lungs = sides > 0
    without_gas(hu, below, body)
    density = hu + np.float32(1000.0)
    hu = np.where(lungs, _lung_density(density, jacobian, variation.mean_jacobian) - 1000.0, hu)
    hu = np.where(body | lungs, hu, np.float32(OUTSIDE_HU)).astype(np.float32)
    volume = Volume.centred(np.clip(hu, OUTSIDE_HU, 3071.0), (pitch, pitch, pitch), synthetic=True)
    carina = None if source.chest.carina is None else variation.forward(source.chest.carina, places)
    chest = ChestAir(sides == 1, sides == 2, (codes & 8 > 0) & ~lungs, body | lungs, carina)
    parameters = {"case": source.name, "varied": True, **variation.parameters, **extra}
    return VariedChest(replace(volume, notes=(f"varied from a CT; {RESEARCH_NOTICE}",)), chest, parameters)


def _lung_density(density: Floats, jacobian: Floats, mean_jacobian: float) -> Floats:
    """Density of the moved lung: its mass is kept locally; of the change of the whole lung only the square root.

    A patient with larger lungs has heavier ones too; the breath thins or thickens them in full.

    Args:
        density: HU + 1000 where the lung came from.
        jacobian: source volume per new volume.
        mean_jacobian: its mean over the lungs before the breath.
    """
    change = np.clip(jacobian / np.float32(np.sqrt(max(mean_jacobian, 1e-3))), *_MASS_RANGE)
    # Voxels that are partly wall, and vessels, keep theirs: denser ones would look like a pleural line.
    parenchyma = np.clip((_DENSE - density) / _DENSE_WIDTH, 0.0, 1.0)
    changed = density * (1.0 + (change - 1.0) * parenchyma)
    return np.asarray(np.minimum(changed, np.maximum(density, 1000.0 + _AIRLESS_HU)), dtype=np.float32)


def _codes(chest: ChestAir) -> NDArray[np.uint8]:
    codes = chest.right.astype(np.uint8)
    codes[chest.left] = 2
    codes[chest.airway] |= 8
    return codes


def _nearest(mask: Mask, index: Floats) -> Mask:
    return np.asarray(ndimage.map_coordinates(mask.view(np.uint8), index, order=0, mode="constant") > 0)


def _grid(source: SourceChest, variation: VariationMap, ends: ScanEnds) -> tuple[float, Places]:
    """Voxel pitch and centres along each axis, mm from the middle of the new lungs, of the box round the new body."""
    pitch = float(np.mean(source.ct.spacing_mm))
    reach = [np.arange(-n, n + 1, dtype=np.float64) * _COARSE_MM for n in _COARSE_STEPS]
    index = variation.indices(reach)
    ends.carry_on(index)
    box = bounding_box(_nearest(source.chest.body, index), margin=2)
    assert box is not None
    spans = [(float(axis[part.start]), float(axis[part.stop - 1])) for axis, part in zip(reach, box, strict=True)]
    voxels = float(np.prod([(b - a) / pitch for a, b in spans]))
    pitch *= max(1.0, (voxels / _LARGEST_VOXELS) ** (1.0 / 3.0))
    return pitch, [np.arange(a, b + pitch / 2, pitch, dtype=np.float64) for a, b in spans]
