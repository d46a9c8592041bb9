"""How far a varied chest may go from its source."""

from __future__ import annotations

from pydantic import Field

from xrecon.augmentation.ranges import PositiveRange, Range, step_probability
from xrecon.config import Config


class VariationSettings(Config):
    """Ranges of the anatomies that one CT becomes.

    Lungs at the full inspiration of an upright radiograph hold about 5 to 6 L in health; the shapes come from free
    breathing (median 3.4 L) and are enlarged towards that, mostly in height, because the diaphragm makes the breath.
    """

    shape_share: float = Field(
        default=0.75, ge=0, le=1, description="Share of the chests that get another patient's lungs; others: elastic."
    )
    height_gain: PositiveRange = Field(default=(1.1, 1.4), description="Enlargement of a lung shape in height.")
    width_gain: PositiveRange = Field(default=(1.0, 1.12), description="The same to the sides and in depth, each.")
    largest_lungs_ml: float = Field(default=8000.0, ge=2000, le=12000, description="Most that both lungs may hold, mL.")
    size: PositiveRange = Field(default=(0.88, 1.12), description="Size of the whole patient.")
    axis_scale: float = Field(
        default=0.06, ge=0, le=0.2, description="Largest further change of one axis of an elastic variation, share."
    )
    elastic_mm: PositiveRange = Field(
        default=(4.0, 14.0), description="Standard deviation of the knots' displacement of an elastic variation, mm."
    )
    breath_probability: float = step_probability(0.5)
    raised_mm: Range = Field(
        default=(-20.0, 50.0), description="How much higher the diaphragm stands after a breath, mm; below 0: lower."
    )
    turn_deg: float = Field(default=8.0, ge=0, le=20, description="Largest turn about the long axis, degrees.")
    tilt_deg: float = Field(default=4.0, ge=0, le=15, description="Largest tilt forwards and sidewards, degrees.")
    carried_on_share: float = Field(
        default=0.75,
        ge=0,
        le=1,
        description="Share of the scan's ends at which the body goes on beyond the scan, as it does on a radiograph.",
    )
