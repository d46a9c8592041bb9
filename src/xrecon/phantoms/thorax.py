"""An analytic human thorax as CT: asymmetric, of any habitus, with a pneumothorax on demand and its truth.

Every boundary is drawn with partial volume, so the same person appears at any voxel size. The phantom tests whole
chains (a flip of any axis shows) and stands in for patients in the demo; it is no substitute for them in training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.phantoms.airways import draw_airways
from xrecon.phantoms.bones import draw_bones
from xrecon.phantoms.layout import Anatomy
from xrecon.phantoms.lung_contents import BLOOD_HU, lung_hu, vessel_share, vessel_trees
from xrecon.phantoms.organs import draw_body, draw_inside, draw_table, skin_back_y
from xrecon.phantoms.parameters import RANGES, ThoraxParameters
from xrecon.phantoms.radial_collapse import FREE_AIR_HU, RadialCollapse
from xrecon.phantoms.shapes import Floats, Window, occupancy
from xrecon.volume import Volume

__all__ = ["RANGES", "Phantom", "ThoraxParameters", "thorax_phantom"]

RIGHT_LUNG, LEFT_LUNG, FREE_AIR = 1, 2, 3
SURROUNDING_HU = -1000.0
"""Air round the body. Its density is zero, so HU minus this is proportional to mass."""
MAX_SIZE = 512


@dataclass(frozen=True, eq=False)
class Phantom:
    """A thorax and what is known of it.

    Attributes:
        volume: HU in canonical orientation (D feet, H back, W patient's left), centred at the origin; synthetic.
        labels: [D, H, W] uint8: 0 background, 1 right lung, 2 left lung, 3 free pleural air. Lungs include their
            vessels and exclude the lumen of trachea and bronchi.
        structures: masks [D, H, W] bool: body (all within the skin), heart, aorta, liver, spleen, stomach (with its
            gas), stomach_gas, spine, ribs, trachea and airways (lumen), table. But for body, none
            shares a voxel with the labels.
        parameters: what it was made from.
    """

    volume: Volume
    labels: NDArray[np.uint8]
    structures: Mapping[str, NDArray[np.bool_]]
    parameters: ThoraxParameters

    def label_ml(self, label: int) -> float:
        """Volume of one label, mL."""
        return float(np.count_nonzero(self.labels == label)) * self.volume.voxel_ml


def thorax_phantom(size: int = 128, spacing_mm: float = 3.0, *, parameters: ThoraxParameters | None = None) -> Phantom:
    """Make a thorax.

    Args:
        size: voxels along each edge of the cube, 16..512. `size * spacing_mm` of about 384 mm holds the whole chest;
            a smaller cube cuts it off.
        spacing_mm: voxel pitch, 0.5..12 mm.
        parameters: habitus and pneumothorax; default `ThoraxParameters()`.

    Raises:
        InputError: size or spacing out of range; a pneumothorax that does not fit or is too small for the voxels.

    Example:
        >>> phantom = thorax_phantom(48, 8.0)
        >>> phantom.volume.shape
        (48, 48, 48)
    """
    if not 16 <= size <= MAX_SIZE:
        raise InputError(f"the phantom's size must be 16..{MAX_SIZE} voxels, got {size}")
    if not 0.5 <= spacing_mm <= 12.0:
        raise InputError(f"the phantom's spacing_mm must be 0.5..12, got {spacing_mm}")
    parameters = ThoraxParameters() if parameters is None else parameters
    anatomy = Anatomy(parameters)
    grid = Window.cube(size, float(spacing_mm))
    hu = np.full(grid.shape, SURROUNDING_HU, dtype=np.float32)
    structures: dict[str, NDArray[np.bool_]] = {}
    if parameters.table:
        structures["table"] = draw_table(hu, grid, skin_back_y(anatomy))
    else:
        structures["table"] = np.zeros(grid.shape, dtype=bool)
    structures["body"] = draw_body(hu, grid, anatomy)
    structures["table"] &= ~structures["body"]
    structures.update(draw_inside(hu, grid, anatomy))
    structures.update(draw_bones(hu, grid, anatomy))
    labels, free_air = _draw_lungs(hu, grid, anatomy)
    structures.update(draw_airways(hu, grid, anatomy, free_air))
    labels[structures["airways"] & (labels != FREE_AIR)] = 0
    for name in structures.keys() - {"body"}:
        structures[name] &= labels == 0  # a voxel on a boundary belongs to one side
    if parameters.noise_hu > 0:
        rng = np.random.default_rng([parameters.seed, 1])
        hu += np.float32(parameters.noise_hu) * rng.standard_normal(hu.shape, dtype=np.float32)
        np.maximum(hu, -1024.0, out=hu)
    volume = Volume.centred(hu, (spacing_mm, spacing_mm, spacing_mm), synthetic=True)
    labels.flags.writeable = False
    for mask in structures.values():
        mask.flags.writeable = False
    return Phantom(volume, labels, structures, parameters)


def _draw_lungs(hu: Floats, grid: Window, anatomy: Anatomy) -> tuple[NDArray[np.uint8], Floats]:
    """Draw both lungs and the free air; returns the labels and the share of free air per voxel, [D, H, W]."""
    labels = np.zeros(grid.shape, dtype=np.uint8)
    free_air = np.zeros(grid.shape, dtype=np.float32)
    for number, side in ((RIGHT_LUNG, "right"), (LEFT_LUNG, "left")):
        window = grid.box(*anatomy.lung_box(side))
        if not window.empty:
            _draw_lung(hu, labels, free_air, window, anatomy, side=side, number=number)
    if anatomy.parameters.pneumothorax_side is not None and not (labels == FREE_AIR).any():
        raise InputError("the pneumothorax lies outside the phantom's cube; use a larger size or spacing_mm")
    return labels, free_air


def _draw_lung(
    hu: Floats,
    labels: NDArray[np.uint8],
    free_air: Floats,
    window: Window,
    anatomy: Anatomy,
    *,
    side: str,
    number: int,
) -> None:
    p = anatomy.parameters
    cavity = anatomy.cavity(window, side)
    room = occupancy(cavity, window.spacing_mm)
    # Densities count from the surrounding air: 0 is air, 1000 is water.
    parenchyma_hu = lung_hu(window.y, -anatomy.half_depth, anatomy.half_depth)
    tissue = parenchyma_hu - np.float32(SURROUNDING_HU)
    gas_density = np.float32(FREE_AIR_HU - SURROUNDING_HU)
    blood = np.float32(BLOOD_HU - SURROUNDING_HU)
    # Each lung has its own stream of random numbers: a pneumothorax or the other lung does not change its vessels.
    trees = vessel_trees(anatomy, side, np.random.default_rng([p.seed, 2 + number]))
    vessels = vessel_share(window, trees)
    lung, share = cavity, room
    if p.pneumothorax_side == side:
        mass = float((room * (tissue * (1 - vessels) + blood * vessels))[cavity <= 0].sum(dtype=np.float64))
        collapse = RadialCollapse(anatomy, side)
        lung = collapse.solve(window, cavity, p.pneumothorax_ml)
        share = np.minimum(occupancy(lung, window.spacing_mm), room)
        vessels = vessel_share(window, trees, collapse.warp)
        inside = lung <= 0
        gas = float((gas_density * (room - share))[inside].sum(dtype=np.float64))
        solid = float((share * blood * vessels)[inside].sum(dtype=np.float64))
        airy = float((share * tissue * (1 - vessels))[inside].sum(dtype=np.float64))
        tissue = tissue * np.float32(max(mass - solid - gas, 0.0) / max(airy, 1e-9))
        if float(tissue.max()) > blood:
            raise InputError(
                f"a pneumothorax of {p.pneumothorax_ml:g} mL would press the {side} lung to more than the density of "
                "blood; ask for less"
            )
    filled = share * (tissue * (1 - vessels) + blood * vessels) + (room - share) * gas_density
    part = hu[window.slices]
    part += filled - room * (part - np.float32(SURROUNDING_HU))
    part_labels = labels[window.slices]
    part_labels[lung <= 0] = number
    part_labels[(cavity <= 0) & (lung > 0)] = FREE_AIR
    free_air[window.slices] += room - share
