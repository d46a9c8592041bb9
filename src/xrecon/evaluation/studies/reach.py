"""How much of a reconstruction its films measured: pixels against voxels, and what share of the volume they see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xrecon.inference.result import Reconstruction

_SEEN, _UNSEEN = 0.99, 0.01
"""Support from which both films see a voxel, and below which none does; it is interpolated in between."""


@dataclass(frozen=True)
class Reach:
    """What the films say about the volume. Shares are 0..1 of its voxels.

    Attributes:
        pixels: measured values, of both films together.
        voxels: values to be found.
        both_films: share of the voxels that both films see.
        one_film: share that only one of them sees.
        no_film: share that none sees, which is the prior's alone.
    """

    pixels: int
    voxels: int
    both_films: float
    one_film: float
    no_film: float

    @property
    def share(self) -> float:
        """Pixels over voxels: the films constrain at most this share of the volume."""
        return self.pixels / self.voxels


def reach_of(reconstruction: Reconstruction) -> Reach:
    """Count what was measured."""
    support = reconstruction.support
    seen, unseen = float(np.mean(support > _SEEN)), float(np.mean(support < _UNSEEN))
    return Reach(
        pixels=sum(film.image.size for film in reconstruction.films),
        voxels=reconstruction.volume.hu.size,
        both_films=seen,
        one_film=max(0.0, 1 - seen - unseen),
        no_film=unseen,
    )
