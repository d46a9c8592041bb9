"""Films of an augmented chest: line integrals of the cube, and what the stored films show beside it.

A prepared case keeps the cube, its films show the whole scan. What the films show beyond the cube (arms, shoulders,
abdomen) is their difference from the cube's own projection; it is smoothed, moved with the patient, and added again.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.anatomy.morphology import Floats
from xrecon.augmentation.chest import shrunk
from xrecon.augmentation.spatial.deformation import ChestDeformation
from xrecon.augmentation.steps import Beams, Exposures
from xrecon.data.case_file import CaseData
from xrecon.projector import hu_to_mu, project
from xrecon.projector.attenuation import FILM_ENERGY_KEV, mu_water_per_mm
from xrecon.volume import OUTSIDE_HU

_OUTSIDE_BLUR_PIXELS = 1.0
"""Takes the print of edges that the cube's own voxels blur out of the difference, and leaves arms and shoulders."""
_COLUMNS = (2, 1)
"""Axis of the volume (D, H, W) along the columns of the PA and of the lateral film."""


def integrals(hu: Floats, exposures: Exposures, *, pitch_mm: float) -> list[Floats]:
    """[rows, cols] per view: line integrals of the cube `hu` [D, H, W] with voxels of `pitch_mm`."""
    mu = torch.from_numpy(hu_to_mu(hu, energy_kev=exposures.energy_kev))
    with torch.inference_mode():
        films = project(mu[None, None], pitch_mm, exposures.beams)[0].numpy()
    return [np.array(films[0]), np.array(films[1])]


def beside_the_cube(case: CaseData, nominal: Beams, *, size: int, frame_mm: float) -> list[Floats]:
    """[size, size] per view: what the stored films show and the stored cube does not."""
    hu = shrunk(case.ct.astype(np.float32) - np.float32(OUTSIDE_HU), size) + np.float32(OUTSIDE_HU)
    of_cube = integrals(hu, Exposures(nominal, FILM_ENERGY_KEV), pitch_mm=frame_mm / size)
    stored = [shrunk(np.asarray(film, dtype=np.float32), size) for film in (case.pa, case.lateral)]
    return [
        ndimage.gaussian_filter(film - cube_film, _OUTSIDE_BLUR_PIXELS, mode="nearest")
        for film, cube_film in zip(stored, of_cube, strict=True)
    ]


def moved_along(
    films: list[Floats], deformation: ChestDeformation, exposures: Exposures, *, pitch_mm: float
) -> list[Floats]:
    """The films of the tissue beside the cube, moved as the patient and the exposures were, at another energy."""
    gain = np.float32(mu_water_per_mm(exposures.energy_kev) / mu_water_per_mm(FILM_ENERGY_KEV))
    out = []
    for film, beam, column in zip(films, exposures.beams, _COLUMNS, strict=True):
        axes = [0, column]
        x, y, z = beam.translation_mm
        isocentre = np.array([-z, y, x])  # along D, H, W
        matrix: NDArray[np.float64] = deformation.matrix[np.ix_(axes, axes)]
        centre = (np.asarray(film.shape) - 1) / 2
        # Pixel p shows the place isocentre + (p - centre) * pitch of the cube; it came from matrix @ (place - shift).
        start = matrix @ ((isocentre - deformation.shift_mm)[axes] / pitch_mm - centre) + centre
        if np.array_equal(matrix, np.eye(2)) and np.allclose(start, 0.0):
            out.append(gain * film)
            continue
        out.append(gain * ndimage.affine_transform(film, matrix, offset=start, order=1, mode="nearest"))
    return out
