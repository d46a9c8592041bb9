"""Heart and spine of a reconstruction, where a label map of the true CT exists: surrogates by HU, next to the mask."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from xrecon.anatomy.morphology import distance_mm
from xrecon.config import Config, load_config
from xrecon.data.case_file import CaseData
from xrecon.data.dataset import PreparedDataset
from xrecon.errors import InputError
from xrecon.evaluation.metrics.image import mae_hu
from xrecon.evaluation.metrics.mask_agreement import compare_masks
from xrecon.evaluation.metrics.metric import Metric
from xrecon.io.guards.files import sha256_of
from xrecon.io.nifti import read_nifti
from xrecon.volume import Volume

Mask = NDArray[np.bool_]
STRUCTURES = ("heart", "spine")


class StructureRule(Config):
    """What a structure is made of, and where it is looked for."""

    labels: tuple[int, ...] = Field(min_length=1, description="Values of the label map that make up the structure.")
    from_hu: float = Field(description="HU from which a voxel counts as the structure's tissue.")
    within_mm: float = Field(gt=0, le=100, description="How far beside the true structure its tissue is looked for.")


class StructureMaps(Config):
    """Label maps of cases, and which of their values are heart and spine; by default TotalSegmentator v2's."""

    maps: dict[str, Path] = Field(min_length=1, description="Case -> label map (NIfTI) on the grid of its CT.")
    heart: StructureRule = StructureRule(labels=(51,), from_hu=-200.0, within_mm=20.0)
    spine: StructureRule = StructureRule(labels=tuple(range(26, 51)), from_hu=150.0, within_mm=10.0)

    def rules(self) -> dict[str, StructureRule]:
        """Structure -> rule."""
        return {name: getattr(self, name) for name in STRUCTURES}

    def digest(self, case: str) -> str:
        """Changes when the case's map or a rule does."""
        return f"{sha256_of(self.maps[case])} {self.model_dump_json(exclude={'maps'})}"


def _structure_metrics() -> Iterator[Metric]:
    """Dice, shift and MAE of each structure, in the order of the report's table."""
    for name, tissue in (("heart", "soft tissue"), ("spine", "bone")):
        kinds = (
            Metric(
                "dice", "Dice", "", 3, higher_is_better=True, region=name,
                convention=f"Dice of the {tissue} at the {name}: the estimate's beside or in the true mask, without "
                f"what is {tissue} of a neighbour in the truth, against the truth's inside the mask. 1 for the truth "
                "itself. From which HU on, and how far beside the mask: `settings` of summary.json.",
            ),
            Metric(
                "shift_mm", "Shift", "mm", 1, higher_is_better=False, region=name,
                convention=f"Distance, mm, of the centres of the two regions of {name}_dice.",
            ),
            Metric(
                "mae_hu", "MAE", "HU", 1, higher_is_better=False, region=name,
                convention=f"MAE, HU, over the voxels of the true mask of the {name}; values not clipped.",
            ),
        )  # fmt: skip
        for metric in kinds:
            place = STRUCTURES.index(name) * len(kinds) + kinds.index(metric) + 1
            full_name, label = f"{name}_{metric.name}", f"{metric.label}, {name}"
            yield replace(metric, name=full_name, label=label, group="structure", section=place)


STRUCTURE_METRICS: tuple[Metric, ...] = tuple(_structure_metrics())
"""The metrics of `structure_metrics`."""


def check_structure_maps(maps: StructureMaps, dataset: PreparedDataset) -> None:
    """Read every map of the subset before any work is done.

    Raises:
        InputError: a map is of a case that the data set does not have, none is of this subset, or one does not fit.
    """
    subset = {case.name: case for case in dataset.cases}
    strangers = sorted(set(maps.maps) - {record.name for record in dataset.manifest.cases})
    if strangers or not set(maps.maps) & set(subset):
        raise InputError(
            f"the label maps are of {', '.join(strangers or maps.maps)}, the {dataset.subset} cases of the data set "
            f"are {', '.join(subset)}: name them alike"
        )
    for name in set(maps.maps) & set(subset):
        structure_masks(maps, name, subset[name].load())


def load_structure_maps(path: str | os.PathLike[str]) -> StructureMaps:
    """Settings from YAML; relative paths of maps are relative to it.

    Raises:
        ConfigError: unknown keys, or values of the wrong kind.
        InputError: a label map is missing.
    """
    settings = load_config(StructureMaps, path)
    maps = {case: Path(path).parent / file for case, file in settings.maps.items()}
    missing = [f"{case}: {file}" for case, file in maps.items() if not file.is_file()]
    if missing:
        raise InputError(f"{path}: label maps are missing: {', '.join(missing)}")
    return settings.model_copy(update={"maps": maps})


def structure_masks(maps: StructureMaps, case: str, data: CaseData) -> dict[str, Mask]:
    """Structure -> [D, H, W] bool on the grid of a prepared case; a voxel belongs to it if half of it does.

    Args:
        maps: the label maps; `case` is in them.
        case: name of the case.
        data: the case.

    Raises:
        InputError: the label map cannot be read, its axes are not those of the CT, or it holds none of a structure.
    """
    path = maps.maps[case]
    raw = read_nifti(path, hu=False)
    stored = Volume(raw.hu, raw.affine).canonical()
    map_axes, ct_axes = (
        affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0) for affine in (stored.affine, data.affine)
    )
    if not np.allclose(map_axes, ct_axes, atol=1e-3):
        raise InputError(f"{path}: its axes are not those of the CT of {case}: give the label map on the CT's own grid")
    centre = (data.affine @ [*((np.asarray(data.ct.shape) - 1) / 2), 1.0])[:3]
    masks = {}
    for name, rule in maps.rules().items():
        share = Volume(np.isin(stored.hu, rule.labels).astype(np.float32), stored.affine)
        mask = share.resampled(data.ct.shape, data.spacing_mm, centre_mm=centre, fill_hu=0.0).hu >= 0.5
        if not mask.any():
            raise InputError(
                f"{path}: none of the labels {', '.join(map(str, rule.labels))} of the {name} lie in the frame of "
                f"{case}: is it the map of this CT, with these labels?"
            )
        masks[name] = mask
    return masks


def structure_metrics(
    estimate: Volume, truth: Volume, masks: Mapping[str, Mask], rules: Mapping[str, StructureRule]
) -> dict[str, float | None]:
    """Every one of `STRUCTURE_METRICS`; None without a mask, or where there is nothing to compare.

    Args:
        estimate: the reconstruction, on the grid of the truth.
        truth: the CT.
        masks: structure -> [D, H, W] bool, in the truth.
        rules: structure -> rule.

    Raises:
        InputError: other shapes.
    """
    values: dict[str, float | None] = dict.fromkeys(metric.name for metric in STRUCTURE_METRICS)
    if estimate.shape != truth.shape:
        raise InputError(f"the estimate has shape {estimate.shape}, the truth {truth.shape}")
    for name, mask in masks.items():
        rule = rules[name]
        true_tissue = (truth.hu >= rule.from_hu) & mask
        neighbours = (truth.hu >= rule.from_hu) & ~mask
        near = distance_mm(mask, truth.spacing_mm) <= rule.within_mm
        tissue = (estimate.hu >= rule.from_hu) & near & ~neighbours
        values[f"{name}_mae_hu"] = mae_hu(estimate.hu, truth.hu, mask=mask)
        if true_tissue.any():
            values[f"{name}_dice"] = compare_masks(tissue, true_tissue, spacing_mm=truth.spacing_mm).dice
        if true_tissue.any() and tissue.any():
            apart = (_centre(tissue) - _centre(true_tissue)) * np.asarray(truth.spacing_mm)
            values[f"{name}_shift_mm"] = float(np.linalg.norm(apart))
    return values


def _directions(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit directions of the three axes, as columns."""
    return np.asarray(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))


def _centre(mask: Mask) -> NDArray[np.float64]:
    return np.asarray(np.argwhere(mask).mean(axis=0))
