"""Geometry and energy of the two exposures, which are never quite what they should be."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
from pydantic import Field

from xrecon.augmentation.random_streams import log_uniform, signed, uniform
from xrecon.augmentation.ranges import PositiveRange, step_probability
from xrecon.augmentation.steps import Draws, Exposures
from xrecon.config import Config
from xrecon.geometry import VIEWS, ConeBeam


class BeamSettings(Config):
    """Geometry and energy of the two exposures."""

    probability: float = step_probability(0.9)
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


def draw_beams(nominal: Exposures, settings: BeamSettings, rng: np.random.Generator) -> tuple[Exposures, Draws]:
    """The two exposures as they were made, and what was drawn.

    The film still arrives on the nominal detector: its scale at the isocentre plane is known up to `scale_error`.
    """
    together, between = signed(rng, settings.angle_deg), signed(rng, settings.between_views_deg)
    energy = uniform(rng, settings.energy_kev)
    beams: list[ConeBeam] = []
    draws: Draws = {"angle_deg": together, "between_views_deg": 90.0 + between, "energy_kev": energy}
    for name, beam, angle in zip(VIEWS, nominal.beams, (together, together + between), strict=True):
        change = _BeamChange(
            distance=log_uniform(rng, settings.distance),
            gap_mm=signed(rng, settings.gap_mm),
            scale=1.0 + signed(rng, settings.scale_error),
            tilt_deg=signed(rng, settings.tilt_deg),
            roll_deg=signed(rng, settings.roll_deg),
            shift_mm=[signed(rng, settings.shift_mm) for _ in range(3)],
        )
        beams.append(change.applied_to(beam, angle_deg=angle))
        draws[name] = {**asdict(change), "beam": beams[-1].to_dict()}
    return Exposures((beams[0], beams[1]), energy), draws


@dataclass(frozen=True)
class _BeamChange:
    """How the exposure of one view differs from the nominal one.

    Attributes:
        distance: factor of the distance source-isocentre.
        gap_mm: change of the distance isocentre-detector, mm.
        scale: factor of the film's scale at the isocentre plane.
        tilt_deg: cranio-caudal tilt, degrees.
        roll_deg: turn in the film's plane, degrees.
        shift_mm: (x, y, z) of the patient, mm.
    """

    distance: float
    gap_mm: float
    scale: float
    tilt_deg: float
    roll_deg: float
    shift_mm: list[float]

    def applied_to(self, beam: ConeBeam, *, angle_deg: float) -> ConeBeam:
        """The changed beam, turned by a further angle about the patient's axis."""
        distance = beam.source_to_isocentre_mm * self.distance
        gap = max(beam.source_to_detector_mm - beam.source_to_isocentre_mm + self.gap_mm, 1.0)
        magnification = (distance + gap) / distance
        rows, cols = (pitch * self.scale * magnification for pitch in beam.pixel_at_isocentre_mm)
        x, y, z = self.shift_mm
        moved = beam.moved(
            angle_deg=angle_deg, tilt_deg=self.tilt_deg, roll_deg=self.roll_deg, translation_mm=(x, y, z)
        )
        return replace(
            moved, source_to_isocentre_mm=distance, source_to_detector_mm=distance + gap, pixel_mm=(rows, cols)
        )
