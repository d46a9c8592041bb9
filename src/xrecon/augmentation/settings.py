"""Settings of the online augmentation: every step with its probability and the ranges that it draws from.

Ranges are (lowest, highest) of a uniform distribution unless the description says otherwise. Signed amplitudes are
drawn from -x to +x.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field

from xrecon.config import Config

PairT = TypeVar("PairT", tuple[float, float], tuple[int, int])


def _ascending(pair: PairT) -> PairT:
    if pair[0] > pair[1]:
        raise ValueError(f"the range must ascend, got {pair}")
    return pair


Range = Annotated[tuple[float, float], AfterValidator(_ascending)]
"""(lowest, highest)."""


def _positive(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] <= 0:
        raise ValueError(f"the range must be positive, got {pair}")
    return pair


def _natural(pair: tuple[int, int]) -> tuple[int, int]:
    if pair[0] < 1:
        raise ValueError(f"expected whole numbers of at least 1, got {pair}")
    return pair


PositiveRange = Annotated[Range, AfterValidator(_positive)]
Count = Annotated[tuple[int, int], AfterValidator(_ascending), AfterValidator(_natural)]
"""(lowest, highest), whole numbers of at least 1."""


def _probability(default: float) -> float:
    value: float = Field(default=default, ge=0.0, le=1.0, description="Probability of the step, 0..1.")
    return value


class Affine(Config):
    """Pose and size of the patient in the frame."""

    probability: float = _probability(0.9)
    rotation_deg: float = Field(default=5.0, ge=0, le=20, description="Largest turn about each axis, degrees.")
    scale: PositiveRange = Field(default=(0.88, 1.10), description="Size of the whole patient, log-uniform.")
    axis_scale: float = Field(default=0.06, ge=0, le=0.3, description="Largest further change of one axis, share.")
    shift_mm: float = Field(default=12.0, ge=0, le=60, description="Largest displacement along each axis, mm.")


class Elastic(Config):
    """Smooth deformation: cubic B-splines on a coarse grid of control points."""

    probability: float = _probability(0.7)
    knot_mm: float = Field(default=64.0, ge=24, le=200, description="Distance of the control points, mm.")
    amplitude_mm: Range = Field(
        default=(2.0, 10.0), description="Standard deviation of the control points' displacement, mm."
    )
    least_jacobian: float = Field(
        default=0.4,
        gt=0,
        lt=1,
        description="Smallest local volume change allowed; the amplitude is reduced until it is kept.",
    )


class Density(Config):
    """Density of lung, fat and bone: inspiration, emphysema, contrast of the soft parts, osteoporosis."""

    probability: float = _probability(0.6)
    lung: PositiveRange = Field(
        default=(0.7, 1.5), description="Factor of the lung's density (HU + 1000), log-uniform."
    )
    gradient: float = Field(default=0.25, ge=0, le=0.8, description="Largest change from front to back, share of it.")
    fat_hu: float = Field(default=30.0, ge=0, le=100, description="Largest shift of fat, HU.")
    bone: PositiveRange = Field(default=(0.75, 1.2), description="Factor of what exceeds 150 HU, log-uniform.")


class Pneumothorax(Config):
    """Planted free pleural air, with its labels."""

    probability: float = _probability(0.35)
    occupancy: PositiveRange = Field(
        default=(0.03, 0.70), description="Air / (air + lung) of the side, log-uniform, 0.01..0.90."
    )
    tension_probability: float = Field(default=0.2, ge=0, le=1, description="Share of them with mediastinal shift.")
    effusion_probability: float = Field(default=0.2, ge=0, le=1, description="Share of them with fluid at a level.")
    effusion_ml: PositiveRange = Field(default=(50.0, 300.0), description="That fluid, mL, log-uniform.")


class Bulla(Config):
    """Thin-walled air inside the lung: no pneumothorax."""

    probability: float = _probability(0.1)
    count: Count = Field(default=(1, 3), description="How many, lowest and highest.")
    radius_mm: PositiveRange = Field(default=(8.0, 28.0), description="Radius, mm, log-uniform.")


class Effusion(Config):
    """Pleural fluid without air, at the back of one lung (patient on the back) or at its base (upright)."""

    probability: float = _probability(0.1)
    share: PositiveRange = Field(default=(0.02, 0.25), description="Part of the hemithorax that it fills, log-uniform.")
    upright_probability: float = Field(default=0.5, ge=0, le=1, description="Share of them with the patient upright.")


class Nodules(Config):
    """Round soft-tissue lesions inside the lungs."""

    probability: float = _probability(0.2)
    count: Count = Field(default=(1, 4), description="How many, lowest and highest.")
    radius_mm: PositiveRange = Field(default=(4.0, 16.0), description="Radius, mm, log-uniform.")
    hu: Range = Field(default=(-20.0, 80.0), description="Their density, HU.")


class Scanner(Config):
    """Kernel and noise of the CT scanner."""

    probability: float = _probability(0.4)
    blur_mm: Range = Field(default=(0.0, 2.5), description="Standard deviation of a further smoothing, mm.")
    noise_hu: Range = Field(
        default=(0.0, 15.0), description="Standard deviation of the noise on the frame's voxels, HU."
    )
    grain_mm: Range = Field(default=(0.0, 4.0), description="Standard deviation of the noise's correlation, mm.")


class Beam(Config):
    """Geometry and energy of the two exposures."""

    probability: float = _probability(0.9)
    between_views_deg: float = Field(
        default=10.0, ge=0, le=30, description="Largest difference of the angle between the views from 90 degrees."
    )
    angle_deg: float = Field(default=4.0, ge=0, le=30, description="Largest turn of both views together, degrees.")
    tilt_deg: float = Field(default=3.0, ge=0, le=15, description="Largest cranio-caudal tilt per view, degrees.")
    roll_deg: float = Field(default=2.0, ge=0, le=15, description="Largest turn in the film's plane per view, degrees.")
    distance: PositiveRange = Field(
        default=(0.85, 1.2), description="Factor of the distance source-isocentre, log-uniform."
    )
    gap_mm: float = Field(
        default=40.0, ge=0, le=120, description="Largest change of the distance isocentre-detector, mm."
    )
    scale_error: float = Field(
        default=0.03, ge=0, le=0.2, description="Largest error of the film's scale at the isocentre plane, share."
    )
    shift_mm: float = Field(default=8.0, ge=0, le=60, description="Largest shift per view and direction, mm.")
    energy_kev: PositiveRange = Field(default=(50.0, 70.0), description="Effective energy of the beam, keV.")


class Exposure(Config):
    """Scatter and noise of the film."""

    probability: float = _probability(0.8)
    quanta_per_mm2: PositiveRange = Field(
        default=(300.0, 1.0e5),
        description="Mean of the film's central half, at the detector plane, log-uniform; 75 000 is about 2.5 uGy, "
        "speed class 400, the low end a poor print that was photographed.",
    )
    electronic: Range = Field(
        default=(0.0, 20.0),
        description="Read-out noise of a square millimetre, rms, quanta; 20 is 3 per 0.14 mm element.",
    )
    scatter: Range = Field(
        default=(0.0, 0.6), description="Scatter over primary, summed behind the patient, behind the grid."
    )
    scatter_mm: PositiveRange = Field(default=(50.0, 130.0), description="Its width at the detector (FWHM), mm.")
    blur_mm: Range = Field(
        default=(0.0, 3.0), description="Unsharpness at the isocentre plane, standard deviation, mm."
    )


class Tone(Config):
    """Look-up table of the workstation."""

    probability: float = _probability(0.8)
    gamma: PositiveRange = Field(default=(0.6, 1.6), description="Exponent on the values in the window, log-uniform.")
    sigmoid: Range = Field(default=(0.0, 1.0), description="Blend from a straight line to a film's S-shaped curve.")
    low_percent: Range = Field(default=(0.0, 6.0), description="Percentile that becomes black.")
    high_percent: Range = Field(default=(95.0, 100.0), description="Percentile that becomes white.")
    bits: Count = Field(default=(8, 12), description="Bits per pixel, lowest and highest.")


class Equalise(Config):
    """Local contrast processing, like CLAHE or a vendor's multi-scale processing."""

    probability: float = _probability(0.3)
    strength: Range = Field(default=(0.2, 0.9), description="Blend with the locally normalised film, 0..1.")
    window_mm: PositiveRange = Field(default=(30.0, 100.0), description="Width of the neighbourhood, mm.")


class Collimation(Config):
    """Shutters at the film's borders."""

    probability: float = _probability(0.25)
    width_mm: PositiveRange = Field(default=(4.0, 40.0), description="Width of each shutter, mm, at most a quarter.")
    white_probability: float = Field(default=0.3, ge=0, le=1, description="Share that is white instead of black.")


class Markers(Config):
    """Side letters and lines of text, burnt in."""

    probability: float = _probability(0.3)
    count: Count = Field(default=(1, 3), description="How many per film, lowest and highest.")
    height_mm: PositiveRange = Field(default=(10.0, 22.0), description="Height of the letters, mm.")


class Inversion(Config):
    """Film with dense tissue dark: a file whose polarity is stated wrongly."""

    probability: float = _probability(0.02)


class OwnFilms(Config):
    """What to do with cases that hold a patient's own films instead of simulated ones."""

    probability: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Probability that such a case is used as it is (CT and geometry unchanged, film steps only); else "
        "its films are simulated from its changed CT.",
    )


class AugmentConfig(Config):
    """All steps, in the order in which they are applied."""

    affine: Affine = Field(default=Affine(), description="Pose and size.")
    elastic: Elastic = Field(default=Elastic(), description="Smooth deformation.")
    density: Density = Field(default=Density(), description="Density of lung, fat and bone.")
    pneumothorax: Pneumothorax = Field(default=Pneumothorax(), description="Planted pneumothorax.")
    bulla: Bulla = Field(default=Bulla(), description="Bullae.")
    effusion: Effusion = Field(default=Effusion(), description="Pleural fluid.")
    nodules: Nodules = Field(default=Nodules(), description="Nodules.")
    scanner: Scanner = Field(default=Scanner(), description="Kernel and noise of the CT.")
    beam: Beam = Field(default=Beam(), description="Geometry and energy of the films.")
    exposure: Exposure = Field(default=Exposure(), description="Scatter and noise of the films.")
    tone: Tone = Field(default=Tone(), description="Look-up table of the films.")
    equalise: Equalise = Field(default=Equalise(), description="Local contrast processing.")
    collimation: Collimation = Field(default=Collimation(), description="Shutters.")
    markers: Markers = Field(default=Markers(), description="Letters and text.")
    inversion: Inversion = Field(default=Inversion(), description="Wrong polarity.")
    own_films: OwnFilms = Field(default=OwnFilms(), description="Cases with a patient's own films.")

    @classmethod
    def off(cls) -> AugmentConfig:
        """Nothing but projection: every step has probability 0, a patient's own films are kept."""
        values = {name: {"probability": 0.0} for name in cls.model_fields if name != "own_films"}
        return cls.model_validate({**values, "own_films": {"probability": 1.0}})
