"""Digitally reconstructed radiographs of a CT: the PA and lateral film that a patient would have had."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from xrecon.anatomy.body import without_table
from xrecon.anatomy.frame import thorax_centre
from xrecon.errors import InputError
from xrecon.geometry import VIEWS, ConeBeam
from xrecon.projector.attenuation import FILM_ENERGY_KEV, hu_to_mu
from xrecon.projector.detector import expose
from xrecon.projector.operator import project
from xrecon.projector.physics import FilmPhysics
from xrecon.projector.spectrum import material_fractions
from xrecon.radiograph import Quantity, Radiograph
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
    physics: FilmPhysics | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Radiograph, Radiograph]:
    """PA and lateral film of a CT, as line integrals of attenuation (monochromatic, no scatter, no noise).

    With `physics` the film that a stand would have shown: see `xrecon.projector.physics`.

    The whole scan is projected, also what lies outside the 384 mm frame. The isocentre is the middle of both lungs.
    Voxels finer than three quarters of a detector pixel (at the isocentre) are averaged to that first: the pixel
    averages over more.

    Args:
        ct: chest CT in HU.
        size: detector pixels per edge (for a preset).
        geometry: preset name, or the pair (PA, lateral).
        keep_table: project the table and everything else outside the body too.
        centre_mm: isocentre in the CT's LPS frame, mm; default `thorax_centre(ct)`.
        energy_kev: effective energy of the beam (where `physics` has no polychromatic beam).
        device: torch device to project on.
        physics: beam, scatter, heel effect, noise, blur and display of the films; None: plain line integrals.
        generator: source of the noise; needed where `physics.noise` is on.

    Returns:
        (pa, lateral), dense tissue bright: line integrals (dimensionless), or display values 0..1 where
        `physics.display` is on.

    Raises:
        InputError: no body or no lungs in the CT; an inverted display; noise without a generator.
        GeometryError: an impossible geometry.
        MissingPartError: the beam asks for spekpy and it is not installed.

    Example:
        >>> pa, lateral = xrecon.simulate(xrecon.load_ct("chest.nii.gz"), size=224)
        >>> physics = film_physics("clinical", ["beam.kvp=110"])
        >>> pa, lateral = xrecon.simulate(ct, physics=physics, generator=torch.Generator().manual_seed(0))
    """
    if physics is not None:
        _check_physics(physics, generator)
    ct = ct.canonical()
    body = ct if keep_table else without_table(ct)
    centre = thorax_centre(ct) if centre_mm is None else np.asarray(centre_mm, dtype=np.float64)
    views = geometry if isinstance(geometry, tuple) else film_pair(geometry, size=size)
    rays = _FilmRays(_placed(views, ct, centre), _finest_mm(views), device)
    if physics is None:
        images = rays.integrals(body.with_hu(hu_to_mu(body.hu, energy_kev=energy_kev)))
        return _films([image.cpu().numpy() for image in images], views, body.notes, "line_integral")
    materials = material_fractions(torch.from_numpy(body.hu.copy()))
    water, bone = (rays.integrals(body.with_hu(material.numpy())) for material in materials)
    images = _exposed(water, bone, views, physics, energy_kev=energy_kev, generator=generator)
    notes = (*body.notes, f"film physics: {_summary(physics, energy_kev)}")
    quantity: Quantity = "line_integral" if physics.display is None else "display"
    return _films([image.cpu().numpy() for image in images], views, notes, quantity)


def _check_physics(physics: FilmPhysics, generator: torch.Generator | None) -> None:
    if physics.display is not None and physics.display.invert:
        raise InputError(
            "display.invert is on, but a Radiograph holds dense tissue bright: leave it off, and invert the picture "
            "where you show it"
        )
    if physics.noise is not None and generator is None:
        raise InputError("physics.noise is on: pass generator=torch.Generator().manual_seed(...), or switch noise off")


def _placed(views: tuple[ConeBeam, ConeBeam], ct: Volume, centre_mm: NDArray[np.float64]) -> list[ConeBeam]:
    """The views with their isocentre at a place of the CT, LPS mm.

    Cone beams are placed relative to the volume's centre, along the volume's own axes (which are not quite the
    scanner's where the scan is oblique).
    """
    index = np.linalg.solve(ct.affine[:3, :3], centre_mm - ct.centre_mm)
    offset = CANONICAL @ (index * ct.spacing_mm)
    return [view.moved(translation_mm=(float(offset[0]), float(offset[1]), float(offset[2]))) for view in views]


@dataclass(frozen=True)
class _FilmRays:
    """The rays of both films through one CT.

    Attributes:
        views: geometry, relative to the volume's centre.
        finest_mm: voxels finer than this are averaged first.
        device: torch device to project on.
    """

    views: Sequence[ConeBeam]
    finest_mm: float
    device: str | torch.device

    def integrals(self, volume: Volume) -> list[torch.Tensor]:
        """[rows, cols] per view: integrals of the values of `volume` (per mm) along the rays."""
        volume = _no_finer_than(volume, self.finest_mm)
        values = torch.from_numpy(volume.hu.copy()).to(self.device)[None, None]
        with torch.inference_mode():
            return [project(values, volume.spacing_mm, view)[0, 0] for view in self.views]


def _exposed(
    water: list[torch.Tensor],
    bone: list[torch.Tensor],
    views: tuple[ConeBeam, ConeBeam],
    physics: FilmPhysics,
    *,
    energy_kev: float,
    generator: torch.Generator | None,
) -> list[torch.Tensor]:
    """[rows, cols] per view: what the detector shows behind these lengths of water and bone, [rows, cols] per view."""
    images = []
    with torch.inference_mode():
        for water_film, bone_film, view in zip(water, bone, views, strict=True):
            film = expose(water_film, bone_film, physics, geometry=view, energy_kev=energy_kev, generator=generator)
            images.append(film.line_integral if film.grey is None else film.grey)
    return images


def _films(
    images: Sequence[NDArray[np.float32]],
    views: tuple[ConeBeam, ConeBeam],
    notes: tuple[str, ...],
    quantity: Quantity,
) -> tuple[Radiograph, Radiograph]:
    pa, lateral = (
        Radiograph(image.astype(np.float32), name, view, quantity=quantity, notes=notes)
        for image, name, view in zip(images, VIEWS, views, strict=True)
    )
    return pa, lateral


def _summary(physics: FilmPhysics, energy_kev: float) -> str:
    beam = physics.beam
    parts = [f"{energy_kev:g} keV" if beam is None else f"{beam.kvp:g} kVp, {beam.filtration_mm_al:g} mm Al"]
    names = ("scatter", "heel", "noise", "blur", "display")
    return ", ".join(parts + [name for name in names if getattr(physics, name) is not None])


def film_pair(preset: str, *, size: int) -> tuple[ConeBeam, ConeBeam]:
    """The PA and lateral geometry of a preset."""
    return ConeBeam.preset(preset, "pa", size=size), ConeBeam.preset(preset, "lateral", size=size)


def _finest_mm(views: tuple[ConeBeam, ConeBeam]) -> float:
    """Three quarters of the smallest detector pixel at the isocentre, mm: the pixel averages over more."""
    return 0.75 * min(pitch for view in views for pitch in view.pixel_at_isocentre_mm)


def _no_finer_than(volume: Volume, finest_mm: float) -> Volume:
    spacing = [max(s, finest_mm) for s in volume.spacing_mm]
    shape = [math.ceil(n * s / t - 1e-6) for n, s, t in zip(volume.shape, volume.spacing_mm, spacing, strict=True)]
    if tuple(shape) == volume.shape:
        return volume
    return volume.resampled((shape[0], shape[1], shape[2]), (spacing[0], spacing[1], spacing[2]), fill_hu=0.0)
