"""A chest CT from NURBS surfaces: a file in the .nrb format of XCAT, such as the one in the package gecatsim."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError, MissingPartError
from xrecon.geometry import FRAME_MM
from xrecon.phantoms.nurbs import SplineSurface, crossings, read_nrb
from xrecon.volume import Volume

GECATSIM = "gecatsim"
"""In place of a path: the male chest that the package of this name ships."""
_GECATSIM_FILE = Path("phantom") / "vmale50_chest_less_surfaces.nrb"

MATERIALS_HU: dict[int, float] = {
    0: 0.0,  # water
    1: 55.0,  # muscle
    2: -770.0,  # lung
    3: 500.0,  # spine
    4: 400.0,  # rib and sternum
    5: -100.0,  # adipose tissue
    6: 45.0,  # blood
    7: 45.0,  # heart
    8: 35.0,  # kidney
    9: 60.0,  # liver
    10: 30.0,  # lymph
    11: 40.0,  # pancreas
    12: 35.0,  # intestine
    13: 800.0,  # skull
    14: 120.0,  # cartilage
    15: 35.0,  # brain
    16: 50.0,  # spleen
    22: -1000.0,  # air
}
"""Usual HU by the number of the material in the files of XCAT, as gecatsim lists them (`Phantom_NCAT`)."""
LUNG = 2
_SURROUNDING_HU = -1000.0
"""Air round the body."""
_LINES = 2
"""Lines through a voxel along each of two axes; along the third its share is exact."""
_OFF_GRID_MM = 1.7e-4
"""Lines are moved this far, so that none runs through a point of a surface."""


@dataclass(frozen=True, eq=False)
class NurbsPhantom:
    """A chest and its lungs.

    Attributes:
        volume: HU in canonical orientation, centred on the lungs; synthetic.
        labels: [D, H, W] uint8: 1 right lung, 2 left lung.
        names: surfaces that reach into the volume, in the order in which they were drawn.
    """

    volume: Volume
    labels: NDArray[np.uint8]
    names: tuple[str, ...]


def nurbs_phantom(source: str | Path, *, size: int = 128, spacing_mm: float | None = None) -> NurbsPhantom:
    """Draw the surfaces of a file, each over those before it.

    Args:
        source: a .nrb file, or `GECATSIM`.
        size: voxels along each edge of the cube, 16..512.
        spacing_mm: voxel pitch, mm; by default the cube is as wide as the reconstruction frame.

    Raises:
        InputError: no such file, not of this format, an unknown material, no lungs in it.
        MissingPartError: gecatsim is not installed or holds no such file.
    """
    if not 16 <= size <= 512:
        raise InputError(f"the phantom's size must be 16..512 voxels, got {size}")
    pitch = FRAME_MM / size if spacing_mm is None else float(spacing_mm)
    path = _gecatsim_file() if str(source) == GECATSIM else Path(source)
    surfaces = read_nrb(path)
    unknown = sorted({surface.material for surface in surfaces} - MATERIALS_HU.keys())
    if unknown:
        raise InputError(f"{path}: material {unknown[0]} is not known; known are {', '.join(map(str, MATERIALS_HU))}")
    sampled = [(surface, surface.sampled()) for surface in surfaces]
    middle = _middle_of_lungs(sampled, path)
    axis = (np.arange(size, dtype=np.float64) - (size - 1) / 2) * pitch
    hu = np.full((size, size, size), _SURROUNDING_HU, dtype=np.float32)
    labels = np.zeros(hu.shape, dtype=np.uint8)
    names = []
    for surface, points in sampled:
        share = _share(points - middle, axis, pitch)
        if not share.any():
            continue
        names.append(surface.name)
        hu += share * (np.float32(MATERIALS_HU[surface.material]) - hu)
        labels[share > 0.5] = _label(surface, points, middle)
    volume = Volume.centred(hu, (pitch, pitch, pitch), synthetic=True)
    return NurbsPhantom(volume, labels, tuple(names))


def _gecatsim_file() -> Path:
    package = importlib.util.find_spec(GECATSIM)
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        if (Path(folder) / _GECATSIM_FILE).is_file():
            return Path(folder) / _GECATSIM_FILE
    raise MissingPartError(
        f"the package {GECATSIM} with its file {_GECATSIM_FILE.name} is not installed: pip install {GECATSIM}, or give "
        "the path of a .nrb file"
    )


def _middle_of_lungs(sampled: list[tuple[SplineSurface, NDArray[np.float64]]], path: Path) -> NDArray[np.float64]:
    lungs = [points.reshape(-1, 3) for surface, points in sampled if surface.material == LUNG]
    if not lungs:
        raise InputError(f"{path}: no surface has the material {LUNG} (lung), so the chest cannot be centred")
    everything = np.concatenate(lungs)
    return np.asarray((everything.min(axis=0) + everything.max(axis=0)) / 2)


def _label(surface: SplineSurface, points: NDArray[np.float64], middle: NDArray[np.float64]) -> int:
    if surface.material != LUNG:
        return 0
    return 1 if float(points[..., 0].mean()) < float(middle[0]) else 2


def _share(points: NDArray[np.float64], axis: NDArray[np.float64], pitch: float) -> NDArray[np.float32]:
    """Share of each voxel [D, H, W] inside a closed surface [R, C, 3]."""
    size = len(axis)
    total = np.zeros((size, size, size), dtype=np.float32)
    steps = ((np.arange(_LINES) + 0.5) / _LINES - 0.5) * pitch + _OFF_GRID_MM
    for step_z in steps:
        for step_x in steps:
            total += _along_lines(crossings(points, axis + step_x, axis + step_z), axis, pitch)
    # Rounding of the sums may leave values just outside 0..1; z rises to the head, D to the feet.
    return np.clip(total.transpose(0, 2, 1)[::-1] / _LINES**2, 0.0, 1.0)


def _along_lines(hits: NDArray[np.float64], axis: NDArray[np.float64], pitch: float) -> NDArray[np.float32]:
    """[z, x, y] share of each voxel of the lines that lies between the first and second hit, third and fourth, ..."""
    size = len(axis)
    line = (hits[:, 0] * size + hits[:, 1]).astype(np.int64)
    order = np.lexsort((hits[:, 2], line))
    line, y = line[order], hits[order, 2]
    first = np.r_[0, np.flatnonzero(np.diff(line)) + 1] if line.size else np.zeros(0, dtype=np.int64)
    counts = np.diff(np.r_[first, line.size])
    place = np.arange(line.size) - np.repeat(first, counts)
    # A line that touches a surface may have an odd hit: nothing lies behind the last one.
    paired = (place < np.repeat(counts // 2 * 2, counts)) if line.size else np.zeros(0, dtype=bool)
    line, y, place = line[paired], y[paired], place[paired]
    sign = np.where(place % 2 == 0, 1.0, -1.0)
    position = np.clip((y - (axis[0] - pitch / 2)) / pitch, 0.0, size)
    cell = position.astype(np.int64)
    behind = 1.0 - (position - cell)  # the share of the voxel that lies behind the hit
    change = np.zeros((size * size, size + 2))
    np.add.at(change, (line, cell), sign * behind)
    np.add.at(change, (line, cell + 1), sign * (1.0 - behind))
    return np.asarray(np.cumsum(change, axis=1)[:, :size].reshape(size, size, size), dtype=np.float32)
