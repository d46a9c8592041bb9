"""Two exposures of an augmented chest: jittered geometry and energy, line integrals, and the tissue beside the cube.

A prepared case keeps the cube, its films show the whole scan. What the films show beyond the cube (arms, shoulders,
abdomen) is their difference from the cube's own projection; it is smoothed, moved with the patient, and added again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.anatomy.morphology import Floats
from xrecon.augmentation.random_streams import log_uniform, signed, uniform
from xrecon.augmentation.settings import Beam
from xrecon.augmentation.spatial import Chest, Deformation, shrunk
from xrecon.data.case_file import CaseData
from xrecon.geometry import ConeBeam
from xrecon.projector import hu_to_mu, project
from xrecon.projector.attenuation import FILM_ENERGY_KEV, mu_water_per_mm
from xrecon.volume import OUTSIDE_HU

Beams = tuple[ConeBeam, ConeBeam]

_OUTSIDE_BLUR_PIXELS = 1.0
"""Takes the print of edges that the cube's own voxels blur out of the difference, and leaves arms and shoulders."""
_COLUMNS = (2, 1)
"""Axis of the volume (D, H, W) along the columns of the PA and of the lateral film."""


def draw_beams(nominal: Beams, settings: Beam, rng: np.random.Generator) -> tuple[Beams, float, dict[str, Any]]:
    """The two exposures as they were made, their energy in keV, and what was drawn.

    The film still arrives on the nominal detector: its scale at the isocentre plane is known up to `scale_error`.
    """
    together, between = signed(rng, settings.angle_deg), signed(rng, settings.between_views_deg)
    energy = uniform(rng, settings.energy_kev)
    beams: list[ConeBeam] = []
    record: dict[str, Any] = {"angle_deg": together, "between_views_deg": 90.0 + between, "energy_kev": energy}
    for name, beam, angle in zip(("pa", "lateral"), nominal, (together, together + between), strict=True):
        draws = {
            "distance": log_uniform(rng, settings.distance),
            "gap_mm": signed(rng, settings.gap_mm),
            "scale": 1.0 + signed(rng, settings.scale_error),
            "tilt_deg": signed(rng, settings.tilt_deg),
            "roll_deg": signed(rng, settings.roll_deg),
            "shift_mm": [signed(rng, settings.shift_mm) for _ in range(3)],
        }
        beams.append(_jittered(beam, angle, draws))
        record[name] = {**draws, "beam": beams[-1].to_dict()}
    return (beams[0], beams[1]), energy, record


def _jittered(beam: ConeBeam, angle_deg: float, draws: dict[str, Any]) -> ConeBeam:
    distance = beam.source_to_isocentre_mm * draws["distance"]
    gap = max(beam.source_to_detector_mm - beam.source_to_isocentre_mm + draws["gap_mm"], 1.0)
    magnification = (distance + gap) / distance
    rows, cols = (pitch * draws["scale"] * magnification for pitch in beam.pixel_at_isocentre_mm)
    moved = beam.moved(
        angle_deg=angle_deg,
        tilt_deg=draws["tilt_deg"],
        roll_deg=draws["roll_deg"],
        translation_mm=tuple(draws["shift_mm"]),
    )
    return replace(moved, source_to_isocentre_mm=distance, source_to_detector_mm=distance + gap, pixel_mm=(rows, cols))


def integrals(chest: Chest, beams: Beams, *, energy_kev: float) -> list[Floats]:
    """[rows, cols] line integrals of the cube per view."""
    mu = torch.from_numpy(hu_to_mu(chest.hu, energy_kev=energy_kev))
    with torch.inference_mode():
        films = project(mu[None, None], chest.pitch_mm, beams)[0].numpy()
    return [np.array(films[0]), np.array(films[1])]


def beside_the_cube(case: CaseData, nominal: Beams, *, size: int, frame_mm: float) -> list[Floats]:
    """[size, size] per view: what the stored films show and the stored cube does not."""
    hu = shrunk(case.ct.astype(np.float32) - np.float32(OUTSIDE_HU), size) + np.float32(OUTSIDE_HU)
    empty = np.zeros(0, dtype=np.uint8)
    own = integrals(Chest(hu, empty, empty, empty.astype(bool), frame_mm / size), nominal, energy_kev=FILM_ENERGY_KEV)
    stored = [shrunk(np.asarray(film, dtype=np.float32), size) for film in (case.pa, case.lateral)]
    return [
        ndimage.gaussian_filter(film - one, _OUTSIDE_BLUR_PIXELS, mode="nearest")
        for film, one in zip(stored, own, strict=True)
    ]


def moved_along(
    films: list[Floats], deformation: Deformation, beams: Beams, *, energy_kev: float, pitch_mm: float
) -> list[Floats]:
    """The films of the tissue beside the cube, moved as the patient and the exposures were, at another energy."""
    gain = np.float32(mu_water_per_mm(energy_kev) / mu_water_per_mm(FILM_ENERGY_KEV))
    out = []
    for film, beam, column in zip(films, beams, _COLUMNS, strict=True):
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
