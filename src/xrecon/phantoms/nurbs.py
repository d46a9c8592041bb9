"""Closed B-spline surfaces of the .nrb text format (XCAT, gecatsim), and which voxels they hold."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from xrecon.errors import InputError
from xrecon.io.guards.files import read_text_capped

_MAX_BYTES = 200_000_000
_MAX_POINTS = 2_000_000
_DEGREE = 3
_PER_SPAN = 4
"""Points along each knot span: surfaces of a torso bend little within one."""


@dataclass(frozen=True, eq=False)
class SplineSurface:
    """A tensor product of cubic B-splines.

    Attributes:
        name: as in the file, such as "rlung".
        material: number of the material, see `nurbs_phantom.MATERIALS_HU`.
        knots: of the first and of the second axis of `points`.
        points: [M, N, 3] control points, mm, in the file's own frame: x to the patient's left, y to the back, z to the
            head.
    """

    name: str
    material: int
    knots: tuple[NDArray[np.float64], NDArray[np.float64]]
    points: NDArray[np.float64]

    def sampled(self) -> NDArray[np.float64]:
        """[R, C, 3] points on the surface, a fixed number for each knot span."""
        sampled = self.points
        for axis, knots in enumerate(self.knots):
            spans = np.unique(knots)
            at = np.interp(np.arange((len(spans) - 1) * _PER_SPAN + 1) / _PER_SPAN, np.arange(len(spans)), spans)
            sampled = np.moveaxis(BSpline(knots, np.moveaxis(sampled, axis, 0), _DEGREE)(at), 0, axis)
        return np.asarray(sampled)


def read_nrb(path: Path) -> list[SplineSurface]:
    """All surfaces of a file.

    Each is a name, a material, the counts M and N, knots of both axes (`U` runs along N, `V` along M), and M x N
    control points, N fastest.

    Raises:
        InputError: absent, too large, or not of this format; the message names the line.
    """
    lines = _Lines(path, read_text_capped(path, limit=_MAX_BYTES).splitlines())
    surfaces = []
    while lines.skip_blank():
        name = lines.next()
        if re.fullmatch(r"[-+.\d\seE,]*", name):
            raise lines.error("a surface's name")
        material = int(lines.number("a material"))
        rows, columns = (int(lines.number("a count")) for _ in range(2))
        if not rows > _DEGREE or not columns > _DEGREE or rows * columns > _MAX_POINTS:
            raise lines.error(f"more than {_DEGREE} and at most {_MAX_POINTS} control points")
        along_n = lines.knots("U Knot Vector", columns)
        along_m = lines.knots("V Knot Vector", rows)
        lines.title("Control Points")
        points = np.array([lines.point() for _ in range(rows * columns)]).reshape(rows, columns, 3)
        surfaces.append(SplineSurface(name, material, (along_m, along_n), points))
    if not surfaces:
        raise InputError(f"{path}: no surface in it; expected NURBS surfaces in the .nrb format of XCAT")
    return surfaces


def crossings(surface: NDArray[np.float64], x: NDArray[np.float64], z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the lines along y through a grid of (z, x) cross a drawn surface.

    Args:
        surface: [R, C, 3] points in the order x, y, z; neighbours make two triangles.
        x, z: rising coordinates of the grid, evenly spaced.

    Returns:
        [K, 3] rows of (index along z, index along x, y), in no order.
    """
    a, b, c, d = surface[:-1, :-1], surface[:-1, 1:], surface[1:, :-1], surface[1:, 1:]
    triangles = np.concatenate([np.stack([a, b, d], axis=2), np.stack([a, d, c], axis=2)]).reshape(-1, 3, 3)
    xs, zs = triangles[:, :, 0], triangles[:, :, 2]
    first_x, last_x = (np.searchsorted(x, edge) for edge in (xs.min(axis=1), xs.max(axis=1)))
    first_z, last_z = (np.searchsorted(z, edge) for edge in (zs.min(axis=1), zs.max(axis=1)))
    hits = []
    wide, high = int((last_x - first_x).max(initial=0)), int((last_z - first_z).max(initial=0))
    for step_z in range(high):
        for step_x in range(wide):
            at_x, at_z = first_x + step_x, first_z + step_z
            near = np.flatnonzero((at_x < last_x) & (at_z < last_z))
            if near.size:
                hits.append(_hits(triangles[near], at_x[near], at_z[near], x=x, z=z))
    return np.concatenate(hits) if hits else np.zeros((0, 3))


def _hits(
    triangles: NDArray[np.float64],
    at_x: NDArray[np.int64],
    at_z: NDArray[np.int64],
    *,
    x: NDArray[np.float64],
    z: NDArray[np.float64],
) -> NDArray[np.float64]:
    """One line for each triangle [K, 3, 3]; rows of `crossings` for those that are hit."""
    (x0, y0, z0), (x1, y1, z1), (x2, y2, z2) = (triangles[:, k].T for k in range(3))
    px, pz = x[at_x], z[at_z]
    # Each edge function is computed from its ends in a fixed order, so that a shared edge belongs to one side exactly.
    w0, w1, w2 = _side(x1, z1, x2, z2, px, pz), _side(x2, z2, x0, z0, px, pz), _side(x0, z0, x1, z1, px, pz)
    hit = ((w0 > 0) == (w1 > 0)) & ((w1 > 0) == (w2 > 0))
    total = w0 + w1 + w2
    hit &= total != 0
    y = (w0 * y0 + w1 * y1 + w2 * y2)[hit] / total[hit]
    return np.stack([at_z[hit], at_x[hit], y], axis=1)


def _side(
    ax: NDArray[np.float64],
    az: NDArray[np.float64],
    bx: NDArray[np.float64],
    bz: NDArray[np.float64],
    px: NDArray[np.float64],
    pz: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Twice the signed area of (a, b, p); exactly opposite for (b, a, p)."""
    swap = (ax > bx) | ((ax == bx) & (az > bz))
    ax, bx, az, bz = np.where(swap, bx, ax), np.where(swap, ax, bx), np.where(swap, bz, az), np.where(swap, az, bz)
    area = (bx - ax) * (pz - az) - (bz - az) * (px - ax)
    return np.where(swap, -area, area)


class _Lines:
    """The lines of a file, read one by one, with errors that say where."""

    def __init__(self, path: Path, lines: list[str]) -> None:
        self.path, self.lines, self.at = path, lines, 0

    def skip_blank(self) -> bool:
        while self.at < len(self.lines) and not self.lines[self.at].strip():
            self.at += 1
        return self.at < len(self.lines)

    def next(self) -> str:
        self.at += 1
        return self.lines[self.at - 1].strip() if self.at <= len(self.lines) else ""

    def error(self, expected: str) -> InputError:
        text = self.lines[self.at - 1].strip()[:40] if 0 < self.at <= len(self.lines) else "the end of the file"
        return InputError(f"{self.path}, line {self.at}: expected {expected}, found {text!r}")

    def title(self, expected: str) -> None:
        if self.next() != expected:
            raise self.error(f"the line {expected!r}")

    def number(self, expected: str) -> float:
        try:
            value = float(self.next().split()[0])
        except (ValueError, IndexError):
            raise self.error(expected) from None
        if not math.isfinite(value):
            raise self.error(expected)
        return value

    def knots(self, title: str, count: int) -> NDArray[np.float64]:
        self.title(title)
        values = np.array([self.number("a knot") for _ in range(count + _DEGREE + 1)])
        if not ((np.diff(values) >= 0).all() and values[-1] > values[0]):
            raise self.error("knots that rise")
        return values

    def point(self) -> list[float]:
        try:
            x, y, z = (float(part) for part in self.next().replace(",", " ").split()[:3])
        except ValueError:
            raise self.error("three coordinates") from None
        if not np.isfinite([x, y, z]).all():
            raise self.error("finite coordinates")
        return [x, y, z]
