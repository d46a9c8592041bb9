"""Hemithoraces from the shares that a network gives: its knowledge of where, the CT's own edges of how far.

The network's grid is coarse. What holds air is cut at the same HU and distances as in the classical method; the network
decides which air is chest, which side it is on, and where lung without air lies: collapsed, or filled.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.anatomy.morphology import (
    Box,
    Mask,
    Spacing,
    at_least,
    bounding_box,
    closed,
    components,
    dilated,
    eroded,
    filled,
    select,
    shrunk,
    voxels,
    widened,
)
from xrecon.errors import CheckpointError, InputError, MissingPartError
from xrecon.jobs import at_once
from xrecon.ptxseg.airways import Airways
from xrecon.ptxseg.flood import flood
from xrecon.ptxseg.hemithoraces.lungs import CLOSE_MM, EDGE_HU, MIN_LUNGS_ML, SKIN_VOXELS, WALL_MM, Hemithoraces
from xrecon.ptxseg.hemithoraces.sides import LEFT, RELIEF_HU, RIGHT
from xrecon.volume import Volume

if TYPE_CHECKING:
    from xrecon.models.lung_network import CoarseShares

SHIPPED = "lungs-v1"
"""Folder of the shipped weights."""
_PART_SHARE = 0.4
"""Share of hemithorax from which air counts: a little outside the network's own border, which is coarse."""
_EDGE_SHARE = 0.08
"""The same in parts of the air that are mostly chest: the CT alone says where they end, about a coarse voxel
further."""
_COMPONENT_SHARE = 0.5
"""Mean share of hemithorax from which a part of the air is mostly chest."""
_SURE = 0.85
"""Lead of one side over the other, as a share of both, from which the side is certain."""
_DENSE_SHARE = 0.5
"""Share of a side from which tissue may be its lung without air."""
_DENSE_OPEN_MM = 4.5
"""Lung without air is thicker than twice this; what is thinner is chest wall within the network's own error."""
_DENSE_RIM_MM = 2.0
"""How far the corners that this takes away are given back."""
_DENSE_HU = 180.0
"""What is denser is no lung."""
_FAT_HU = (-140.0, -5.0)
"""Mean over 27 voxels that fat round heart and hilum has, with its partial volume. Lung without air is as dense as
muscle."""
_FAT_SPREAD_HU, _FAT_SPREAD_NOISE = 50.0, 1.5
"""Standard deviation of those 27 voxels (and so many times the noise) up to which they are fat."""
_MIN_SIDE_SHARE = 0.03
"""A side that holds less of both is missing."""
_MIN_DENSE_ML = 5.0
"""Smaller parts of lung without air are left out."""
_MIN_AIR_ML = 3.0
"""Smaller parts of air are left out."""


def hemithoraces_from_shares(
    shares: CoarseShares,
    hu: NDArray[np.float32],
    *,
    body: Mask,
    airways: Airways,
    spacing: Spacing,
    searched: Sequence[int] = (RIGHT, LEFT),
) -> Hemithoraces:
    """Both hemithoraces, or one of them, which costs half.

    Args:
        shares: of background, right and left hemithorax.
        hu: [D, H, W] HU.
        body: [D, H, W] inside the skin.
        airways: of this CT.
        spacing: (D, H, W) mm.
        searched: sides to find; the other stays empty and is not called missing.

    Raises:
        InputError: less than 300 mL of hemithorax where both were looked for.
    """
    sides = np.zeros(hu.shape, dtype=np.uint8)
    box = shares.box(searched, least=_EDGE_SHARE)
    if box is not None:
        box = widened(box, voxels(CLOSE_MM + WALL_MM, spacing), hu.shape)
        sides[box] = _sides(
            shares.fine(box),
            np.ascontiguousarray(hu[box]),
            inside=_below_skin(body, box),
            tubes=np.ascontiguousarray(airways.mask[box]),
            noise_hu=airways.noise_hu,
            spacing=spacing,
            searched=searched,
        )
    if len(searched) < 2:
        return Hemithoraces(sides, None)
    voxel_ml = float(np.prod(spacing)) / 1000.0
    volumes_ml = [float(np.count_nonzero(sides == side)) * voxel_ml for side in (RIGHT, LEFT)]
    if sum(volumes_ml) < MIN_LUNGS_ML:
        raise InputError(
            f"no lungs found: {sum(volumes_ml):.0f} mL of hemithorax inside the body, expected at least "
            f"{MIN_LUNGS_ML:.0f} mL; is this a chest CT in Hounsfield units?"
        )
    named = zip(("right", "left"), volumes_ml, strict=True)
    missing = next((name for name, ml in named if ml < _MIN_SIDE_SHARE * sum(volumes_ml)), None)
    return Hemithoraces(sides, missing)


def _below_skin(body: Mask, box: Box) -> Mask:
    """The box of the body without its outermost voxels."""
    wide = widened(box, SKIN_VOXELS, body.shape)
    d, h, w = (slice(b.start - o.start, b.stop - o.start) for b, o in zip(box, wide, strict=True))
    return np.ascontiguousarray(shrunk(body[wide], SKIN_VOXELS)[d, h, w])


def _sides(
    shares: NDArray[np.float32],
    hu: NDArray[np.float32],
    *,
    inside: Mask,
    tubes: Mask,
    noise_hu: float,
    spacing: Spacing,
    searched: Sequence[int],
) -> NDArray[np.uint8]:
    """The searched sides in the box round the chest: air by side, thick lung without air, closed over vessels."""
    voxel_ml = float(np.prod(spacing)) / 1000.0
    air = (hu < EDGE_HU) & inside & ~dilated(tubes, WALL_MM, spacing)
    steps: tuple[Callable[[], Mask], ...] = (
        partial(_thoracic, air, 1.0 - shares[0], _MIN_AIR_ML / voxel_ml),
        partial(_fat, hu, noise_hu),
    )
    thoracic, fat = at_once(lambda step: step(), steps)
    parted = _parted(thoracic, shares, hu)
    tissue = (hu >= EDGE_HU) & (hu < _DENSE_HU) & inside & ~tubes & ~fat

    def whole(side: int) -> Mask:
        dense = at_least(tissue & (shares[side] > _DENSE_SHARE), _MIN_DENSE_ML / voxel_ml)
        core = eroded(dense, _DENSE_OPEN_MM, spacing)
        thick = at_least(dense & dilated(core, _DENSE_OPEN_MM + _DENSE_RIM_MM, spacing), _MIN_DENSE_ML / voxel_ml)
        return filled(closed((parted == side) | thick, CLOSE_MM, spacing))

    sides = np.where(np.isin(parted, searched), parted, np.uint8(0))
    for side, filled_side in zip(searched, at_once(whole, searched), strict=True):
        sides[filled_side & (parted == 0) & (sides == 0) & inside & ~tubes] = side
    return sides


def _fat(hu: NDArray[np.float32], noise_hu: float) -> Mask:
    """Even fat thicker than two voxels: thinner layers of its density are the edge between lung and tissue.

    Lung that has lost most of its air has the same mean, but is speckled with what is left of it.
    """
    mean = ndimage.uniform_filter(hu, 3)
    spread = ndimage.uniform_filter(np.square(hu), 3) - np.square(mean)
    even = spread < (_FAT_SPREAD_HU + _FAT_SPREAD_NOISE * noise_hu) ** 2
    return np.asarray(ndimage.binary_opening((mean > _FAT_HU[0]) & (mean < _FAT_HU[1]) & even))


def _thoracic(air: Mask, chest: NDArray[np.float32], least: float) -> Mask:
    """The air that belongs to the chest; parts below `least` voxels are left out."""
    labels, sizes = components(air)
    sums = np.bincount(labels.ravel(), weights=chest.ravel(), minlength=len(sizes) + 1)[1:]
    whole = select(labels, 1 + np.flatnonzero(sums >= _COMPONENT_SHARE * sizes), len(sizes))
    return at_least((whole & (chest > _EDGE_SHARE)) | (air & (chest > _PART_SHARE)), least)


def _parted(thoracic: Mask, shares: NDArray[np.float32], hu: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Side of every voxel of the air: where the network is sure its own, between them by a flood over HU."""
    likely = np.where(shares[RIGHT] >= shares[LEFT], np.uint8(RIGHT), np.uint8(LEFT))
    lead = np.abs(shares[RIGHT] - shares[LEFT])
    sides = np.where(thoracic & (lead > _SURE * (1.0 - shares[0])), likely, np.uint8(0))
    band = thoracic & (sides == 0)
    box = bounding_box(band, margin=2)
    if box is not None:
        part = np.ascontiguousarray(sides[box])
        flood(np.ascontiguousarray(hu[box]), part, band[box], low_hu=RELIEF_HU[0], high_hu=RELIEF_HU[1])
        sides[box] = np.where(part == 0, likely[box] * thoracic[box], part)
    return sides


class NetLungs:
    """The own network of PTX-Seg (`xrecon train lungs`).

    Args:
        folder: with `model.safetensors` and `model.json`; None for the weights shipped with the package.

    Attributes:
        network: the network itself.
        information: what its model.json says.

    Raises:
        MissingPartError: no weights there.
        CheckpointError: they are damaged or of another network.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        import torch

        from xrecon.models.checkpoint import load_model
        from xrecon.models.lung_network import LungNet

        place = Path(folder) if folder is not None else Path(str(resources.files("xrecon") / "assets" / SHIPPED))
        if not place.is_dir():
            raise MissingPartError(
                f"no weights of the lung network at {place}: train them with `xrecon train lungs FOLDER -o OUT` "
                f'from a folder of chest CTs, or use lung_model="classical"'
            )
        network, self.information = load_model(place, dtype=torch.float32)
        if not isinstance(network, LungNet):
            raise CheckpointError(
                f"{place}: weights of the family {self.information.family!r}, expected a lung network; give a folder "
                "of `xrecon train lungs`"
            )
        self.network = network

    def __call__(self, volume: Volume, *, body: Mask, airways: Airways) -> Hemithoraces:
        """As `lung_models.LungModel`."""
        return self.only((RIGHT, LEFT), volume, body=body, airways=airways)

    def only(self, searched: Sequence[int], volume: Volume, *, body: Mask, airways: Airways) -> Hemithoraces:
        """The `searched` sides (1 right, 2 left) alone; the rest stays 0."""
        from xrecon.models.lung_network import predict

        hu, spacing = np.asarray(volume.hu), volume.spacing_mm
        shares = predict(self.network, hu, spacing)
        return hemithoraces_from_shares(shares, hu, body=body, airways=airways, spacing=spacing, searched=searched)


@lru_cache(maxsize=2)
def shipped_net() -> NetLungs:
    """The shipped network, read once."""
    return NetLungs()
