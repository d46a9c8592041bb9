"""X-ray tube spectra and the attenuation tables of radiography: what a beam is made of and what it loses in matter.

Built-in tube model, a model and no measurement: bremsstrahlung of a thick tungsten target after Kramers (Phil Mag
46:836, 1923), each depth weakened on its way out of the anode (depth from the Thomson-Whiddington law, as Birch and
Marshall, Phys Med Biol 24:505, 1979), plus tungsten K lines. Two constants are fitted; docs/radiograph-physics.md
shows how well it agrees with SpekPy.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from xrecon.config import Config
from xrecon.errors import InputError, MissingPartError
from xrecon.projector.attenuation import bone_hu

Array = NDArray[np.float64]

# NIST, Hubbell and Seltzer, "Tables of X-Ray Mass Attenuation Coefficients", NISTIR 5632 (Standard Reference Database
# 126): total attenuation with coherent scattering, cm^2/g. An absorption edge is a pair of rows at one energy.
_COMMON_KEV = (10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 80.0, 100.0, 150.0)
_CSI_KEV = (10.0, 15.0, 20.0, 30.0, 33.17, 33.17, 35.98, 35.98, 40.0, 50.0, 60.0, 80.0, 100.0, 150.0)
_TUNGSTEN_KEV = (
    *(10.0, 10.21, 10.21, 11.54, 11.54, 12.10, 12.10, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(69.53, 69.53, 80.0, 100.0, 150.0),
)
_TABLES: Mapping[str, tuple[float, tuple[float, ...], tuple[float, ...]]] = MappingProxyType(
    {
        "water": (
            1.0,
            _COMMON_KEV,
            (5.329, 1.673, 0.8096, 0.3756, 0.2683, 0.2269, 0.2059, 0.1837, 0.1707, 0.1505),
        ),
        "bone": (  # cortical, ICRU-44
            1.92,
            _COMMON_KEV,
            (28.51, 9.032, 4.001, 1.331, 0.6655, 0.4242, 0.3148, 0.2229, 0.1855, 0.1480),
        ),
        "aluminium": (
            2.699,
            _COMMON_KEV,
            (26.23, 7.955, 3.441, 1.128, 0.5685, 0.3681, 0.2778, 0.2018, 0.1704, 0.1378),
        ),
        "caesium iodide": (
            4.51,
            _CSI_KEV,
            (171.1, 58.15, 26.86, 9.045, 6.923, 21.22, 17.19, 30.27, 22.97, 12.87, 7.921, 3.677, 2.035, 0.7290),
        ),
        "tungsten": (
            19.3,
            _TUNGSTEN_KEV,
            (
                *(96.91, 92.01, 233.4, 168.9, 231.2, 206.5, 238.2, 138.9, 65.73, 22.73, 10.67, 5.949, 3.713),
                *(2.552, 11.23, 7.810, 4.438, 1.581),
            ),
        ),
    }
)
"""Material -> (density in g/cm^3, energies in keV, mass attenuation in cm^2/g)."""
MATERIALS = tuple(_TABLES)
DENSITY_G_PER_CM3 = MappingProxyType({material: table[0] for material, table in _TABLES.items()})
LOWEST_KEV, HIGHEST_KEV = _COMMON_KEV[0], _COMMON_KEV[-1]

# The same tables, dry air: mass energy-absorption coefficient, cm^2/g. It turns a fluence into air kerma.
_AIR_ABSORPTION_CM2_PER_G = (4.742, 1.334, 0.5389, 0.1537, 0.06833, 0.04098, 0.03041, 0.02407, 0.02325, 0.02496)
_JOULE_PER_KEV = 1.602176634e-16

# Tungsten K emission (X-Ray Data Booklet, LBNL/PUB-490, table 1-3): keV and intensity relative to K-alpha1.
_K_EDGE_KEV = 69.53
_K_LINES_KEV = np.array([57.98, 59.32, 66.95, 67.24, 69.07])
_K_LINES_SHARE = np.array([58.0, 100.0, 11.0, 22.0, 8.0])
# K photons grow with the overvoltage to the power 1.63 (Green and Cosslett, J Phys D 1:425, 1968).
_K_POWER = 1.63
# Two constants of the model, fitted once to SpekPy 2.5.4 (Poludniowski et al., Med Phys 48:3630, 2021) at 70-150 kVp
# and 1.5-42.5 mm Al: the strength of the K lines against Kramers' integral, and the electrons' slowing down,
# keV^2 cm^2/g per kVp. The latter is effective (electrons diffuse and stay nearer to the surface than straight tracks).
_K_YIELD = 10.5
_SLOWING_PER_KVP = 1.9e4


class Beam(Config):
    """X-ray tube and filter: a polychromatic beam."""

    kvp: float = Field(default=120.0, ge=50.0, le=150.0, description="tube voltage, kV; chest stands use 110-125")
    filtration_mm_al: float = Field(default=3.0, ge=0.5, le=50.0, description="total filtration, mm of aluminium")
    anode_angle_deg: float = Field(default=12.0, ge=5.0, le=25.0, description="target angle, degrees")
    source: Literal["builtin", "spekpy"] = Field(
        default="builtin", description="the model of this module, or the optional package spekpy"
    )
    step_kev: int = Field(
        default=1,
        ge=1,
        le=20,
        description="width of the energy bins, keV; 8 is five times as fast and as good to 0.5 %",
    )


def attenuation_per_mm(material: str, energy_kev: Array | float) -> Array:
    """Linear attenuation in 1/mm at energies in keV (10..150), log-log interpolated between the NIST rows.

    Args:
        material: one of `MATERIALS`, at its nominal density.
        energy_kev: photon energy or energies, any shape.

    Raises:
        InputError: an unknown material, or an energy outside the table.
    """
    if material not in _TABLES:
        raise InputError(f"unknown material {material!r}; choose one of {', '.join(_TABLES)}")
    density, energies, coefficients = _TABLES[material]
    return _log_log(energy_kev, energies, coefficients) * density / 10.0


def _log_log(energy_kev: Array | float, energies: tuple[float, ...], values: tuple[float, ...]) -> Array:
    energy = np.asarray(energy_kev, dtype=np.float64)
    if energy.size and not (energy.min() >= LOWEST_KEV and energy.max() <= HIGHEST_KEV):
        raise InputError(
            f"energy_kev must lie in {LOWEST_KEV:g}..{HIGHEST_KEV:g} keV, got {energy.min():g}..{energy.max():g}"
        )
    return np.asarray(np.exp(np.interp(np.log(energy), np.log(energies), np.log(values))), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Photons of a beam by energy.

    Attributes:
        energy_kev: [n] bin centres, keV, ascending, within 10..150.
        fluence: [n] photons per bin, any scale; brought to a sum of 1.
        name: tube or source, for people to read.

    Raises:
        InputError: shapes that differ, energies outside the table, negative, non-finite or no photons.
    """

    energy_kev: Float[ndarray, " energies"]
    fluence: Float[ndarray, " energies"]
    name: str = "custom"

    def __post_init__(self) -> None:
        energy, fluence = (np.array(v, dtype=np.float64) for v in (self.energy_kev, self.fluence))
        if energy.ndim != 1 or energy.shape != fluence.shape or not energy.size:
            raise InputError(
                f"spectrum {self.name}: expected two lists of one length, got shapes {energy.shape} and {fluence.shape}"
            )
        inside = energy[0] >= LOWEST_KEV and energy[-1] <= HIGHEST_KEV and bool((np.diff(energy) > 0).all())
        if not inside:
            raise InputError(
                f"spectrum {self.name}: energies must ascend within {LOWEST_KEV:g}..{HIGHEST_KEV:g} keV, "
                f"got {energy[0]:g}..{energy[-1]:g}"
            )
        if not np.isfinite(fluence).all() or fluence.min() < 0 or fluence.sum() <= 0:
            raise InputError(f"spectrum {self.name}: photon numbers must be finite, not negative, and not all zero")
        object.__setattr__(self, "energy_kev", energy)
        object.__setattr__(self, "fluence", fluence / fluence.sum())

    @classmethod
    def monochromatic(cls, energy_kev: float) -> Spectrum:
        """All photons at one energy, keV."""
        return cls(np.array([energy_kev]), np.ones(1), name=f"{energy_kev:g} keV")

    @property
    def mean_energy_kev(self) -> float:
        """Mean photon energy, keV."""
        return float(self.energy_kev @ self.fluence)

    @property
    def kerma_ugy_mm2(self) -> float:
        """Air kerma per photon fluence, uGy per (photon/mm^2); about 1/31000 for a chest beam."""
        absorption = _log_log(self.energy_kev, _COMMON_KEV, _AIR_ABSORPTION_CM2_PER_G)
        gray_cm2 = float((self.fluence * self.energy_kev * absorption).sum()) * _JOULE_PER_KEV * 1000.0
        return gray_cm2 * 100.0 * 1e6

    def filtered(self, material: str, thickness_mm: float) -> Spectrum:
        """The photons that pass a layer of one of `MATERIALS`, mm (of the sum of 1, rescaled to 1).

        Raises:
            InputError: an unknown material, a negative thickness, or a layer that lets nothing through.
        """
        if not (math.isfinite(thickness_mm) and thickness_mm >= 0):
            raise InputError(f"thickness_mm of {material} must be finite and not negative, got {thickness_mm}")
        passed = self.fluence * np.exp(-attenuation_per_mm(material, self.energy_kev) * thickness_mm)
        return replace(self, fluence=passed, name=f"{self.name} + {thickness_mm:g} mm {material}")

    def half_value_layer_mm(self, material: str = "aluminium") -> float:
        """Thickness that halves the air kerma, mm (narrow beam)."""
        mu = attenuation_per_mm(material, self.energy_kev)
        kerma = self.fluence * self.energy_kev * _log_log(self.energy_kev, _COMMON_KEV, _AIR_ABSORPTION_CM2_PER_G)
        # The hardest photon's own half value is the longest possible: bisect below it.
        low, high = 0.0, math.log(2.0) / float(mu.min())
        for _ in range(60):
            middle = 0.5 * (low + high)
            if float((kerma * np.exp(-mu * middle)).sum()) > 0.5 * float(kerma.sum()):
                low = middle
            else:
                high = middle
        return 0.5 * (low + high)


def tube_spectrum(beam: Beam) -> Spectrum:
    """The spectrum that leaves the tube's filter, in bins of `beam.step_kev`.

    Raises:
        MissingPartError: `beam.source` is spekpy and that package is not installed.

    Example:
        >>> tube_spectrum(Beam(kvp=120, filtration_mm_al=3)).mean_energy_kev
    """
    name = f"{beam.kvp:g} kVp, {beam.filtration_mm_al:g} mm Al"
    energy = np.arange(LOWEST_KEV + 0.5, beam.kvp, 1.0)
    if beam.source == "spekpy":
        return _merged(_from_spekpy(beam, energy, name), beam.step_kev)
    bare = Spectrum(energy, _bremsstrahlung(energy, beam) + _k_lines(energy, beam), name=name)
    return _merged(replace(bare.filtered("aluminium", beam.filtration_mm_al), name=name), beam.step_kev)


def _merged(spectrum: Spectrum, count: int) -> Spectrum:
    """The spectrum with so many neighbouring bins taken together, each group at its mean energy."""
    if count == 1:
        return spectrum
    starts = np.arange(0, spectrum.energy_kev.size, count)
    fluence = np.add.reduceat(spectrum.fluence, starts)
    middle = np.add.reduceat(spectrum.energy_kev, starts) / np.diff(np.append(starts, spectrum.energy_kev.size))
    weighted = np.add.reduceat(spectrum.fluence * spectrum.energy_kev, starts)
    mean = np.divide(weighted, fluence, out=middle, where=fluence > 0)
    return Spectrum(mean, fluence, name=spectrum.name)


def _escape(
    energy_kev: Float[ndarray, " photons"], electron_kev: Float[ndarray, " electrons"], beam: Beam
) -> Float[ndarray, "photons electrons"]:
    """Share of photons that leave the anode, by their energy and by that to which the electron had slowed down."""
    cm2_per_g = attenuation_per_mm("tungsten", energy_kev) * 10.0 / DENSITY_G_PER_CM3["tungsten"]
    depth = (beam.kvp**2 - electron_kev**2) / (_SLOWING_PER_KVP * beam.kvp)
    return np.asarray(
        np.exp(-cm2_per_g[:, None] * depth / math.tan(math.radians(beam.anode_angle_deg))), dtype=np.float64
    )


def _bremsstrahlung(energy: Array, beam: Beam) -> Array:
    """Kramers' 1/E per step of electron energy, summed over the steps above E, each weakened by the anode."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    total = np.zeros_like(energy)
    for index, photon_kev in enumerate(energy):
        electron = photon_kev + (beam.kvp - photon_kev) * (nodes + 1.0) / 2.0
        escaping = _escape(energy[index : index + 1], electron, beam)[0]
        total[index] = (escaping @ weights) * (beam.kvp - photon_kev) / 2.0 / photon_kev
    return total


def _k_lines(energy: Array, beam: Beam) -> Array:
    lines = np.zeros_like(energy)
    if beam.kvp <= _K_EDGE_KEV:
        return lines
    # Electrons ionise the K shell while they are above the edge: the photons start half way down to it.
    start = np.array([0.5 * (beam.kvp + _K_EDGE_KEV)])
    strength = _K_YIELD * (beam.kvp / _K_EDGE_KEV - 1.0) ** _K_POWER
    photons = strength * _K_LINES_SHARE / _K_LINES_SHARE.sum() * _escape(_K_LINES_KEV, start, beam)[:, 0]
    np.add.at(lines, np.floor(_K_LINES_KEV - LOWEST_KEV).astype(int), photons)
    return lines


def _from_spekpy(beam: Beam, energy: Array, name: str) -> Spectrum:
    try:
        spekpy = importlib.import_module("spekpy")
    except ImportError as error:
        raise MissingPartError(
            "beam.source is spekpy, which is not installed: pip install spekpy, or use source=builtin"
        ) from error
    tube = spekpy.Spek(kvp=beam.kvp, th=beam.anode_angle_deg, dk=1.0)
    tube.filter("Al", beam.filtration_mm_al)
    theirs, fluence = tube.get_spectrum()
    return Spectrum(energy, np.interp(energy, theirs, fluence, left=0.0, right=0.0), name=f"{name} (spekpy)")


def material_fractions(
    hu: Float[Tensor, "*shape"],
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Voxels as mixtures of water and cortical bone: (water, bone), mm of either per mm of path, at any energy.

    The two segments of `attenuation.hu_to_mu`, taken apart: mu(HU, E) = water mu_water(E) + bone mu_bone(E) exactly.
    Beyond cortical bone (about 1590 HU: metal, contrast medium) the line goes on, with negative water.

    Args:
        hu: HU, floating point, any shape.
    """
    bone = hu.clamp(min=0.0) / bone_hu()
    return (hu.clamp(-1000.0, 0.0) + 1000.0) / 1000.0 - bone, bone
