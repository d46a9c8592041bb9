"""`segment`: from a chest CT to lungs and free pleural air by side, with everything worth saying about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.anatomy.body import find_body
from xrecon.anatomy.morphology import Mask, Spacing, bounding_box, closed, components, dilated, opened, select
from xrecon.jobs import at_once
from xrecon.ptxseg import plausibility
from xrecon.ptxseg.air import find_candidates
from xrecon.ptxseg.airways import AIR_HU, find_airways
from xrecon.ptxseg.describe import (
    AIR_CLASS,
    COMPRESSED_HU,
    NOISY_HU,
    SIDES,
    Scan,
    SideResult,
    as_component,
    collapsed_sides,
    describe,
    notes_for,
)
from xrecon.ptxseg.hemithoraces.lung_models import NETWORK, resolve, shipped_network
from xrecon.ptxseg.hemithoraces.lungs import EDGE_HU, WALL_MM, Hemithoraces, with_sides
from xrecon.ptxseg.judge import PNEUMOTHORAX, judged
from xrecon.ptxseg.levels import SHARP_REACH, AirLevels, edge_levels, side_levels
from xrecon.ptxseg.refine import onto_input
from xrecon.ptxseg.work_grid import WorkingGrid, working_grid
from xrecon.segmentation import AirComponent, Label, Segmentation, Side
from xrecon.volume import Volume

Progress = Callable[[str, float], None]
"""Called with the name of the step that begins and the share (0..1) of the work that is done."""

_REPORTED_ML = 1.0
_MAX_REACH = 7
_COMPRESSED_CLOSE_MM = 7.0
"""Of 5, 7, 9 and 12 mm in 42 train pockets the first two have the highest Dice of lung and most occupancies within one
point (39; 38 and 37 with the others): `benchmarks/ptxseg_constants.py`. 12 takes fat of the hilum."""
_BONE_HU = 250.0
_AIRLESS_HU = -150.0
_STRAY_SHARE = 0.1
"""Of the largest piece: the dome in train case_011 has less. With it 39 of 42 train pockets are within one point,
without it 38, and lung has a higher Dice (`benchmarks/ptxseg_constants.py`)."""


def segment(ct: Volume, *, lung_model: str = "auto", progress: Progress | None = None) -> Segmentation:
    """Find lungs and free pleural air in a chest CT, by side.

    Args:
        ct: HU, any orientation and spacing, measured or reconstructed.
        lung_model: who finds the hemithoraces: "auto" (the classical method; the network in smooth images, and for a
            collapsed lung that is dense), another name of `lung_models.names()`, or a folder of `xrecon train lungs`.
        progress: told of every step.

    Returns:
        Labels on the grid of `ct` (0 background, 1 right lung, 2 left lung, 3 free pleural air) with the side of the
        air. `findings` (JSON values) holds `air_hu`, `noise_hu`, `edge_width_mm`, `lung_model`, `working_spacing_mm`,
        `detection_limit_ml` (None where it was not measured for such a scan),
        `flags` and `components`: every candidate with `volume_ml`, `side`, `kind`, `confidence` 0..1, `reason` and
        its measurements. Only components of the kind "pneumothorax" are labelled 3.

    Raises:
        InputError: not a chest CT in HU, no lungs in it, or an unknown lung model.
        MissingPartError: the lung model needs a package or weights that are not installed.

    Example:
        >>> import xrecon
        >>> from xrecon.phantoms.thorax import thorax_phantom
        >>> found = xrecon.segment(thorax_phantom(64, 6.0).volume, lung_model="classical")
        >>> found.findings["lung_model"]
        'classical'
    """
    tell = progress or _silent
    entry = resolve(lung_model)
    volume = ct.canonical()
    tell("checking", 0.0)
    plausibility.check_units(volume)
    model = entry.load()
    tell("body", 0.02)
    body = find_body(volume)
    grid = working_grid(volume, body.box())
    inside = body.at(grid.nearest_voxels())
    tell("airways", 0.2)
    scan = _read_levels(grid, inside)
    tell("lungs", 0.35)
    if lung_model == "auto" and scan.smooth:
        entry = resolve(NETWORK)
        model = entry.load()
    chest = model(scan.grid.volume, body=inside, airways=scan.airways)
    name = entry.name
    levels = _levels(scan, chest, SIDES)
    collapsed = []
    if lung_model == "auto" and entry.name != NETWORK:
        collapsed = collapsed_sides(np.asarray(scan.grid.volume.hu), chest.sides, levels)
    if collapsed:
        tell("collapsed lung", 0.5)
        dense = shipped_network().only(collapsed, scan.grid.volume, body=inside, airways=scan.airways)
        chest = with_sides(chest, dense, collapsed)
        levels |= _levels(scan, chest, collapsed)
        name = f"{entry.name}, {NETWORK} for the {' and the '.join(SIDES[side] for side in collapsed)} lung"
    tell("air", 0.65)
    sides = dict(zip(SIDES, at_once(lambda side: _side(scan, chest, side, levels[side]), SIDES), strict=True))
    classes = _classes(scan, chest, sides)
    tell("boundary", 0.9)
    edges = [edge_levels(sides[side].levels, min(volume.spacing_mm)) for side in (Side.RIGHT, Side.LEFT)]
    fine = onto_input(scan.grid, classes, edges=edges, air_hu=scan.airways.air_hu)
    findings = describe(name, scan, chest, sides=sides, classes=classes)
    tell("done", 1.0)
    return Segmentation(*_as_stored(ct, fine, volume), ct.affine, findings, notes_for(ct, findings))


def _silent(_step: str, _share: float) -> None:
    """Progress that nobody watches."""


def _read_levels(grid: WorkingGrid, inside: Mask) -> Scan:
    """Airways, noise and sharpness; a very noisy image is smoothed first."""
    hu = np.asarray(grid.volume.hu)
    airways = find_airways(hu, inside, grid.spacing_mm)
    noise_hu = airways.noise_hu
    if noise_hu > NOISY_HU:
        # Below this noise smoothing would cost more (the pleural line) than it gains.
        hu = np.asarray(ndimage.gaussian_filter(hu, 0.9, truncate=2.5), dtype=np.float32)
        grid = replace(grid, volume=grid.volume.with_hu(hu))
        airways = find_airways(hu, inside, grid.spacing_mm)
    edge_mm = plausibility.edge_width_mm(hu, (hu < EDGE_HU) & inside, grid.spacing_mm)
    smooth = plausibility.is_smooth(edge_mm)
    if smooth:
        # The blur of its wall fills the lumen, so that its level is not that of air.
        airways = replace(airways, air_hu=min(airways.air_hu, AIR_HU))
    return Scan(grid, airways, noise_hu, edge_mm, smooth)


def _levels(scan: Scan, chest: Hemithoraces, sides: Iterable[Side]) -> dict[Side, AirLevels]:
    """Levels of air and lung in each of `sides`."""
    airways = scan.airways
    d, h, w = (0 if scan.smooth else ratio.split - 1 for ratio in scan.grid.ratios)

    def of(side: Side) -> AirLevels:
        box = bounding_box(chest.sides == side)
        if box is None:
            return AirLevels(airways.air_hu, airways.noise_hu, airways.air_hu + 130.0)
        return side_levels(
            np.asarray(scan.grid.volume.hu[box]),
            chest.sides[box] == side,
            air_hu=airways.air_hu,
            noise_hu=airways.noise_hu,
            smooth=scan.smooth,
            reach=_reach(scan),
            spread=(d, h, w),
        )

    wanted = list(sides)
    return dict(zip(wanted, at_once(of, wanted), strict=True))


def _side(scan: Scan, chest: Hemithoraces, side: Side, levels: AirLevels) -> SideResult:
    """Candidates of one hemithorax, each judged."""
    grid = scan.grid
    air = np.zeros(chest.sides.shape, dtype=np.bool_)
    box = bounding_box(chest.sides == side, margin=_MAX_REACH + 3)
    if box is None:
        return SideResult(air, levels, [])
    hu, own = np.ascontiguousarray(grid.volume.hu[box]), np.ascontiguousarray(chest.sides[box] == side)
    labels, count = find_candidates(hu, own, levels, spacing=grid.spacing_mm)
    pitch_mm = max(*grid.spacing_mm, *grid.source.spacing_mm)
    listed: list[AirComponent] = []
    for number in range(1, count + 1):
        for part, features, verdict in judged(
            labels == number, own, hu, levels=levels, spacing=grid.spacing_mm, pitch_mm=pitch_mm
        ):
            if verdict.kind == PNEUMOTHORAX:
                air[box] |= part
            if features.volume_ml >= _REPORTED_ML:
                listed.append(as_component(SIDES[side], features, verdict))
    listed.sort(key=lambda one: float(one["volume_ml"]), reverse=True)
    return SideResult(air, levels, listed)


def _reach(scan: Scan) -> int:
    """Working voxels over which HU rises at an edge."""
    if scan.smooth:
        return min(_MAX_REACH, 1 + int(np.ceil(0.6 * scan.edge_mm / max(scan.grid.spacing_mm))))
    # Interpolation spreads an edge over the new voxels of an old one; of thick slices two axes stay sharp.
    return SHARP_REACH + min(ratio.split for ratio in scan.grid.ratios) - 1


def _classes(scan: Scan, chest: Hemithoraces, sides: dict[Side, SideResult]) -> NDArray[np.uint8]:
    """Working labels: lungs 1 and 2, air 3 and 4; what is left between air and chest wall is wall, not lung."""
    grid, spacing = scan.grid, scan.grid.spacing_mm
    classes = chest.sides.copy()
    for side, result in sides.items():
        if not result.air.any():
            continue
        box = bounding_box(chest.sides == side, margin=8)
        assert box is not None  # the air is part of it
        air, part = result.air[box], classes[box]
        if result.levels.lung_hu >= COMPRESSED_HU:
            part[_dense_lung(grid.volume.hu[box], part, scan.airways.mask[box], side=side, spacing=spacing) & ~air] = (
                side
            )
        lung = (part == side) & ~air
        near = dilated(air, 2.51 * max(spacing), spacing)
        part[lung & near & ~opened(lung, 1.01 * max(spacing), spacing)] = 0
        part[air] = side + AIR_CLASS
        part[_stray(part == side, grid.volume.hu[box])] = 0
    return classes


def _stray(lung: Mask, hu: NDArray[np.float32]) -> Mask:
    """Small airless pieces apart from a lung in free air: the dome of the diaphragm, a mass, wall. A lung is one."""
    labels, sizes = components(lung)
    mean = np.bincount(labels.ravel(), weights=hu.ravel(), minlength=len(sizes) + 1)[1:] / np.maximum(sizes, 1)
    small = sizes < _STRAY_SHARE * sizes.max(initial=0)
    return select(labels, 1 + np.flatnonzero(small & (mean > _AIRLESS_HU)), len(sizes))


def _dense_lung(
    hu: NDArray[np.float32], classes: NDArray[np.uint8], airways: Mask, *, side: Side, spacing: Spacing
) -> Mask:
    """Vessels and airless parts of a compressed lung: what a wide closing of the side adds, but for the bronchi."""
    wide = closed(classes == int(side), _COMPRESSED_CLOSE_MM, spacing)
    return np.asarray(wide & (classes == 0) & (hu < _BONE_HU) & ~dilated(airways, WALL_MM, spacing))


def _as_stored(ct: Volume, fine: NDArray[np.uint8], volume: Volume) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Labels and air side in the axis order of `ct` from classes in that of `volume`, its canonical form."""
    back = np.linalg.solve(ct.affine, volume.affine)[:3, :3].round().astype(int)  # [input axis, canonical axis]
    order = [int(np.flatnonzero(row)[0]) for row in back]
    flips = tuple(slice(None, None, int(row.sum())) for row in back)
    fine = np.ascontiguousarray(fine.transpose(order)[flips])
    air_side = np.maximum(fine, np.uint8(AIR_CLASS))
    air_side -= np.uint8(AIR_CLASS)
    return np.minimum(fine, np.uint8(Label.AIR), out=fine), air_side
