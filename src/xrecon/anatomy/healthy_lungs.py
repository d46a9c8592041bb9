"""Healthy lungs and the windpipe of a chest CT, by side: where a pneumothorax can be planted.

Simple on purpose: it serves CTs without a pneumothorax. Lungs in sick chests are found by `xrecon.ptxseg.hemithoraces`,
which shares none of these thresholds: pockets of air planted in the lungs found here test that search, and a test must
not rest on the decisions of what it tests. Only the body is found by the same search.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cc3d
import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import watershed

from xrecon.anatomy.body import body_mask, coarsened
from xrecon.anatomy.morphology import (
    Box,
    Floats,
    Mask,
    Spacing,
    box_of,
    closed,
    components,
    depth_mm,
    dilated,
    distance_mm,
    filled,
)
from xrecon.errors import InputError
from xrecon.resample import resample_separable
from xrecon.volume import Volume

_WORK_MM = 2.0
_AERATED_BELOW_HU = -380.0
"""High enough for the dense dependent lung of a patient who lies on the back, lower than fat."""
_EDGE_HU = -430.0
"""About halfway between lung (-850 HU) and soft tissue: where the lung's surface is put at full resolution."""
_LUMEN_HU = -700.0
_MIN_LUNGS_ML = 500.0
_SKIN_MM = 12.0
"""Dark voxels nearer to the skin are its partial volume, not lung."""
_MIN_SHARE = 0.1
"""A lung is at least this share of the larger one."""
_VESSEL_MM = 4.5
_HILAR_MM = 10.0
_ROOT_MM = 70.0
"""Gaps up to twice these are closed: vessels anywhere, and the larger ones of the lung root."""


@dataclass(frozen=True, eq=False)
class ChestAir:
    """Lungs and airways of a healthy chest.

    Attributes:
        right, left: [D, H, W] bool, the patient's lungs with their vessels, without the windpipe and main bronchi.
        airway: [D, H, W] bool, lumen of the windpipe and main bronchi; empty if it was not found.
        body: [D, H, W] bool, `body_mask`.
        carina: (d, h, w) index where the windpipe divides; None if it was not found.
    """

    right: Mask
    left: Mask
    airway: Mask
    body: Mask
    carina: tuple[float, float, float] | None


def split_lungs(volume: Volume) -> tuple[Mask, Mask]:
    """The patient's right and left lung as masks [D, H, W] of a healthy chest CT in canonical orientation.

    Raises:
        InputError: as `find_lungs`.
    """
    chest = find_lungs(volume)
    return chest.right, chest.left


def find_lungs(volume: Volume) -> ChestAir:
    """Lungs by side, and the airway.

    Everything below -380 HU inside the body, on a grid of about 2 mm or coarser; the windpipe is traced to its fork
    and removed with the main bronchi; right and left part where the distance map has its ridge between the two largest
    cores (watershed); gaps as wide as vessels are closed. Where the volume is finer the surface is then moved to
    -430 HU voxel by voxel.

    Raises:
        InputError: not in canonical orientation, no body, less than 500 mL of air in it, or not one lung on each side.
    """
    work = _work_grid(volume)
    spacing = work.spacing_mm
    body = body_mask(work)
    air = (work.hu < _AERATED_BELOW_HU) & body
    deep = air & (depth_mm(body, spacing) > _SKIN_MM)
    if deep.sum() * work.voxel_ml < _MIN_LUNGS_ML:
        raise InputError(
            f"no lungs found: {deep.sum() * work.voxel_ml:.0f} mL of air deep in the body, expected at least "
            f"{_MIN_LUNGS_ML:.0f} mL; is this a chest CT in Hounsfield units?"
        )
    middle = _middle_columns(body)
    box = box_of(deep, spacing, margin_mm=_SKIN_MM)
    part, air, body_part = _cropped(work, box), air[box], body[box]
    airway, carina = _airway(part, air, body_part, middle[box[0]] - box[2].start)
    lung_air = air & ~dilated(airway, 1.5 * max(spacing), spacing) if airway.any() else air
    sides = _split(lung_air, spacing)
    lungs = []
    for number in (1, 2):
        lung = _with_vessels(sides == number, spacing, carina)
        lungs.append(lung & body_part & ~airway & (sides != 3 - number))
    right = _onto(volume, part, lungs[0])
    left = _onto(volume, part, lungs[1]) & ~right
    full_airway = _onto(volume, part, airway, refine=False)
    index = None if carina is None else _index_in(volume, part, carina)
    full_body = body if work is volume else _onto(volume, work, body, refine=False)
    return ChestAir(right & ~full_airway, left & ~full_airway, full_airway, full_body, index)


def _cropped(volume: Volume, box: Box) -> Volume:
    affine = np.array(volume.affine)
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    return replace(volume, hu=np.ascontiguousarray(volume.hu[box]), affine=affine)


def _middle_columns(body: Mask) -> NDArray[np.float64]:
    """[D] the column midway between the sides of the body in every axial slice; the array's own where it is empty."""
    across: Mask = np.asarray(body.any(axis=1))
    first = np.argmax(across, axis=1)
    last = body.shape[2] - 1 - np.argmax(across[:, ::-1], axis=1)
    return np.asarray(0.5 * (first + last), dtype=np.float64)


def _work_grid(volume: Volume) -> Volume:
    near_enough = np.allclose([max(_WORK_MM, s) for s in volume.spacing_mm], volume.spacing_mm, rtol=0.2)
    return volume if near_enough else coarsened(volume, _WORK_MM)


def _index_in(volume: Volume, work: Volume, index: tuple[float, float, float]) -> tuple[float, float, float]:
    world = work.affine[:3, :3] @ np.asarray(index) + work.affine[:3, 3]
    d, h, w = np.linalg.solve(volume.affine[:3, :3], world - volume.affine[:3, 3])
    return float(d), float(h), float(w)


def _airway(
    work: Volume, air: Mask, body: Mask, middle: NDArray[np.float64]
) -> tuple[Mask, tuple[float, float, float] | None]:
    """Lumen of windpipe and main bronchi, and the index of the fork. `middle` [D] is the body's middle column."""
    spacing = work.spacing_mm
    chain = _trachea_chain(work, body, middle)
    trachea = np.zeros(work.shape, dtype=bool)
    if not chain:
        return trachea, None
    for d, plane in chain:
        trachea[d] = plane
    last, plane = chain[-1]
    rows, columns = np.nonzero(plane)
    carina = (float(last), float(rows.mean()), float(columns.mean()))
    core = trachea & (depth_mm(trachea, spacing) > min(2.0, 1.1 * max(spacing)))
    level = float(np.median(work.hu[core if core.sum() > 30 else trachea]))
    # Main bronchi: as dark as the windpipe, near its fork, and thinner than lung.
    away = _away_mm(work.shape, np.asarray(carina), spacing)
    thick = dilated(depth_mm(air, spacing) > 11.0, 11.0, spacing)
    candidate = ((work.hu < level + 90.0) & (away < 50.0) & ~thick) | trachea
    parts, _ = components(candidate)
    return np.asarray(parts == parts[last][plane][0]), carina


def _away_mm(shape: tuple[int, ...], point: NDArray[np.float64], spacing: Spacing) -> Floats:
    """Distance of every voxel to a point given as an index (d, h, w), mm."""
    squares = [(s * (np.arange(n) - p)) ** 2 for n, s, p in zip(shape, spacing, point, strict=True)]
    return np.asarray(np.sqrt(squares[0][:, None, None] + squares[1][:, None] + squares[2]), dtype=np.float32)


def _trachea_chain(work: Volume, body: Mask, middle: NDArray[np.float64]) -> list[tuple[int, Mask]]:
    """The longest chain of overlapping round dark spots near the midline, from the neck down to the fork."""
    spacing = work.spacing_mm
    pixel = spacing[1] * spacing[2]
    best: list[tuple[int, Mask]] = []
    open_chains: list[list[tuple[int, Mask]]] = []
    for d in range(work.shape[0]):
        spots = _round_spots(work.hu[d], body[d], float(middle[d]), spacing)
        taken: set[int] = set()
        still_open = []
        for chain in open_chains:
            before = chain[-1][1]
            next_spots = [i for i, spot in enumerate(spots) if (spot & before).sum() > 0.3 * before.sum()]
            areas = np.array([plane.sum() for _, plane in chain[-12:]]) * pixel
            goes_on = len(next_spots) == 1 and spots[next_spots[0]].sum() * pixel < 1.7 * np.median(areas) + 30.0
            if goes_on:
                taken.add(next_spots[0])
                still_open.append([*chain, (d, spots[next_spots[0]])])
            if len(chain) > len(best):
                best = chain
        open_chains = still_open + [[(d, spot)] for i, spot in enumerate(spots) if i not in taken]
    best = max([best, *open_chains], key=len)
    return best if len(best) * spacing[0] >= 25.0 else []


def _round_spots(hu: NDArray[np.float32], body: Mask, middle: float, spacing: Spacing) -> list[Mask]:
    """Dark spots of an axial slice [H, W] that could be the windpipe: 50..900 mm2, compact, near the midline."""
    parts, count = cc3d.connected_components((hu < _LUMEN_HU) & body, connectivity=4, return_N=True)
    spots = []
    for number, bounds in enumerate(cc3d.statistics(parts)["bounding_boxes"][1 : count + 1], start=1):
        rows, cols = bounds[0], bounds[1]
        height, width = (rows.stop - rows.start) * spacing[1], (cols.stop - cols.start) * spacing[2]
        if max(height, width) > 45.0 or max(height, width) > 2.6 * min(height, width):
            continue
        spot = parts == number
        area = spot.sum() * spacing[1] * spacing[2]
        off_middle = abs(0.5 * (cols.start + cols.stop - 1) - middle) * spacing[2]
        if 50.0 <= area <= 900.0 and area > 0.5 * height * width and off_middle < 50.0:
            spots.append(spot)
    return spots


def _split(air: Mask, spacing: Spacing) -> NDArray[np.uint8]:
    """1 right, 2 left: basins of the depth map round the largest core of each side."""
    depth = depth_mm(air, spacing)
    for radius in (5.0, 7.0, 9.0, 12.0, 15.0, 19.0, 24.0):
        parts = cc3d.connected_components(depth > radius, connectivity=6)
        stats = cc3d.statistics(parts)
        sizes = stats["voxel_counts"].astype(float)
        sizes[0] = 0.0
        if len(sizes) < 3:
            continue
        across = stats["centroids"][:, 2] * spacing[2]
        first = int(np.argmax(sizes))
        far = np.where(np.abs(across - across[first]) > 60.0, sizes, 0.0)
        second = int(np.argmax(far))
        if far[second] < _MIN_SHARE * sizes[first]:
            continue
        right, left = (first, second) if across[first] < across[second] else (second, first)
        markers = np.zeros(air.shape, dtype=np.int32)
        markers[parts == right], markers[parts == left] = 1, 2
        # Gas of stomach and bowel has no marker and no link to one, so it stays out.
        return np.asarray(watershed(-depth, markers, mask=air), dtype=np.uint8)  # type: ignore[no-untyped-call]
    raise InputError(
        f"only one air-filled lung found ({air.sum()} voxels of air): expected one on each side, the smaller at least "
        f"{_MIN_SHARE:.0%} of the larger; planting needs a chest with two aerated lungs"
    )


def _with_vessels(lung: Mask, spacing: Spacing, carina: tuple[float, float, float] | None) -> Mask:
    """The lung with its vessels: narrow gaps closed, wider ones within 70 mm of the lung root, voids filled."""
    box = box_of(lung, spacing, margin_mm=_HILAR_MM + 3.0)
    bare = np.ascontiguousarray(lung[box])
    whole = closed(bare, _VESSEL_MM, spacing)
    if carina is not None:
        root = np.asarray(carina) - [part.start for part in box] + [15.0 / spacing[0], 0.0, 0.0]
        near = _away_mm(bare.shape, root, spacing) < _ROOT_MM
        if near.any():
            part = box_of(near, spacing, margin_mm=_HILAR_MM + 3.0)
            whole[part] |= closed(bare[part], _HILAR_MM, spacing) & near[part]
    out = np.zeros(lung.shape, dtype=bool)
    out[box] = filled(whole)
    return out


def _onto(volume: Volume, work: Volume, mask: Mask, *, refine: bool = True) -> Mask:
    """A mask of the work grid on the volume's own, its surface at -430 HU where that lies within a work voxel."""
    scale = tuple(float(a / b) for a, b in zip(volume.spacing_mm, work.spacing_mm, strict=True))
    first = _index_in(work, volume, (0.0, 0.0, 0.0))
    soft = resample_separable(mask.astype(np.float32), volume.shape, scale=(scale[0], scale[1], scale[2]),
                              offset=first, fill=0.0)  # fmt: skip
    if not refine or np.allclose(volume.spacing_mm, work.spacing_mm):
        return soft > 0.5
    # Deep inside every voxel is lung (vessels too); in the boundary layer the CT decides, but for vessels that end
    # at the pleura: on the lung's side and beside no wall.
    box = box_of(soft > 0.03, volume.spacing_mm, margin_mm=5.0)
    part, hu = soft[box], volume.hu[box]
    wall = (part < 0.5) & (hu > _EDGE_HU)
    clear = distance_mm(wall, volume.spacing_mm) > 1.5 * max(volume.spacing_mm)
    out = np.zeros(volume.shape, dtype=bool)
    out[box] = (part > 0.97) | ((part > 0.03) & (hu < _EDGE_HU)) | ((part > 0.8) & clear)
    return out
