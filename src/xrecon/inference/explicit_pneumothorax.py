"""Draw into a reconstructed CT the free pleural air that the film networks see in both films."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.healthy_lungs import find_lungs
from xrecon.environment import one_thread
from xrecon.errors import InputError
from xrecon.films.thickness_maps import SIDES, ThicknessMaps
from xrecon.geometry import FRAME_MM, VIEWS
from xrecon.inference.film_findings import FilmFindings
from xrecon.inference.paint.drawing import PaintedSide, paint_side
from xrecon.inference.paint.surface_fit import FitSettings, fit_surfaces
from xrecon.inference.paint.surfaces import PleuralSpace
from xrecon.volume import Volume
from xrecon.warp import Grid, sample

_FIT_VOXELS = 96
"""Per edge of the grid on which lungs are found and surfaces are fitted: 4 mm."""


@dataclass(frozen=True, eq=False)
class DrawnPneumothorax:
    """A reconstruction with its free pleural air.

    Attributes:
        volume: HU; as it was where no side was drawn.
        sides: what was drawn, by side; only sides on which there is air.
        notes: for people.
    """

    volume: Volume
    sides: dict[str, PaintedSide]
    notes: tuple[str, ...]

    @property
    def air_ml(self) -> dict[str, float]:
        """Free air that was drawn, mL, by side."""
        return {name: float(side.air.sum(dtype=np.float64)) * self.volume.voxel_ml for name, side in self.sides.items()}


def draw_pneumothorax(
    volume: Volume, findings: FilmFindings, *, sides: Collection[str], settings: FitSettings | None = None
) -> DrawnPneumothorax:
    """The reconstruction with free air where both films want it.

    Args:
        volume: reconstruction, a cube of 384 mm round the isocentre.
        findings: of the same films, both views.
        sides: "right", "left": where air is drawn; on the others the findings count as certain that there is none.
        settings: of the fit of the surfaces.

    Raises:
        InputError: findings of one film only, or a volume that is no cube of the frame.
    """
    if findings.views != VIEWS:
        raise InputError(f"drawing needs findings of both films, got {', '.join(findings.views)}")
    if len(set(volume.shape)) != 1 or abs(volume.shape[0] * volume.spacing_mm[0] - FRAME_MM) > 0.1:
        raise InputError(f"drawing needs the reconstruction's cube of {FRAME_MM:g} mm, got {volume!r}")
    if not sides:
        return DrawnPneumothorax(volume, {}, ())
    grid = Grid((_FIT_VOXELS,) * 3, FRAME_MM / _FIT_VOXELS)
    coarse = volume.resampled(grid.shape, (grid.spacing_mm,) * 3, centre_mm=np.zeros(3))
    try:
        lungs = find_lungs(coarse)
    except InputError as error:
        note = f"no free air is drawn: the reconstruction shows no pair of lungs ({error})"
        return DrawnPneumothorax(volume, {}, (note,))
    with one_thread():
        spaces = [PleuralSpace.of(lung, grid) for lung in (lungs.right, lungs.left)]
        surfaces = fit_surfaces(spaces, maps_of(findings, sides=sides), settings)
        output = Grid(volume.shape, volume.spacing_mm[0])
        drawn: dict[str, PaintedSide] = {}
        for name, space, surface in zip(SIDES, spaces, surfaces, strict=True):
            if name not in sides or space is None or surface is None:
                continue
            volume, side = paint_side(volume, _lung_on(space, output), surface)
            if (side.air >= 0.5).any():
                drawn[name] = side
    return DrawnPneumothorax(volume, drawn, ())


def maps_of(findings: FilmFindings, *, sides: Collection[str]) -> ThicknessMaps:
    """Thickness maps of findings; air of a side that is not drawn counts as none."""
    pa, lateral = findings.geometry
    air = np.array(findings.expected_air_mm)
    for number, name in enumerate(SIDES):
        if name not in sides:
            air[:, number] = 0.0
    return ThicknessMaps(air, findings.lung_mm, np.ones_like(air), (pa, lateral))


def _lung_on(space: PleuralSpace, grid: Grid) -> NDArray[np.bool_]:
    """The lung of the fit on another grid: where its distance map is positive."""
    distance = sample(space.distance_mm[None], grid.positions_mm(), space.grid.spacing_mm)[0]
    return np.asarray(distance.numpy() > 0.0)
