"""PTX-Seg on a reconstruction against PTX-Seg on the true CT: the same code on the same grid."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.body import body_mask
from xrecon.errors import InputError
from xrecon.evaluation.metrics.mask_agreement import (
    MASK_METRICS,
    bone_mask,
    cardiothoracic_surrogate,
    compare_masks,
    compare_segmentations,
)
from xrecon.evaluation.metrics.metric import Metric
from xrecon.ptxseg.pipeline import segment
from xrecon.quantify.occupancy import occupancy
from xrecon.segmentation import Segmentation
from xrecon.volume import Volume


@dataclass(frozen=True)
class _Region:
    """A region of PTX-Seg's labels; `places` are those of its metrics in the report's table of the anatomy."""

    name: str
    words: str
    places: Mapping[str, int]


_REGIONS = (
    _Region("lungs", "lungs", {"dice": 1, "hd95_mm": 4, "assd_mm": 5, "nsd": 6, "volume_error_ml": 7}),
    _Region("right_lung", "right lung", {"dice": 2}),
    _Region("left_lung", "left lung", {"dice": 3}),
    _Region("air", "free air", {"dice": 10}),
    _Region("right_hemithorax", "right hemithorax", {"dice": 8}),
    _Region("left_hemithorax", "left hemithorax", {"dice": 9}),
)


def _region_metrics() -> Iterator[Metric]:
    """`MASK_METRICS` of every region; the Dice of the lungs is the one in the short table."""
    for region in _REGIONS:
        for metric in MASK_METRICS:
            is_headline = (region.name, metric.name) == ("lungs", "dice")
            yield replace(
                metric,
                name=f"{region.name}_{metric.name}",
                label=f"{metric.label}, {region.words}",
                region=region.words,
                convention=f"{region.words}, by PTX-Seg on both volumes. {metric.convention}",
                group="anatomy",
                headline=7 if is_headline else 0,
                tested=is_headline,
                section=region.places.get(metric.name, 0),
            )


ANATOMY_METRICS: tuple[Metric, ...] = (
    *_region_metrics(),
    Metric(
        "body_dice", "Dice, body", "", 3, higher_is_better=True, region="body", group="anatomy", section=11,
        convention="Dice of the body masks of both volumes.",
    ),
    Metric(
        "bone_dice", "Dice, bone from 200 HU", "", 3,
        higher_is_better=True, region="bone", group="anatomy", section=12,
        convention="Dice of the body's voxels from 200 HU in both volumes: a surrogate of the skeleton.",
    ),
    Metric(
        "occupancy_error_pp", "Occupancy error", "percentage points", 1,
        higher_is_better=None, region="both hemithoraces", group="anatomy", section=13,
        convention="Occupancy of the whole chest by PTX-Seg, estimate minus truth, percentage points.",
    ),
    Metric(
        "ctr_error", "Cardiothoracic error", "", 3,
        higher_is_better=None, region="both hemithoraces", group="anatomy", section=14,
        convention="Cardiothoracic surrogate (gap between the hemithoraces over chest width), estimate minus truth.",
    ),
)  # fmt: skip
"""The metrics of `anatomy_metrics`."""


@dataclass(frozen=True)
class ChestVolumes:
    """Occupancy, percent, and volumes, mL, that PTX-Seg measures on a volume; None without a segmentation or a side.

    Attributes:
        whole_chest: occupancy of both hemithoraces, percent.
        right: occupancy of the right hemithorax, percent.
        left: occupancy of the left hemithorax, percent.
        right_lung_ml: mL.
        left_lung_ml: mL.
        right_air_ml: free pleural air, mL.
        left_air_ml: free pleural air, mL.
    """

    whole_chest: float | None = None
    right: float | None = None
    left: float | None = None
    right_lung_ml: float | None = None
    left_lung_ml: float | None = None
    right_air_ml: float | None = None
    left_air_ml: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """Name -> value."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ChestVolumes:
        """From what `to_dict` gave; other keys are left out, missing ones are None."""
        return cls(**{field.name: values.get(field.name) for field in fields(cls)})


@dataclass(frozen=True)
class SegmenterDecision:
    """Why PTX-Seg decided as it did: it refused, or the flags of the image and the kinds of all candidates.

    Attributes:
        refused: the reason of a refusal; None where there is a segmentation.
        flags: names of the flags that are set, sorted.
        kinds: what the candidates were taken for, sorted.
    """

    refused: str | None = None
    flags: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, str | list[str]]:
        """The refusal alone, or flags and kinds."""
        if self.refused is not None:
            return {"refused": self.refused}
        return {"flags": list(self.flags), "kinds": list(self.kinds)}


@dataclass(frozen=True, eq=False)
class SegmentedVolume:
    """PTX-Seg on one volume; `segmentation` is None where it refused, with the `reason`."""

    segmentation: Segmentation | None
    reason: str = ""

    def volumes(self) -> ChestVolumes:
        """What it measures."""
        if self.segmentation is None:
            return ChestVolumes()
        measured = occupancy(self.segmentation)
        return ChestVolumes(
            whole_chest=_percent(measured.whole_chest),
            right=_percent(measured.right),
            left=_percent(measured.left),
            right_lung_ml=measured.right_lung_ml,
            left_lung_ml=measured.left_lung_ml,
            right_air_ml=measured.right_air_ml,
            left_air_ml=measured.left_air_ml,
        )

    def decision(self) -> SegmenterDecision:
        """Why PTX-Seg decided as it did."""
        if self.segmentation is None:
            return SegmenterDecision(refused=self.reason)
        details = self.segmentation.findings
        return SegmenterDecision(
            flags=tuple(sorted(name for name, value in details.get("flags", {}).items() if value is True)),
            kinds=tuple(sorted({part["kind"] for part in details.get("components", ())})),
        )


def find_anatomy(volume: Volume) -> SegmentedVolume:
    """PTX-Seg on a volume, as a user would run it; a refusal is a result, too, and ends nothing."""
    try:
        return SegmentedVolume(segment(volume))
    except InputError as error:
        return SegmentedVolume(None, str(error))


def anatomy_metrics(
    estimate: Volume,
    truth: Volume,
    *,
    estimate_anatomy: SegmentedVolume,
    true_anatomy: SegmentedVolume,
    body: NDArray[np.bool_],
) -> dict[str, float | None]:
    """Every one of `ANATOMY_METRICS`; None where one of the two volumes has no value.

    Args:
        estimate: the reconstruction.
        truth: the CT, on the same grid.
        estimate_anatomy: PTX-Seg on the estimate.
        true_anatomy: PTX-Seg on the truth.
        body: the true body, [D, H, W] bool.
    """
    values: dict[str, float | None] = dict.fromkeys(metric.name for metric in ANATOMY_METRICS)
    outline = _body(estimate)
    if outline is not None:
        spacing = truth.spacing_mm
        values["body_dice"] = compare_masks(outline, body, spacing_mm=spacing).dice
        bones = bone_mask(estimate.hu, outline), bone_mask(truth.hu, body)
        values["bone_dice"] = compare_masks(*bones, spacing_mm=spacing).dice
    pair = estimate_anatomy.segmentation, true_anatomy.segmentation
    if pair[0] is None or pair[1] is None:
        return values
    agreement = compare_segmentations(pair[0], pair[1])
    for region in _REGIONS:
        regional = agreement[region.name].to_dict()
        values.update({f"{region.name}_{metric.name}": regional[metric.name] for metric in MASK_METRICS})
    values["occupancy_error_pp"] = _difference(
        estimate_anatomy.volumes().whole_chest, true_anatomy.volumes().whole_chest
    )
    values["ctr_error"] = _difference(cardiothoracic_surrogate(pair[0]), cardiothoracic_surrogate(pair[1]))
    return values


def _difference(estimate: float | None, truth: float | None) -> float | None:
    return None if estimate is None or truth is None else estimate - truth


def _percent(share: float) -> float | None:
    return None if math.isnan(share) else 100 * share


def _body(volume: Volume) -> NDArray[np.bool_] | None:
    try:
        return body_mask(volume)
    except InputError:
        return None
