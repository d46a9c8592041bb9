"""Digitally reconstructed radiographs of a CT: the PA and lateral film that a patient would have had."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from xrecon.data.body import without_table
from xrecon.data.frame import thorax_centre
from xrecon.geometry import ConeBeam
from xrecon.projector.attenuation import FILM_ENERGY_KEV, hu_to_mu
from xrecon.projector.operator import project
from xrecon.radiograph import Radiograph
from xrecon.volume import CANONICAL, Volume


def simulate(
    ct: Volume,
    *,
    size: int = 224,
    geometry: str | tuple[ConeBeam, ConeBeam] = "chest",
    keep_table: bool = False,
    centre_mm: NDArray[np.float64] | None = None,
    energy_kev: float = FILM_ENERGY_KEV,
    device: str | torch.device = "cpu",
) -> tuple[Radiograph, Radiograph]:
    """PA and lateral film of a CT, as line integrals of attenuation (monochromatic, no scatter, no noise).

    The whole scan is projected, also what lies outside the 384 mm frame. The isocentre is the middle of both lungs.
    Voxels finer than three quarters of a detector pixel (at the isocentre) are averaged to that first: the pixel
    averages over more.

    Args:
        ct: chest CT in HU.
        size: detector pixels per edge (for a preset).
        geometry: preset name, or the pair (PA, lateral).
        keep_table: project the table and everything else outside the body too.
        centre_mm: isocentre in the CT's LPS frame, mm; default `thorax_centre(ct)`.
        energy_kev: effective energy of the beam.
        device: torch device to project on.

    Returns:
        (pa, lateral), dimensionless, dense tissue bright.

    Raises:
        InputError: no body or no lungs in the CT.
        GeometryError: an impossible geometry.

    Example:
        >>> pa, lateral = xrecon.simulate(xrecon.load_ct("chest.nii.gz"), size=224)
    """
    ct = ct.canonical()
    body = ct if keep_table else without_table(ct)
    centre = thorax_centre(ct) if centre_mm is None else np.asarray(centre_mm, dtype=np.float64)
    views = geometry if isinstance(geometry, tuple) else film_pair(geometry, size=size)
    # Cone beams are placed relative to the volume's centre, along the volume's own axes (which are not quite the
    # scanner's where the scan is oblique); the isocentre sits at the thorax.
    index = np.linalg.solve(ct.affine[:3, :3], centre - ct.centre_mm)
    offset = CANONICAL @ (index * ct.spacing_mm)
    attenuation = _no_finer_than(body.with_hu(hu_to_mu(body.hu, energy_kev=energy_kev)), _finest_mm(views))
    mu = torch.from_numpy(attenuation.hu.copy()).to(device)[None, None]
    films = []
    for view, name in zip(views, ("pa", "lateral"), strict=True):
        placed = view.moved(translation_mm=(float(offset[0]), float(offset[1]), float(offset[2])))
        with torch.inference_mode():
            image = project(mu, attenuation.spacing_mm, placed)[0, 0].cpu().numpy()
        films.append(Radiograph(image.astype(np.float32), name, view, notes=body.notes))
    return films[0], films[1]


def film_pair(preset: str, *, size: int) -> tuple[ConeBeam, ConeBeam]:
    """The PA and lateral geometry of a preset."""
    return ConeBeam.preset(preset, "pa", size=size), ConeBeam.preset(preset, "lateral", size=size)


def _finest_mm(views: tuple[ConeBeam, ConeBeam]) -> float:
    return 0.75 * min(pitch for view in views for pitch in view.pixel_at_isocentre_mm)


def _no_finer_than(volume: Volume, finest_mm: float) -> Volume:
    spacing = [max(s, finest_mm) for s in volume.spacing_mm]
    shape = [math.ceil(n * s / t - 1e-6) for n, s, t in zip(volume.shape, volume.spacing_mm, spacing, strict=True)]
    if tuple(shape) == volume.shape:
        return volume
    return volume.resampled((shape[0], shape[1], shape[2]), (spacing[0], spacing[1], spacing[2]), fill_hu=0.0)
