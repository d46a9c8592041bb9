"""From material along each ray to the film a stand would have shown: beam, scatter, heel, noise, blur, log, display.

Every part is optional and off by default (`FilmPhysics()` is the linear film); `FilmPhysics` sections that are None do
nothing. The order follows the photons: tube (spectrum, focal spot, heel), patient (attenuation, scatter), grid,
scintillator (absorbed quanta, light spread), read-out (electronic noise), flat field, logarithm, display.
Torch only: any device, any leading axes; differentiable in the lengths as long as noise and display are off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from xrecon.errors import InputError
from xrecon.geometry import ConeBeam
from xrecon.projector.attenuation import FILM_ENERGY_KEV
from xrecon.projector.physics import Display, FilmPhysics, Heel, Noise, Scatter, Scintillator
from xrecon.projector.spectrum import DENSITY_G_PER_CM3, Array, Spectrum, attenuation_per_mm, tube_spectrum

_FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
_BEHIND_PATIENT = 1.0
"""Line integral from which a pixel counts as behind the patient (5 cm of tissue)."""
_DARKEST = 1e-7
"""Signal relative to the open beam at which the logarithm is cut: 16 in the line integral, beyond any chest."""
_COARSE_SIGMA = 4.0
"""Pixels per standard deviation that represent a Gaussian well: wider ones are computed on a coarser grid."""


Film = Float[Tensor, "*batch rows cols"]
"""One film, or a stack of films of one geometry."""


@dataclass(frozen=True, eq=False)
class Exposure:
    """What `expose` gives; tensors [..., rows, cols], intensities relative to the open beam (1 without a patient).

    Attributes:
        primary: energy absorbed from rays that went straight, focal spot blur included, 0..1.
        scatter: energy absorbed from scattered rays; 0 where that part is off.
        line_integral: -ln of the signal read out, dimensionless; with all parts off, the integral of mu dl.
        grey: display values 0..1 on the steps of 8 or 16 bits, or None where the display is off.
        spectrum: the beam.
        photons_per_mm2: [...] open beam at the detector plane in front of the grid; None where noise is off.
    """

    primary: Film
    scatter: Film
    line_integral: Film
    grey: Film | None
    spectrum: Spectrum
    photons_per_mm2: Float[Tensor, "*batch"] | None


def expose(
    water_mm: Film,
    bone_mm: Film,
    physics: FilmPhysics,
    *,
    geometry: ConeBeam,
    energy_kev: float = FILM_ENERGY_KEV,
    generator: torch.Generator | None = None,
) -> Exposure:
    """Expose one film, or a stack of films of one geometry.

    Args:
        water_mm: [..., rows, cols] water along each ray, mm: projection of the first of `spectrum.material_fractions`.
        bone_mm: the same of cortical bone.
        physics: which parts are on.
        geometry: pixel pitch and magnification.
        energy_kev: photon energy where `physics.beam` is off.
        generator: source of the noise, on any device; needed where `physics.noise` is on.

    Raises:
        InputError: shapes that differ or do not fit the detector, lengths that are not finite, an energy outside the
            table, noise without a generator, or nothing that reaches the exposure control.
        MissingPartError: the beam asks for spekpy and it is not installed.

    Example:
        >>> film = expose(water, bone, film_physics("clinical", ["display=null"]), geometry=view, generator=generator)
    """
    _check_lengths(water_mm, bone_mm, geometry)
    spectrum = Spectrum.monochromatic(energy_kev) if physics.beam is None else tube_spectrum(physics.beam)
    primary, quanta = transmit(water_mm, bone_mm, spectrum, scintillator=physics.scintillator)
    if physics.blur is not None:
        # The shadow of an edge at the isocentre is as wide as the focal spot times (magnification - 1).
        penumbra_mm = physics.blur.focal_spot_mm * (geometry.magnification - 1.0)
        primary = gaussian_blur(primary, penumbra_mm, pixel_mm=geometry.pixel_mm)
    scatter = torch.zeros_like(primary)
    if physics.scatter is not None:
        scatter = scattered(primary, physics.scatter, pixel_mm=geometry.pixel_mm)
    shading = torch.ones_like(primary)
    if physics.heel is not None:
        shading = shading * heel_profile(physics.heel, like=primary)
    signal = shading * (primary + scatter)
    signal, photons = _read_out(signal, quanta, physics, spectrum=spectrum, geometry=geometry, generator=generator)
    if physics.heel is not None and physics.heel.flat_field:
        signal = signal / shading
    line_integral = -signal.clamp(min=_DARKEST).log()
    grey = None if physics.display is None else grey_values(line_integral, physics.display)
    return Exposure(primary, scatter, line_integral, grey, spectrum, photons)


def _check_lengths(water_mm: Film, bone_mm: Film, geometry: ConeBeam) -> None:
    for name, values in (("water_mm", water_mm), ("bone_mm", bone_mm)):
        if values.ndim < 2 or tuple(values.shape[-2:]) != geometry.detector_shape or not values.is_floating_point():
            raise InputError(
                f"{name}: expected floating-point lengths [..., rows, cols] on the geometry's detector "
                f"{geometry.detector_shape}, got {tuple(values.shape)} {values.dtype}"
            )
        if not bool(values.isfinite().all()):
            raise InputError(f"{name}: {int((~values.isfinite()).sum())} values are NaN or infinite; project again")
    if water_mm.shape != bone_mm.shape or water_mm.dtype != bone_mm.dtype or water_mm.device != bone_mm.device:
        raise InputError(
            f"water_mm and bone_mm must be alike, got {tuple(water_mm.shape)} {water_mm.dtype} {water_mm.device} "
            f"and {tuple(bone_mm.shape)} {bone_mm.dtype} {bone_mm.device}"
        )


def detected(spectrum: Spectrum, scintillator: Scintillator) -> tuple[Array, Array]:
    """Response of the detector to one open-beam photon, by energy: (energy absorbed, its square), keV and keV^2.

    An absorbed photon deposits all its energy; K fluorescence that escapes is not modelled (`Noise.swank_factor`
    stands for it, too). The square of the first's sum over the second's is the DQE at zero frequency without the
    spread of light.
    """
    thickness_mm = scintillator.csi_mg_per_cm2 / (100.0 * DENSITY_G_PER_CM3["caesium iodide"])
    absorbed = -np.expm1(-attenuation_per_mm("caesium iodide", spectrum.energy_kev) * thickness_mm)
    energy = spectrum.fluence * absorbed * spectrum.energy_kev
    return energy, energy * spectrum.energy_kev


def transmit(
    water_mm: Float[Tensor, "*shape"],
    bone_mm: Float[Tensor, "*shape"],
    spectrum: Spectrum,
    *,
    scintillator: Scintillator,
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Polychromatic Beer-Lambert law in two materials, seen by an energy-integrating detector.

    Args:
        water_mm: water along each ray, mm; any shape, mostly [..., rows, cols].
        bone_mm: the same of cortical bone.
        spectrum: the beam.
        scintillator: the detector's response.

    Returns:
        (signal, quanta), both relative to the open beam: absorbed energy, 0..1; and how many effective quanta carry a
        unit of signal (below 1 behind the patient, where the photons that are left are harder).
    """
    first, second = detected(spectrum, scintillator)
    water = attenuation_per_mm("water", spectrum.energy_kev)
    bone = attenuation_per_mm("bone", spectrum.energy_kev)
    signal, square = torch.zeros_like(water_mm), torch.zeros_like(water_mm)
    # Energy by energy: a stack of a hundred films would not fit beside a large one.
    for a, b, mu_water, mu_bone in zip(first / first.sum(), second / second.sum(), water, bone, strict=True):
        passed = torch.exp(-(float(mu_water) * water_mm + float(mu_bone) * bone_mm))
        signal = signal + float(a) * passed
        square = square + float(b) * passed
    tiny = torch.finfo(signal.dtype).tiny
    return signal, signal.clamp(min=tiny) / square.clamp(min=tiny)


def scattered(primary: Film, scatter: Scatter, *, pixel_mm: tuple[float, float]) -> Film:
    """Scattered intensity at the detector, relative to the open beam.

    A Gaussian of what single scattering gives along each ray, primary times line integral (Ohnesorge, Flohr and
    Klingenbeck-Regn, Eur Radiol 9:563, 1999): nothing in the open beam, most behind a moderate thickness. It is scaled
    so that scatter over primary, summed behind the patient, is `scatter.ratio_at_detector`; 0 without a patient.

    Args:
        primary: [..., rows, cols] transmitted intensity, 0..1.
        scatter: ratio, width, grid.
        pixel_mm: pixel pitch at the detector (rows, cols), mm.
    """
    line_integral = -primary.clamp(_DARKEST, 1.0).log()
    cloud = gaussian_blur(primary * line_integral, scatter.fwhm_mm, pixel_mm=pixel_mm)
    behind = (line_integral > _BEHIND_PATIENT).to(primary.dtype)
    total = (cloud * behind).sum(dim=(-2, -1), keepdim=True)
    straight = (primary * behind).sum(dim=(-2, -1), keepdim=True)
    share = torch.where(total > 0, straight / total.clamp(min=torch.finfo(total.dtype).tiny), 0.0)
    return cloud * share * scatter.ratio_at_detector


def heel_profile(heel: Heel, *, like: Film) -> Float[Tensor, "#rows #cols"]:
    """Relative intensity of the open beam, linear along the anode-cathode axis, 1 in the middle of the film.

    Returns:
        [rows, 1] or [1, cols], of dtype and device of `like` [..., rows, cols].
    """
    upright = heel.anode_side in ("top", "bottom")
    count = like.shape[-2] if upright else like.shape[-1]
    place = (2.0 * torch.arange(count, dtype=like.dtype, device=like.device) + 1.0) / count - 1.0
    if heel.anode_side in ("bottom", "right"):
        place = -place
    profile = 1.0 + place * (1.0 - heel.ratio) / (1.0 + heel.ratio)
    return profile[:, None] if upright else profile[None, :]


def gaussian_blur(image: Film, fwhm_mm: float, *, pixel_mm: tuple[float, float]) -> Film:
    """Films convolved with a Gaussian of `fwhm_mm`, averaged over each pixel; the border values go on.

    Gaussians of 8 pixels and more (standard deviation) are computed on a grid that is coarser by a whole factor.
    """
    if fwhm_mm <= 0:
        return image
    rows, cols = image.shape[-2:]
    sigmas = [fwhm_mm / _FWHM_PER_SIGMA / pitch for pitch in pixel_mm]
    factors = [max(1, int(sigma / _COARSE_SIGMA)) for sigma in sigmas]
    # Pad to whole coarse pixels.
    flat = functional.pad(image.reshape(-1, 1, rows, cols), (0, -cols % factors[1], 0, -rows % factors[0]), "replicate")
    size = flat.shape[-2:]
    flat = functional.avg_pool2d(flat, factors)
    for axis, (sigma, factor) in enumerate(zip(sigmas, factors, strict=True)):
        # Averaging and linear interpolation blur, too: variances of a twelfth and a sixth of a coarse pixel squared.
        grid_variance = 0.25 if factor > 1 else 0.0
        flat = _convolved(flat, math.sqrt((sigma / factor) ** 2 - grid_variance), dim=2 + axis)
    if max(factors) > 1:
        flat = functional.interpolate(flat, size=size, mode="bilinear", align_corners=False)
    return flat[..., :rows, :cols].reshape(image.shape)


def _convolved(
    image: Float[Tensor, "films 1 rows cols"], sigma: float, *, dim: int
) -> Float[Tensor, "films 1 rows cols"]:
    """Convolved along one axis with a Gaussian of `sigma` pixels that is averaged over each pixel."""
    radius = math.ceil(4.0 * sigma + 0.5)
    edges = torch.arange(-radius, radius + 2, dtype=torch.float64) - 0.5
    weights = torch.erf(edges / (sigma * math.sqrt(2.0))).diff()
    weights = (weights / weights.sum()).to(image)
    shape, pads = ((1, 1, -1, 1), (0, 0, radius, radius)) if dim == 2 else ((1, 1, 1, -1), (radius, radius, 0, 0))
    return functional.conv2d(functional.pad(image, pads, mode="replicate"), weights.reshape(shape))


def _read_out(
    signal: Film,
    quanta: Film,
    physics: FilmPhysics,
    *,
    spectrum: Spectrum,
    geometry: ConeBeam,
    generator: torch.Generator | None,
) -> tuple[Film, Float[Tensor, "*batch"] | None]:
    """(signal with noise and the detector's blur, open-beam photons per mm^2 in front of the grid)."""
    noise = physics.noise
    if noise is None:
        return _spread(signal, physics, geometry), None
    if generator is None:
        raise InputError("noise is on and no generator was given: pass a seeded torch.Generator, or noise=null")
    passed = physics.scatter.grid_primary if physics.scatter is not None and physics.scatter.grid else 1.0
    photons = open_beam_photons(signal, noise, spectrum=spectrum, grid_primary=passed)
    first, second = detected(spectrum, physics.scintillator)
    area_mm2 = geometry.pixel_mm[0] * geometry.pixel_mm[1]
    open_quanta = photons * (passed * area_mm2 * float(first.sum() ** 2 / second.sum()))
    signal = with_quantum_noise(signal, open_quanta * quanta * noise.swank_factor, generator=generator)
    # Light spreads after the quanta were absorbed: it smooths their noise, but not that of the read-out.
    signal = _spread(signal, physics, geometry)
    rms = noise.electronic_quanta * math.sqrt(area_mm2) / noise.element_mm / open_quanta
    deviate = torch.randn(signal.shape, generator=generator, device=generator.device, dtype=signal.dtype)
    return signal + rms * deviate.to(signal.device), photons[..., 0, 0]


def _spread(signal: Film, physics: FilmPhysics, geometry: ConeBeam) -> Film:
    """The signal after the spread of light in the detector."""
    if physics.blur is None:
        return signal
    return gaussian_blur(signal, physics.blur.detector_fwhm_mm, pixel_mm=geometry.pixel_mm)


def open_beam_photons(
    signal: Film, noise: Noise, *, spectrum: Spectrum, grid_primary: float = 1.0
) -> Float[Tensor, "*batch 1 1"]:
    """Photons per mm^2 of the open beam at the detector plane, in front of the grid, that give `noise.exposure`.

    Under exposure control the mean signal over the film's central half (rows and columns) gets the exposure, behind
    the grid; kerma is taken to fall like the absorbed energy does.

    Args:
        signal: [..., rows, cols] relative to the open beam.
        noise: exposure, its unit and place.
        spectrum: the open beam.
        grid_primary: what the grid passes of the primary.

    Returns:
        [..., 1, 1] photons per mm^2.

    Raises:
        InputError: nothing reaches the central half.
    """
    photons = noise.exposure if noise.exposure_unit == "photons_per_mm2" else noise.exposure / spectrum.kerma_ugy_mm2
    if noise.exposure_at == "open_beam":
        return torch.full_like(signal[..., :1, :1], photons)
    rows, cols = signal.shape[-2:]
    centre = signal[..., rows // 4 : rows - rows // 4, cols // 4 : cols - cols // 4]
    mean = centre.detach().mean(dim=(-2, -1), keepdim=True)
    if not bool((mean > torch.finfo(mean.dtype).tiny).all()):
        raise InputError(
            f"no radiation reaches the middle of the film (mean signal {float(mean.min()):g} of the open beam), so the "
            "automatic exposure has no end: are the lengths in mm? Or use noise.exposure_at=open_beam"
        )
    return photons / (mean * grid_primary)


def with_quantum_noise(signal: Film, quanta: Tensor, *, generator: torch.Generator) -> Film:
    """Poisson noise: mean `signal`, variance `signal / quanta`.

    Args:
        signal: [..., rows, cols] not negative, relative to the open beam.
        quanta: effective quanta per pixel at a signal of 1, broadcast to the signal.
        generator: source of the random numbers, on any device.
    """
    expected = (signal * quanta).detach().to(generator.device)
    counts: Tensor = torch.poisson(expected, generator=generator)
    return counts.to(signal.device) / quanta


def grey_values(line_integral: Film, display: Display) -> Film:
    """Grey values 0..1 of line integrals, rounded to the steps of 8 or 16 bits; dense is bright.

    `sigmoid` is 1 / (1 + exp(-4 (x - centre) / width)) (DICOM PS3.3, C.11.2.1.3.1): a straight middle, toe and
    shoulder. The automatic window is taken from each film by itself. Multiplied by 2^bits - 1 these are the codes.
    """
    if display.window is not None:
        low, high = (torch.full_like(line_integral[..., :1, :1], v) for v in display.window)
    else:
        ordered = line_integral.detach().flatten(-2).sort(dim=-1).values
        last = ordered.shape[-1] - 1
        low, high = (ordered[..., round(v / 100.0 * last)][..., None, None] for v in display.window_percent)
    place = (line_integral - low) / (high - low).clamp(min=1e-6)
    grey = torch.sigmoid(4.0 * (place - 0.5)) if display.curve == "sigmoid" else place.clamp(0.0, 1.0)
    steps = float(2**display.bits - 1)
    grey = (grey * steps).round() / steps
    return 1.0 - grey if display.invert else grey
