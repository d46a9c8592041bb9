"""The kinds of steps of the augmentation: what each is given and what it gives back.

Every step draws from a stream of random numbers of its own and reports what it drew as JSON values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from xrecon.anatomy.morphology import Floats
from xrecon.augmentation.chest import AugmentedChest
from xrecon.augmentation.spatial.deformation import ChestDeformation
from xrecon.geometry import ConeBeam

Draws = dict[str, Any]
"""What a step drew, as JSON values."""
Beams = tuple[ConeBeam, ConeBeam]
"""(PA, lateral), relative to the centre of the cube."""


@dataclass(frozen=True)
class FilmView:
    """Which film a step works on.

    Attributes:
        name: "pa" or "lateral".
        beam: its geometry.
    """

    name: str
    beam: ConeBeam


@dataclass(frozen=True)
class Exposures:
    """The two exposures as they were made.

    Attributes:
        beams: geometry.
        energy_kev: effective energy of the beam.
    """

    beams: Beams
    energy_kev: float


@dataclass(frozen=True)
class SpatialStep:
    """Changes where the tissue lies: `apply(deformation, settings, rng, frame_mm=...)`."""

    apply: Callable[..., tuple[ChestDeformation, Draws]]


@dataclass(frozen=True)
class TissueStep:
    """Changes the deformed chest: `apply(chest, settings, rng)`."""

    apply: Callable[[AugmentedChest, Any, np.random.Generator], tuple[AugmentedChest, Draws]]


@dataclass(frozen=True)
class ExposureStep:
    """Changes geometry and energy of the two films: `apply(nominal, settings, rng)`."""

    apply: Callable[[Exposures, Any, np.random.Generator], tuple[Exposures, Draws]]


@dataclass(frozen=True)
class FilmStep:
    """Changes one film [rows, cols], dense tissue bright: `apply(film, view, settings, rng)`.

    Attributes:
        apply: the function.
        needs_line_integrals: the step is left out for a patient's own films, which are display values.
    """

    apply: Callable[[Floats, FilmView, Any, np.random.Generator], tuple[Floats, Draws]]
    needs_line_integrals: bool = False
