"""Chests made of balls and ellipsoids, whose volumes and distances are known on paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from xrecon.segmentation import Segmentation
from xrecon.volume import Volume

RADIUS_MM = 60.0
CENTRE_MM = 75.0
"""Each hemithorax is a ball of this radius, this far from the midline."""

Ball = tuple[tuple[float, float, float], float]
"""Centre (d, h, w) and radius, mm, from the grid's centre."""


def ball(shape: tuple[int, ...], spacing_mm: tuple[float, ...], centre: tuple[float, ...], radius: float) -> np.ndarray:
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing_mm, strict=True)]
    return (
        sum(  # type: ignore[return-value]
            (grid - c) ** 2 for grid, c in zip(np.meshgrid(*axes, indexing="ij", sparse=True), centre, strict=True)
        )
        <= radius**2
    )


@pytest.fixture(scope="session")
def two_balls() -> Callable[..., Segmentation]:
    """Factory: both hemithoraces; a side given a ball has its lung there (cut to the cavity) and air in the rest."""

    def make(
        *,
        right: Ball | None = None,
        left: Ball | None = None,
        spacing_mm: tuple[float, float, float] = (2.0, 2.0, 2.0),
        findings: Mapping[str, Any] | None = None,
    ) -> Segmentation:
        shape = tuple(int(np.ceil(mm / s)) for mm, s in zip((140.0, 140.0, 290.0), spacing_mm, strict=True))
        labels, side = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
        for number, centre, lung in ((1, -CENTRE_MM, right), (2, CENTRE_MM, left)):
            cavity = ball(shape, spacing_mm, (0.0, 0.0, centre), RADIUS_MM)
            labels[cavity] = number
            if lung is not None:
                air = cavity & ~ball(shape, spacing_mm, *lung)
                labels[air], side[air] = 3, number
        affine = Volume.centred(np.zeros(shape, np.float32), spacing_mm).affine
        return Segmentation(labels, side, affine, dict(findings or {}))

    return make
