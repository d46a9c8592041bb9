"""Small reconstructions to draw: random blobs with a marker, on an anisotropic grid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from xrecon.geometry import ConeBeam
from xrecon.inference.result import Reconstruction, ViewResidual
from xrecon.radiograph import Radiograph
from xrecon.volume import Volume

SHAPE = (16, 20, 24)
SPACING_MM = (12.0, 10.0, 8.0)


def blobs(seed: int) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 2)
    return (noise / np.abs(noise).max() * 600 - 400).astype(np.float32)


def film(view: str, seed: int, notes: tuple[str, ...] = ()) -> Radiograph:
    image = gaussian_filter(np.random.default_rng(seed).uniform(0, 5, (20, 20)), 2)
    return Radiograph(image, view, ConeBeam.preset("chest", view, size=20), notes=notes)


@pytest.fixture(scope="session")
def truth() -> Volume:
    return Volume.centred(blobs(1), SPACING_MM)


@pytest.fixture(scope="session")
def make_reconstruction() -> Callable[..., Reconstruction]:
    """Factory: `hu` [D, H, W] replaces the blobs, `model` the name, `spread` adds an ensemble's spread."""

    def make(hu: np.ndarray | None = None, *, model: str = "pca", spread: bool = False) -> Reconstruction:
        volume = Volume.centred(blobs(2) if hu is None else hu, SPACING_MM, synthetic=True)
        support = np.ones(SHAPE, np.float32)
        support[0], support[1] = 0.0, 0.5
        return Reconstruction(
            volume=volume,
            support=support,
            spread=np.abs(blobs(3)) if spread else None,
            residual={"pa": ViewResidual(0.41, 0.123), "lateral": ViewResidual(0.5, 0.2)},
            films=(film("pa", 4, ("no spacing in the file",)), film("lateral", 5)),
            reprojections=(film("pa", 6), film("lateral", 7)),
            provenance={
                "model": model,
                "version": "1.2.3",
                "sha256": "ab" * 32,
                "geometry": {"pa": {"angle_deg": 0.0}},
                "seed": 7,
                "seconds": 2.5,
                "options": {"ridge": 0.125},
                "notes": ["table removed"],
            },
        )

    return make
