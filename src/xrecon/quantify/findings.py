"""The findings document: one typed, versioned JSON with every number, its formula and its source."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from xrecon.errors import InputError
from xrecon.json_text import json_text
from xrecon.quantify.measures import ChestMeasures, SideMeasures, measure
from xrecon.quantify.mediastinum import MediastinalShift
from xrecon.quantify.occupancy import OCCUPANCY_FORMULAS, Occupancy, occupancy
from xrecon.quantify.remarks import Remark, remarks_on
from xrecon.quantify.silhouette import COLLINS_FORMULA, LIGHT_FORMULA
from xrecon.segmentation import Segmentation, SegmentationDetails
from xrecon.volume import RESEARCH_NOTICE

SCHEMA: Literal["xrecon.findings/1"] = "xrecon.findings/1"
"""Name and version of the document. A change that breaks a reader raises the number."""

FORMULAS: Mapping[str, str] = {
    **{f"occupancy.{name}": text for name, text in OCCUPANCY_FORMULAS.items() if name != "volume"},
    "volumes_ml": OCCUPANCY_FORMULAS["volume"],
    "radial_depth": "largest length, square to the chest wall and through air alone, from wall to lung; 3-D, mm",
    "apex_to_cupola_mm": "height of the top of the hemithorax minus height of the top of the lung",
    "rim_at_hilum_mm": "lateral gap between cavity and lung in the frontal projection at the hilum level",
    "collins.percent": COLLINS_FORMULA,
    "light.percent": LIGHT_FORMULA,
    "mediastinum.shift_mm": "(centroid of mediastinum - midline of chest wall) - usual offset; positive is left",
}

_PNEUMOTHORAX = "pneumothorax"
_DECIMALS = 6


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Ratios(_Part):
    """Occupancy ratios, 0..1; null for a side without lung and air."""

    whole_chest: float | None = Field(ge=0, le=1, description="air of both sides over air and lungs of both sides")
    right: float | None = Field(ge=0, le=1, description="air over air and lung, the patient's right side")
    left: float | None = Field(ge=0, le=1, description="air over air and lung, the patient's left side")


class Volumes(_Part):
    """Volumes, mL."""

    right_lung: float = Field(ge=0)
    left_lung: float = Field(ge=0)
    right_air: float = Field(ge=0)
    left_air: float = Field(ge=0)

    @property
    def air(self) -> float:
        """Free pleural air of both sides, mL."""
        return self.right_air + self.left_air


class Component(BaseModel):
    """One connected region of air that the segmenter judged; further keys of the segmenter are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str = Field(description="pneumothorax, or what else it was taken for")
    side: str | None = None
    volume_ml: float | None = None
    confidence: float | None = None
    reason: str | None = None


class Confidence(_Part):
    """How sure the segmenter is, and what it left out."""

    right: float | None = Field(
        description="volume-weighted confidence of the right side's air, 0..1; null: not stated"
    )
    left: float | None = Field(description="the same of the left side")
    counted: tuple[Component, ...] = Field(description="regions counted as free pleural air")
    confounders: tuple[Component, ...] = Field(description="regions of air that were not counted")

    def confounder_volumes_ml(self) -> dict[tuple[str, str], float]:
        """(kind, side) -> volume of all regions that were not counted, mL, in order of first appearance."""
        volumes: dict[tuple[str, str], float] = {}
        for part in self.confounders:
            key = part.kind, part.side or "unknown"
            volumes[key] = volumes.get(key, 0.0) + (part.volume_ml or 0.0)
        return volumes


class DetectionLimit(_Part):
    """What is too small to be trusted."""

    volume_ml: float | None = Field(description="smallest pocket that the evaluation found reliably, mL; null: unknown")
    below: tuple[Literal["right", "left"], ...] = Field(description="sides whose air is above 0 and below it")
    statement: str


class MeasuredGrid(_Part):
    """The voxels that were measured."""

    shape: tuple[int, int, int] = Field(description="voxels along the stored axes")
    spacing_mm: tuple[float, float, float] = Field(description="pitch along the stored axes, mm")


class Findings(_Part):
    """Everything that is said of one chest; `docs/quantification.md` describes every key."""

    schema_version: Literal["xrecon.findings/1"] = Field(default=SCHEMA, alias="schema")
    notice: str = RESEARCH_NOTICE
    grid: MeasuredGrid
    air_found: bool = Field(description="any voxel is labelled as free pleural air")
    bilateral: bool = Field(description="both sides hold free air, each at least the detection limit where it is known")
    occupancy: Ratios
    volumes_ml: Volumes
    right: SideMeasures | None = Field(description="measures of the right side's air; null without air")
    left: SideMeasures | None = Field(description="measures of the left side's air; null without air")
    mediastinum: MediastinalShift | None
    confidence: Confidence
    detection_limit: DetectionLimit
    remarks: tuple[Remark, ...] = Field(description="published thresholds beside the measured values; no advice")
    formulas: dict[str, str]
    warnings: tuple[str, ...] = Field(
        default=(), description="what makes every number doubtful, such as an anatomy that lies mirrored; mostly empty"
    )
    notes: tuple[str, ...]
    segmentation: dict[str, Any] = Field(description="what the segmenter stored, unchanged")
    provenance: dict[str, Any] = Field(description="command, versions, settings, digest of the input")

    @property
    def largest_depth_mm(self) -> float | None:
        """The larger of the radial depths of both sides, mm; None where none was measured."""
        depths = [side.radial_depth.depth_mm for side in (self.right, self.left) if side and side.radial_depth]
        return max(depths, default=None)

    @property
    def fuller_side(self) -> SideMeasures | None:
        """The measured side with more free air, the right one if both have as much; None without air."""
        air = {"right": self.volumes_ml.right_air, "left": self.volumes_ml.left_air}
        measured = [side for side in (self.right, self.left) if side is not None]
        return max(measured, key=lambda side: air[side.side], default=None)

    def to_json(self) -> str:
        """Strict JSON (no NaN), indented, with the key `schema` first; numbers to six decimals."""
        return json_text(_rounded(self.model_dump(mode="json", by_alias=True)), non_finite="refuse") + "\n"

    @classmethod
    def from_json(cls, text: str) -> Findings:
        """Read what `to_json` wrote.

        Raises:
            InputError: not JSON, another schema, or a key that is missing, unknown or of the wrong type.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "the document"
            raise InputError(
                f"not a findings document of schema {SCHEMA}: {place}: {first['msg']}; expected a findings.json of "
                "`xrecon segment`"
            ) from None


def build_findings(
    segmentation: Segmentation,
    *,
    detection_limit_ml: float | None = None,
    provenance: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> Findings:
    """Measure a segmentation and collect the result.

    Args:
        segmentation: labels in any orientation.
        detection_limit_ml: smallest pocket that the method finds reliably, mL; default
            `segmentation.findings["detection_limit_ml"]` if it is there.
        provenance: command, versions and settings, JSON values.
        notes: remarks of the reader of the CT, placed before those of the segmentation.

    Raises:
        InputError: the detection limit is negative or not a finite number.
    """
    limit = _limit(segmentation, detection_limit_ml)
    shares, measures = occupancy(segmentation), measure(segmentation)
    air = {"right": shares.right_air_ml, "left": shares.left_air_ml}
    warnings = tuple(map(str, segmentation.findings.get("warnings", ())))
    return Findings(
        grid=MeasuredGrid(shape=segmentation.shape, spacing_mm=segmentation.spacing_mm),
        air_found=shares.air_ml > 0,
        bilateral=all(value > 0 and value >= (limit or 0.0) for value in air.values()),
        occupancy=Ratios(**{name: _finite(getattr(shares, name)) for name in ("whole_chest", "right", "left")}),
        volumes_ml=Volumes(
            right_lung=shares.right_lung_ml,
            left_lung=shares.left_lung_ml,
            right_air=shares.right_air_ml,
            left_air=shares.left_air_ml,
        ),
        right=measures.right,
        left=measures.left,
        mediastinum=measures.mediastinum,
        confidence=_confidence(segmentation.findings),
        detection_limit=_detection_limit(limit, air),
        remarks=remarks_on(measures),
        formulas=dict(FORMULAS),
        warnings=warnings,
        notes=tuple(
            note
            for note in _notes(*notes, *segmentation.notes, *_measurement_notes(shares, measures))
            if note not in warnings
        ),
        segmentation=_json_values(segmentation.findings),
        provenance=_json_values(provenance or {}),
    )


def _limit(segmentation: Segmentation, requested: float | None) -> float | None:
    value = requested if requested is not None else segmentation.findings.get("detection_limit_ml")
    if value is None:
        return None
    if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise InputError(f"the detection limit is a volume of at least 0 mL, got {value!r}")
    return float(value)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _detection_limit(limit: float | None, air: Mapping[str, float]) -> DetectionLimit:
    if limit is None:
        words = (
            "No detection limit has been measured for this method and this kind of CT: a small pocket may have been "
            "missed, and a small value may be false."
        )
        return DetectionLimit(volume_ml=None, below=(), statement=words)
    below: list[Literal["right", "left"]] = []
    if 0 < air["right"] < limit:
        below.append("right")
    if 0 < air["left"] < limit:
        below.append("left")
    words = f"Pockets below {limit:g} mL are not found reliably: zero means less than this; smaller values are unsure."
    if below:
        words += f" This holds for the air found on the {' and the '.join(below)} side."
    return DetectionLimit(volume_ml=limit, below=tuple(below), statement=words)


def _confidence(details: SegmentationDetails) -> Confidence:
    """The segmenter's components, split into those counted as free air and the others."""
    parts = [
        Component.model_validate(_json_values(component))
        for component in details.get("components", ())
        if isinstance(component, Mapping) and "kind" in component
    ]
    counted = tuple(part for part in parts if part.kind == _PNEUMOTHORAX)
    return Confidence(
        right=_mean_confidence(counted, "right"),
        left=_mean_confidence(counted, "left"),
        counted=counted,
        confounders=tuple(part for part in parts if part.kind != _PNEUMOTHORAX),
    )


def _mean_confidence(parts: Sequence[Component], side: str) -> float | None:
    weighted = [
        (part.volume_ml, part.confidence)
        for part in parts
        if part.side == side and part.volume_ml and part.confidence is not None
    ]
    total = sum(volume for volume, _ in weighted)
    return sum(volume * confidence for volume, confidence in weighted) / total if total else None


def _notes(*notes: str) -> tuple[str, ...]:
    """Each once, without the notice, which the document carries apart."""
    return tuple(note for note in dict.fromkeys(notes) if note != RESEARCH_NOTICE)


def _measurement_notes(shares: Occupancy, measures: ChestMeasures) -> list[str]:
    notes = [f"neither lung nor free air was found on the {side} side" for side in shares.missing_sides]
    if measures.cut:
        notes.append(
            f"the labels reach the end of the scan ({', '.join(measures.cut)}): the chest may be cut off there"
        )
    return notes


def _json_values(value: Any) -> Any:
    """The same with numpy numbers, tuples and paths as JSON values; NaN and infinity as null."""
    if isinstance(value, Mapping):
        return {str(key): _json_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_json_values(item) for item in value]
    if hasattr(value, "tolist"):
        return _json_values(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, _DECIMALS) if isinstance(value, float) else value
