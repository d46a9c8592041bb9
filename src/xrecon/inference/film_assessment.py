"""What film findings mean: probability of free air by side, occupancy with its interval, and what was not excluded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from xrecon.films.film_calibration import FilmCalibration, OccupancyEstimate
from xrecon.films.thickness_maps import SIDES
from xrecon.inference.film_findings import FilmFindings
from xrecon.volume import RESEARCH_NOTICE


@dataclass(frozen=True)
class SideAssessment:
    """One hemithorax on the films.

    Attributes:
        probability: of free air, 0..1; None without a calibration.
        is_present: the probability reaches the calibrated threshold; None without a calibration.
        air_ml: expected volume of free air, mL, mean of the views.
        lung_ml: volume of lung, mL.
        occupancy: air over air and lung, percent.
    """

    probability: float | None
    is_present: bool | None
    air_ml: float
    lung_ml: float
    occupancy: float


@dataclass(frozen=True)
class FilmAssessment:
    """Both sides, and the whole chest.

    Attributes:
        sides: by "right" and "left".
        whole_chest: occupancy of both hemithoraces, percent, with its interval; None without a calibration.
        coverage: share of truths that the interval should hold, 0..1; None without a calibration.
        threshold: probability from which a side counts as holding free air; None without a calibration.
        prevalence: share of the sides of the calibration that held free air; a probability is for this prevalence.
        statement: for people: what was found, and what could not be excluded.
    """

    sides: Mapping[str, SideAssessment]
    whole_chest: OccupancyEstimate | None
    coverage: float | None
    threshold: float | None
    prevalence: float | None
    statement: str

    @property
    def present_sides(self) -> tuple[str, ...]:
        """Sides that count as holding free air; none without a calibration."""
        return tuple(name for name in SIDES if self.sides[name].is_present)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"notice": RESEARCH_NOTICE, **asdict(self)}


def assess_films(findings: FilmFindings, calibration: FilmCalibration | None) -> FilmAssessment:
    """What findings mean under a calibration; without one there are volumes, and no verdict."""
    air, lung, shares = findings.air_ml, findings.lung_ml, findings.occupancy
    chances: dict[str, float | None] = dict.fromkeys(SIDES)
    if calibration is not None:
        for number, name in enumerate(SIDES):
            presence = None if findings.presence is None else findings.presence[number]
            chances[name] = calibration.probability(air[name], presence)
    sides = {
        name: SideAssessment(
            probability=chance,
            is_present=None if chance is None or calibration is None else chance >= calibration.presence.threshold,
            air_ml=air[name],
            lung_ml=lung[name],
            occupancy=100.0 * shares[name],
        )
        for name, chance in chances.items()
    }
    whole = None
    if calibration is not None:
        right, left = (sides[name] for name in SIDES)
        whole = calibration.occupancy(
            (right.air_ml, left.air_ml),
            (right.lung_ml, left.lung_ml),
            (right.probability or 0.0, left.probability or 0.0),
        )
    return FilmAssessment(
        sides=sides,
        whole_chest=whole,
        coverage=None if calibration is None else calibration.coverage,
        threshold=None if calibration is None else calibration.presence.threshold,
        prevalence=None if calibration is None else calibration.presence.prevalence,
        statement=_statement(sides, whole, calibration),
    )


def _statement(
    sides: Mapping[str, SideAssessment], whole: OccupancyEstimate | None, calibration: FilmCalibration | None
) -> str:
    if calibration is None or whole is None:
        return (
            "The film networks have no calibration: volumes are as the networks say them, and no side is called sick "
            "or healthy."
        )
    present = [name for name in SIDES if sides[name].is_present]
    chances = ", ".join(f"{name} {100 * (sides[name].probability or 0.0):.0f} %" for name in SIDES)
    interval = f"{100 * calibration.coverage:.0f} % interval {whole.low:.1f} to {whole.high:.1f} %"
    if present:
        return (
            f"Free pleural air on the {' and '.join(present)} side (probability: {chances}); {whole.percent:.1f} % of "
            f"the chest, {interval}."
        )
    return (
        f"No free pleural air reaches the threshold (probability: {chances}). Up to {whole.high:.1f} % of the chest "
        f"cannot be excluded ({interval})."
    )
