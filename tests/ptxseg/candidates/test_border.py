"""Which way a border bulges: balls and planes of known answer."""

from __future__ import annotations

import numpy as np
import pytest

from xrecon.ptxseg.candidates.border import lung_share

Grid = tuple[np.ndarray, np.ndarray, np.ndarray]


def grid(spacing: tuple[float, float, float], edge_mm: float = 160.0) -> Grid:
    """Positions in mm from the middle of a cube."""
    axes = [(np.arange(int(edge_mm / pitch)) + 0.5) * pitch - edge_mm / 2 for pitch in spacing]
    d, h, w = np.meshgrid(*axes, indexing="ij")
    return d, h, w


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (4.0, 4.0, 4.0), (5.0, 1.5, 1.5)])
def test_air_in_lung_lung_in_air_and_a_plane(spacing: tuple[float, float, float]) -> None:
    d, h, w = grid(spacing)
    hemithorax = np.pad(np.ones(d.shape, dtype=bool)[2:-2, 2:-2, 2:-2], 2)
    ball = d**2 + h**2 + w**2 < 40.0**2
    airs = (ball & hemithorax, ~ball & hemithorax, (h < 3.0) & hemithorax)
    bulla, lung, plane = (lung_share(air, hemithorax, spacing) for air in airs)
    assert bulla is not None and lung is not None and plane is not None
    assert plane == pytest.approx(0.5, abs=0.01)
    # A ball of radius R and a soft ball of deviation s: 1/2 + s / (R sqrt(2 pi)) to first order.
    assert bulla == pytest.approx(0.5 + 8.0 / (40.0 * np.sqrt(2 * np.pi)), abs=0.025)
    assert bulla + lung == pytest.approx(1.0, abs=0.01)


def test_a_border_at_the_wall_says_nothing() -> None:
    spacing = (2.0, 2.0, 2.0)
    _, h, _ = grid(spacing)
    hemithorax = np.pad(np.ones(h.shape, dtype=bool)[2:-2, 2:-2, 2:-2], 2)
    assert lung_share((h < -72.0) & hemithorax, hemithorax, spacing) is None
    assert lung_share(np.zeros_like(hemithorax), hemithorax, spacing) is None
