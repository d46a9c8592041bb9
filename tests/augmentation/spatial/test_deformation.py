"""Deformations of the chest: never mirrored, never folded, with the Jacobian that they state."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from xrecon.augmentation.spatial.affine import AffineSettings, draw_affine
from xrecon.augmentation.spatial.deformation import ChestDeformation
from xrecon.augmentation.spatial.elastic import ElasticSettings, draw_elastic
from xrecon.geometry import FRAME_MM


@given(st.integers(0, 10_000), st.floats(2.0, 40.0), st.floats(0.2, 0.8))
@settings(deadline=None, max_examples=25)
def test_deformations_never_fold(seed: int, amplitude: float, least: float) -> None:
    rng = np.random.default_rng(seed)
    affine, _ = draw_affine(ChestDeformation.none(), AffineSettings(rotation_deg=15.0), rng, frame_mm=FRAME_MM)
    wild = ElasticSettings(amplitude_mm=(amplitude, amplitude), knot_mm=40.0, least_jacobian=least)
    deformation, record = draw_elastic(affine, wild, rng, frame_mm=FRAME_MM)
    finer = (np.arange(61) - 30.0) * (FRAME_MM / 61)
    relative = deformation.jacobian(finer) / np.linalg.det(affine.matrix)
    assert np.linalg.det(affine.matrix) > 0
    assert relative.min() > 0.8 * least
    assert record["amplitude_mm"] <= amplitude


def test_the_jacobian_is_that_of_the_map() -> None:
    rng = np.random.default_rng(4)
    deformation, _ = draw_affine(ChestDeformation.none(), AffineSettings(), rng, frame_mm=FRAME_MM)
    deformation, record = draw_elastic(deformation, ElasticSettings(), rng, frame_mm=FRAME_MM)
    assert record["amplitude_mm"] > 0
    places = np.arange(-20.0, 21.0)
    origin = deformation.origin_mm(places).astype(np.float64)
    gradient = np.stack([np.stack(np.gradient(part, 1.0)) for part in origin])  # [component, axis, ...]
    determinant = np.linalg.det(np.moveaxis(gradient, (0, 1), (-2, -1)))
    inner = np.s_[2:-2, 2:-2, 2:-2]
    assert np.allclose(determinant[inner], deformation.jacobian(places)[inner], rtol=2e-3)
