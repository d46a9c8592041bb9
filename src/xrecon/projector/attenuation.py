"""Hounsfield units to linear attenuation at the beam's effective energy, and back.

Two segments (Carney et al., Med Phys 33:976, 2006, the form used for CT-based attenuation maps): up to water the
voxel is a mixture of air and water, above it a mixture of water and cortical bone. Values at HU <= -1000 are vacuum;
lung at -800 HU keeps its fifth of water's attenuation.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from xrecon.errors import InputError

# Mass attenuation coefficients, cm^2/g: NIST, Hubbell and Seltzer, "Tables of X-Ray Mass Attenuation Coefficients",
# NISTIR 5632, liquid water and cortical bone (ICRU-44).
_ENERGY_KEV = np.array([30.0, 40.0, 50.0, 60.0, 80.0, 100.0])
_WATER_CM2_PER_G = np.array([0.3756, 0.2683, 0.2269, 0.2059, 0.1837, 0.1707])
_BONE_CM2_PER_G = np.array([1.331, 0.6655, 0.4242, 0.3148, 0.2229, 0.1855])
_BONE_G_PER_CM3 = 1.92

FILM_ENERGY_KEV = 60.0
"""Effective energy of a filtered 120 kVp chest beam behind the patient; 50 to 65 keV are in use
(docs/geometry-and-conventions.md)."""
CT_ENERGY_KEV = 70.0
"""Effective energy of a 120 kVp CT scanner: fixes the HU of cortical bone on the HU axis."""

Values = TypeVar("Values", NDArray[np.float32], torch.Tensor)


def _mu_per_mm(cm2_per_g: NDArray[np.float64], density: float, energy_kev: float) -> float:
    if not _ENERGY_KEV[0] <= energy_kev <= _ENERGY_KEV[-1]:
        raise InputError(f"energy_kev must lie in {_ENERGY_KEV[0]:g}..{_ENERGY_KEV[-1]:g} keV, got {energy_kev:g}")
    value = np.interp(np.log(energy_kev), np.log(_ENERGY_KEV), np.log(cm2_per_g))
    return float(np.exp(value)) * density / 10.0


def mu_water_per_mm(energy_kev: float = FILM_ENERGY_KEV) -> float:
    """Linear attenuation of water, 1/mm (0.0206 at 60 keV)."""
    return _mu_per_mm(_WATER_CM2_PER_G, 1.0, energy_kev)


def mu_bone_per_mm(energy_kev: float = FILM_ENERGY_KEV) -> float:
    """Linear attenuation of cortical bone, 1/mm (0.0604 at 60 keV)."""
    return _mu_per_mm(_BONE_CM2_PER_G, _BONE_G_PER_CM3, energy_kev)


def bone_hu() -> float:
    """HU of cortical bone on a 120 kVp scanner (about 1590)."""
    return 1000.0 * (mu_bone_per_mm(CT_ENERGY_KEV) / mu_water_per_mm(CT_ENERGY_KEV) - 1.0)


def _slopes(energy_kev: float) -> tuple[float, float, float]:
    water = mu_water_per_mm(energy_kev)
    return water, water / 1000.0, (mu_bone_per_mm(energy_kev) - water) / bone_hu()


def hu_to_mu(hu: Values, *, energy_kev: float = FILM_ENERGY_KEV) -> Values:
    """Linear attenuation in 1/mm of HU values (array or tensor of any shape); HU <= -1000 gives 0."""
    _, below, above = _slopes(energy_kev)
    # Counted from -1000 HU up, so that air is exactly 0 and never a rounding error below it.
    if isinstance(hu, torch.Tensor):
        return below * (hu.clamp(-1000.0, 0.0) + 1000.0) + above * hu.clamp(min=0.0)
    mu: NDArray[np.float32] = (below * (np.clip(hu, -1000.0, 0.0) + 1000.0) + above * np.maximum(hu, 0.0)).astype(
        np.float32
    )
    return mu


def mu_to_hu(mu_per_mm: Values, *, energy_kev: float = FILM_ENERGY_KEV) -> Values:
    """Inverse of `hu_to_mu` for mu >= 0 (1/mm); mu <= 0 gives -1000 HU."""
    water, below, above = _slopes(energy_kev)
    if isinstance(mu_per_mm, torch.Tensor):
        return (mu_per_mm.clamp(0.0, water) - water) / below + (mu_per_mm - water).clamp(min=0.0) / above
    low = (np.clip(mu_per_mm, 0.0, water) - water) / below
    hu: NDArray[np.float32] = (low + np.maximum(mu_per_mm - water, 0.0) / above).astype(np.float32)
    return hu
