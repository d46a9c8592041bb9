"""A chest of three ellipsoids in the .nrb format, for tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

BODY = ("body", 1, (0.0, 10.0, 100.0), (160.0, 110.0, 180.0))
RIGHT = ("rlung", 2, (-75.0, 10.0, 130.0), (50.0, 80.0, 90.0))
LEFT = ("llung", 2, (75.0, 20.0, 120.0), (45.0, 70.0, 80.0))
"""Name, material, centre and half axes (x to the left, y to the back, z to the head), mm."""


def ellipsoid(name: str, material: int, centre: tuple[float, ...], radii: tuple[float, ...]) -> str:
    """An ellipsoid as the text of a cubic surface: poles along z, closed around it."""
    polar, around = np.linspace(np.pi, 0.0, 25), np.linspace(0.0, 2 * np.pi, 33)
    unit = np.stack(
        np.broadcast_arrays(
            np.sin(polar)[:, None] * np.cos(around), np.sin(polar)[:, None] * np.sin(around), np.cos(polar)[:, None]
        ),
        axis=-1,
    )
    points = np.asarray(centre) + np.asarray(radii) * unit
    rows = make_interp_spline(polar[::-1], points[::-1], k=3, axis=0)
    columns = make_interp_spline(around, rows.c, k=3, axis=1)
    net: NDArray[np.float64] = np.moveaxis(columns.c, 0, 1) if columns.c.shape[0] == 33 else columns.c
    lines = [name, str(material), f"{net.shape[0]} :M", f"{net.shape[1]} :N", "U Knot Vector"]
    lines += [f"{knot:.6f}" for knot in columns.t]
    lines += ["V Knot Vector", *(f"{knot:.6f}" for knot in rows.t), "Control Points"]
    lines += [" ".join(f"{value:.5f}" for value in point) for point in net.reshape(-1, 3)]
    return "\n" + "\n".join(lines) + "\n"


def chest() -> str:
    """Body, right and left lung as the text of a file."""
    return "".join(ellipsoid(*shape) for shape in (BODY, RIGHT, LEFT))
