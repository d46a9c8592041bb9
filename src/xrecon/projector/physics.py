"""Settings of the film physics: what a tube, a patient's scatter, a detector and its display do to a film.

One frozen class per part, in mm, kV, uGy; a part of None is off. `film_physics` reads a preset with overrides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from pydantic import Field, model_validator

from xrecon.config import Config, load_config
from xrecon.errors import ConfigError
from xrecon.projector.spectrum import Beam


class Scintillator(Config):
    """The energy-integrating converter: caesium iodide."""

    csi_mg_per_cm2: float = Field(
        default=200.0, gt=0.0, le=1000.0, description="coverage with CsI, mg/cm^2; 0.55 mm of packed needles: 200"
    )


class Scatter(Config):
    """Smooth scattered background, with or without a grid.

    The defaults give, on a 120 kVp PA film without a grid, 45 % scatter behind the lungs and 85 % behind the
    mediastinum, with a grid half of it there, as measured by Niklason et al., Med Phys 8:677, 1981 (about 90 %, and
    less than half of the contrast left).
    """

    ratio: float = Field(
        default=1.0, ge=0.0, le=20.0, description="scatter over primary without a grid, summed behind the patient"
    )
    fwhm_mm: float = Field(default=80.0, gt=0.0, le=1000.0, description="width of the Gaussian at the detector, mm")
    grid: bool = Field(default=True, description="anti-scatter grid in the beam")
    grid_primary: float = Field(default=0.70, gt=0.0, le=1.0, description="share of the primary that the grid passes")
    grid_scatter: float = Field(default=0.15, ge=0.0, le=1.0, description="share of the scatter that the grid passes")

    @property
    def ratio_at_detector(self) -> float:
        """Scatter-to-primary ratio behind the grid."""
        return self.ratio * self.grid_scatter / self.grid_primary if self.grid else self.ratio


class Heel(Config):
    """Heel effect: the anode shades its own side of the field."""

    ratio: float = Field(
        default=0.8, gt=0.0, le=1.0, description="intensity at the film's anode edge over that at its cathode edge"
    )
    anode_side: Literal["top", "bottom", "left", "right"] = Field(default="top", description="edge of the film")
    flat_field: bool = Field(default=True, description="divided out again by the detector; its noise stays")


class Noise(Config):
    """Quantum and electronic noise."""

    exposure: float = Field(
        default=2.5,
        gt=0.0,
        le=1e9,
        description="dose at the detector plane, in exposure_unit; 2.5 uGy is speed class 400",
    )
    exposure_unit: Literal["uGy", "photons_per_mm2"] = Field(
        default="uGy", description="air kerma in uGy, or photons per mm^2 of the open beam's spectrum"
    )
    exposure_at: Literal["behind_patient", "open_beam"] = Field(
        default="behind_patient",
        description="behind_patient: mean over the film's central half behind the grid (automatic exposure control); "
        "open_beam: without a patient, in front of the grid",
    )
    swank_factor: float = Field(
        default=0.9, gt=0.0, le=1.0, description="loss of DQE by the spread of light per quantum"
    )
    electronic_quanta: float = Field(
        default=3.0, ge=0.0, description="read-out noise of one detector element, rms, in effective quanta"
    )
    element_mm: float = Field(default=0.14, gt=0.0, le=5.0, description="pitch of the real detector's elements, mm")


class Blur(Config):
    """Unsharpness of detector and focal spot, both Gaussian."""

    detector_fwhm_mm: float = Field(default=0.3, ge=0.0, le=20.0, description="light spread at the detector, FWHM, mm")
    focal_spot_mm: float = Field(default=1.0, ge=0.0, le=10.0, description="focal spot, FWHM, mm")


class Display(Config):
    """Look-up table from line integrals to grey values."""

    window: tuple[float, float] | None = Field(
        default=None, description="line integrals shown black and white; null takes window_percent of the film"
    )
    window_percent: tuple[float, float] = Field(default=(0.5, 99.5), description="percentiles of the automatic window")
    curve: Literal["sigmoid", "linear"] = Field(
        default="sigmoid", description="sigmoid: shape of a film's H&D curve (DICOM VOI LUT function SIGMOID)"
    )
    bits: Literal[8, 16] = Field(default=16, description="grey values are rounded to 8 or 16 bits")
    invert: bool = Field(default=False, description="dense tissue dark; simulate() refuses it, see there")

    @model_validator(mode="after")
    def _ascending(self) -> Display:
        low, high = self.window_percent
        if not 0 <= low < high <= 100:
            raise ValueError(f"window_percent must ascend within 0..100, got {self.window_percent}")
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ValueError(f"window must ascend, got {self.window}")
        return self


class FilmPhysics(Config):
    """What happens on the way from line integrals to the film. A section of None is off; all are off by default."""

    beam: Beam | None = Field(default=None, description="polychromatic beam; off: one energy")
    scintillator: Scintillator = Field(default=Scintillator(), description="detector response")
    scatter: Scatter | None = Field(default=None, description="scattered radiation and grid")
    heel: Heel | None = Field(default=None, description="heel effect")
    noise: Noise | None = Field(default=None, description="quantum and electronic noise")
    blur: Blur | None = Field(default=None, description="unsharpness")
    display: Display | None = Field(default=None, description="grey values; off: line integrals")


class ClinicalFilm(FilmPhysics):
    """The preset `clinical`: every part on, at the values of a digital chest stand with 120 kVp and a grid."""

    beam: Beam | None = Field(default=Beam(), description="polychromatic beam; off: one energy")
    scatter: Scatter | None = Field(default=Scatter(), description="scattered radiation and grid")
    heel: Heel | None = Field(default=Heel(), description="heel effect")
    noise: Noise | None = Field(default=Noise(), description="quantum and electronic noise")
    blur: Blur | None = Field(default=Blur(), description="unsharpness")
    display: Display | None = Field(default=Display(), description="grey values; off: line integrals")


PRESETS: Mapping[str, type[FilmPhysics]] = MappingProxyType({"linear": FilmPhysics, "clinical": ClinicalFilm})


def film_physics(preset: str = "clinical", overrides: Sequence[str] = ()) -> FilmPhysics:
    """Settings of a preset (`linear`: all off, `clinical`: all on), changed by `section.key=value` texts.

    `noise=null` switches a part off; any key of a part that is off switches it on with its defaults.

    Raises:
        ConfigError: an unknown preset or key, or a value out of its range.

    Example:
        >>> film_physics("clinical", ["beam.kvp=110", "noise.exposure=1.25", "display=null"])
    """
    if preset not in PRESETS:
        raise ConfigError(f"unknown film physics {preset!r}; choose one of {', '.join(PRESETS)}")
    return load_config(PRESETS[preset], None, overrides)
