"""From what film networks say to a probability of free air by side, and to an occupancy with an interval.

A network's volumes and its opinion on presence are no probabilities. What they mean is learnt on films of patients that
the networks were not trained on: a logistic function for the presence of air, and the errors of the occupancy, by
size, for an interval that holds nine tenths of the truths (split conformal prediction, Vovk et al. 2005).
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field, model_validator

from xrecon.config import Config, validated
from xrecon.errors import CheckpointError, InputError
from xrecon.io.guards.files import read_text_capped
from xrecon.volume import RESEARCH_NOTICE

CALIBRATION_NAME = "calibration.json"
_VOLUME_UNIT_ML = 5.0
_LARGEST_LOGIT = 8.0


class PresenceCalibration(Config):
    """Probability of free air on a side: logistic function of its volume and of the networks' presence head."""

    intercept: float = Field(description="Of the logit.")
    volume: float = Field(description="Times log(1 + volume / 5 mL).")
    presence: float = Field(description="Times the logit of the presence head; 0 for networks without that head.")
    threshold: float = Field(gt=0, lt=1, description="Probability from which a side counts as holding free air.")
    prevalence: float = Field(gt=0, lt=1, description="Share of the sides of the calibration that held free air.")


class OccupancyBand(Config):
    """Errors of the occupancy between two estimates; all in percentage points of the whole chest."""

    up_to: float = Field(ge=0, description="Largest estimate of this band.")
    below: float = Field(description="What is taken off the estimate for the lower end.")
    above: float = Field(description="What is added to the estimate for the upper end.")
    pairs: int = Field(ge=1, description="Film pairs in the band.")


class FilmCalibration(Config):
    """What the numbers of film networks mean, as measured on patients that they were not trained on."""

    notice: str = RESEARCH_NOTICE
    presence: PresenceCalibration
    factor: float = Field(gt=0, description="Times the networks' occupancy.")
    coverage: float = Field(default=0.9, gt=0, lt=1, description="Share of truths that the interval should hold.")
    bands: tuple[OccupancyBand, ...] = Field(min_length=1, description="By growing estimate.")
    cases: tuple[str, ...] = Field(min_length=1, description="Cases of the calibration.")
    pairs: int = Field(ge=1, description="Film pairs of the calibration.")
    networks: tuple[str, ...] = Field(min_length=1, description="Digests of the weights whose answers were used.")

    @model_validator(mode="after")
    def _rising(self) -> FilmCalibration:
        edges = [band.up_to for band in self.bands]
        if edges != sorted(edges) or edges[-1] < 100.0:
            raise ValueError(f"bands must rise to 100 %, got edges {edges}")
        return self

    def probability(self, air_ml: float, presence: float | None) -> float:
        """Probability that a side holds free air, 0..1.

        Args:
            air_ml: free air of the side by the networks, mean of the views, mL.
            presence: of the presence head, 0..1; None without that head.
        """
        return float(1.0 / (1.0 + math.exp(-self.logit(air_ml, presence))))

    def logit(self, air_ml: float, presence: float | None) -> float:
        """The logit of `probability`."""
        volume, opinion = presence_features(air_ml, presence)
        return self.presence.intercept + self.presence.volume * volume + self.presence.presence * opinion

    def occupancy(
        self, air_ml: tuple[float, float], lung_ml: tuple[float, float], probability: tuple[float, float]
    ) -> OccupancyEstimate:
        """Occupancy of the whole chest with its interval, percent.

        Args:
            air_ml, lung_ml: by the networks, right and left, mL.
            probability: of free air, right and left; air of an unlikely side counts as little as it is likely.
        """
        percent = min(100.0, self.factor * expected_occupancy(air_ml, lung_ml, probability))
        band = next(band for band in self.bands if percent <= band.up_to)
        low, high = percent - band.below, percent + band.above
        return OccupancyEstimate(percent, max(0.0, min(low, percent)), min(100.0, max(high, percent)))

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write calibration.json beside the weights. Raises OutputExistsError."""
        from xrecon.io.output.atomic import write_json_atomic

        file = Path(folder) / CALIBRATION_NAME
        write_json_atomic(file, self.model_dump(mode="json"), overwrite=overwrite)
        return file


@dataclass(frozen=True)
class OccupancyEstimate:
    """Share of free air in both hemithoraces, percent, with the ends of its interval."""

    percent: float
    low: float
    high: float


def presence_features(air_ml: float, presence: float | None) -> tuple[float, float]:
    """What the logistic function sees of a side: logarithm of the volume, and logit of the presence head."""
    volume = math.log1p(max(air_ml, 0.0) / _VOLUME_UNIT_ML)
    if presence is None:
        return volume, 0.0
    share = min(max(presence, 1e-6), 1.0 - 1e-6)
    return volume, float(np.clip(math.log(share / (1.0 - share)), -_LARGEST_LOGIT, _LARGEST_LOGIT))


def expected_occupancy(
    air_ml: tuple[float, float], lung_ml: tuple[float, float], probability: tuple[float, float]
) -> float:
    """Share of free air in the whole chest, percent, the air of each side times its probability."""
    air = sum(volume * share for volume, share in zip(air_ml, probability, strict=True))
    return 100.0 * air / max(air + sum(lung_ml), 1e-6)


def load_calibration(folder: str | os.PathLike[str]) -> FilmCalibration | None:
    """The calibration that lies beside weights; None where there is none.

    Raises:
        CheckpointError: the file is damaged.
    """
    file = Path(folder) / CALIBRATION_NAME
    if not file.is_file():
        return None
    try:
        values = json.loads(read_text_capped(file))
    except (InputError, ValueError) as error:
        raise CheckpointError(f"{file}: not a calibration in JSON ({error}); copy the model again") from None
    return validated(FilmCalibration, values, where=str(file), error=CheckpointError)
