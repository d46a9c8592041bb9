"""One chest of the pneumothorax study as a model or a control made it: a stored row of JSON values, typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xrecon.evaluation.metrics.anatomy import ChestVolumes


@dataclass(frozen=True)
class PlantedAir:
    """What is true of a chest of the study.

    Attributes:
        occupancy: of the planted side, percent.
        whole_chest: occupancy of both sides, percent.
        air_ml: free pleural air, mL.
        width_mm: largest inscribed width of the air on the PA film, mm.
    """

    occupancy: float
    whole_chest: float
    air_ml: float
    width_mm: float = 0.0


@dataclass(frozen=True)
class DensityChange:
    """Mean change of HU by the plant; None where the region holds no voxel.

    Attributes:
        true: of the CT, in the true air.
        estimate: of the reconstruction, in the true air.
        mirror_true: of the CT, in the mirror image of the air in the other lung.
        mirror_estimate: of the reconstruction, there.
    """

    true: float | None = None
    estimate: float | None = None
    mirror_true: float | None = None
    mirror_estimate: float | None = None


@dataclass(frozen=True)
class FilmOpinion:
    """What the film networks say of the pair of films.

    Attributes:
        probability: of free air, of the likelier side, 0..1.
        side: the likelier side.
        percent: occupancy of the whole chest, percent.
        low, high: ends of its interval, percent.
    """

    probability: float
    side: str
    percent: float
    low: float
    high: float

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> FilmOpinion | None:
        """From the values of a row; None where the model asks no film networks, or these have no calibration."""
        if values is None or any(values.get(key) is None for key in ("right_probability", "percent")):
            return None
        right, left = float(values["right_probability"]), float(values["left_probability"])
        side = "right" if right > left else "left"
        return cls(max(right, left), side, values["percent"], values["low"], values["high"])


@dataclass(frozen=True)
class StudyRow:
    """One chest and one model or control.

    Attributes:
        case: pseudonym of the case.
        patient: pseudonym of the patient.
        plant: number of the plant of this patient, 0 for the healthy chest.
        model: label of the model, or name of the control.
        asked: planted occupancy of the side, 0..1; 0 for a healthy chest.
        side: of the plant, "right", "left" or "none".
        pattern: of the plant, such as "upright".
        true: what was planted.
        volumes: what PTX-Seg measures on the reconstruction.
        air_dice: Dice of the free air; None for a healthy chest or a refusal.
        change: of the density by the plant; empty for a healthy chest.
        kinds: what PTX-Seg took the candidates for.
        refused: why PTX-Seg refused the reconstruction; empty where it did not.
        mechanism: of the planting, such as "flow"; "none" for a healthy chest.
        films: what the film networks say; None for a model without them.
    """

    case: str
    patient: str
    plant: int
    model: str
    asked: float
    side: str
    pattern: str
    true: PlantedAir
    volumes: ChestVolumes
    air_dice: float | None
    change: DensityChange
    kinds: tuple[str, ...]
    refused: str
    mechanism: str = "none"
    films: FilmOpinion | None = None

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> StudyRow:
        """From a row as the study stores it."""
        change = row.get("change") or {}
        return cls(
            case=row["case"],
            patient=row["patient"],
            plant=row["plant"],
            model=row["model"],
            asked=row["asked"],
            side=row["side"],
            pattern=row["pattern"],
            true=PlantedAir(**row["true"]),
            volumes=ChestVolumes.from_dict(row["found"]),
            air_dice=row.get("air_dice"),
            change=DensityChange(
                true=change.get("true"),
                estimate=change.get("found"),
                mirror_true=change.get("mirror_true"),
                mirror_estimate=change.get("mirror_found"),
            ),
            kinds=tuple(row.get("kinds", ())),
            refused=str(row.get("refused", "")),
            mechanism=str(row.get("mechanism", "none")),
            films=FilmOpinion.from_dict(row.get("films")),
        )

    @property
    def is_planted(self) -> bool:
        """Whether the chest holds a planted pneumothorax."""
        return self.asked > 0

    @property
    def is_segmented(self) -> bool:
        """Whether PTX-Seg did not refuse the reconstruction."""
        return self.volumes.whole_chest is not None

    @property
    def found_ml(self) -> float:
        """Free air found on both sides, mL; 0 where PTX-Seg refused."""
        return (self.volumes.right_air_ml or 0.0) + (self.volumes.left_air_ml or 0.0)

    @property
    def found_side(self) -> str:
        """Side with more free air; the left one where both have as much."""
        return "right" if (self.volumes.right_air_ml or 0.0) > (self.volumes.left_air_ml or 0.0) else "left"

    @property
    def recovered_ml(self) -> float | None:
        """Free air found on the planted side, mL; None where PTX-Seg refused."""
        return self.volumes.right_air_ml if self.side == "right" else self.volumes.left_air_ml

    @property
    def recovered_share(self) -> float | None:
        """Free air found on the planted side over the planted air."""
        return _ratio(self.recovered_ml, self.true.air_ml)

    @property
    def change_share(self) -> float | None:
        """Change of HU of the reconstruction over that of the CT, in the air: 1 is the whole lesion, 0 none of it."""
        return _ratio(self.change.estimate, self.change.true)

    @property
    def mirror_share(self) -> float | None:
        """Change of HU of the reconstruction in the mirrored region over the CT's change in the air."""
        return _ratio(self.change.mirror_estimate, self.change.true)


def _ratio(value: float | None, reference: float | None) -> float | None:
    return None if value is None or not reference else value / reference
