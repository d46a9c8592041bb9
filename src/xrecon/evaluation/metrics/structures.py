"""Heart and spine of a reconstruction, where a label map of the true CT exists: surrogates by HU, next to the mask."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

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


_TISSUES = {"heart": "soft tissue", "spine": "bone"}
STRUCTURE_CONVENTIONS: Mapping[str, str] = MappingProxyType(
    {
        f"{name}_{kind}": text.format(name=name, tissue=tissue)
        for name, tissue in _TISSUES.items()
        for kind, text in {
            "dice": "Dice of the {tissue} at the {name}: the estimate's beside or in the true mask, without what is "
            "{tissue} of a neighbour in the truth, against the truth's inside the mask. 1 for the truth itself. "
            "From which HU on, and how far beside the mask: `settings` of summary.json.",
            "shift_mm": "Distance, mm, of the centres of the two regions of {name}_dice.",
            "mae_hu": "MAE, HU, over the voxels of the true mask of the {name}; values not clipped.",
        }.items()
    }
)
"""Metric name -> definition."""

STRUCTURE_DISPLAY: Mapping[str, tuple[str, str, int]] = MappingProxyType(
    {
        f"{name}_{kind}": (f"{label}, {name}", unit, decimals)
        for name in STRUCTURES
        for kind, (label, unit, decimals) in {
            "dice": ("Dice", "", 3),
            "shift_mm": ("Shift", "mm", 1),
            "mae_hu": ("MAE", "HU", 1),
        }.items()
    }
)
"""Metric name -> (label, unit, decimals)."""


def check_structure_maps(maps: StructureMaps, dataset: PreparedDataset) -> None:
    """Read every map of the subset before any work is done.

    Raises:
        InputError: a map is of a case that the data set does not have, none is of this subset, or one does not fit.
    """
    here = {case.name: case for case in dataset.cases}
    strangers = sorted(set(maps.maps) - {record.name for record in dataset.manifest.cases})
    if strangers or not set(maps.maps) & set(here):
        raise InputError(
            f"the label maps are of {', '.join(strangers or maps.maps)}, the {dataset.subset} cases of the data set "
            f"are {', '.join(here)}: name them alike"
        )
    for name in set(maps.maps) & set(here):
        structure_masks(maps, name, here[name].load())


def load_structure_maps(path: str | os.PathLike[str]) -> StructureMaps:
    """Settings from YAML; relative paths of maps are relative to it.

    Raises:
        ConfigError: unknown keys, or values of the wrong kind.
        InputError: a label map is missing.
    """
    given = load_config(StructureMaps, path)
    maps = {case: Path(path).parent / one for case, one in given.maps.items()}
    missing = [f"{case}: {one}" for case, one in maps.items() if not one.is_file()]
    if missing:
        raise InputError(f"{path}: label maps are missing: {', '.join(missing)}")
    return given.model_copy(update={"maps": maps})


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
    own, wanted = (matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0) for matrix in (stored.affine, data.affine))
    if not np.allclose(own, wanted, atol=1e-3):
        raise InputError(f"{path}: its axes are not those of the CT of {case}: give the label map on the CT's own grid")
    centre = (data.affine @ [*((np.asarray(data.ct.shape) - 1) / 2), 1.0])[:3]
    found = {}
    for name, rule in maps.rules().items():
        share = Volume(np.isin(stored.hu, rule.labels).astype(np.float32), stored.affine)
        mask = share.resampled(data.ct.shape, data.spacing_mm, centre_mm=centre, fill_hu=0.0).hu >= 0.5
        if not mask.any():
            raise InputError(
                f"{path}: none of the labels {', '.join(map(str, rule.labels))} of the {name} lie in the frame of "
                f"{case}: is it the map of this CT, with these labels?"
            )
        found[name] = mask
    return found


def structure_metrics(
    estimate: Volume, truth: Volume, masks: Mapping[str, Mask], rules: Mapping[str, StructureRule]
) -> dict[str, float | None]:
    """Every metric of `STRUCTURE_CONVENTIONS`; None without a mask, or where there is nothing to compare.

    Args:
        estimate: the reconstruction, on the grid of the truth.
        truth: the CT.
        masks: structure -> [D, H, W] bool, in the truth.
        rules: structure -> rule.

    Raises:
        InputError: other shapes.
    """
    values: dict[str, float | None] = dict.fromkeys(STRUCTURE_CONVENTIONS)
    if estimate.shape != truth.shape:
        raise InputError(f"the estimate has shape {estimate.shape}, the truth {truth.shape}")
    for name, mask in masks.items():
        rule = rules[name]
        wanted = (truth.hu >= rule.from_hu) & mask
        neighbours = (truth.hu >= rule.from_hu) & ~mask
        near = distance_mm(mask, truth.spacing_mm) <= rule.within_mm
        found = (estimate.hu >= rule.from_hu) & near & ~neighbours
        values[f"{name}_mae_hu"] = mae_hu(estimate.hu, truth.hu, mask=mask)
        if wanted.any():
            values[f"{name}_dice"] = compare_masks(found, wanted, spacing_mm=truth.spacing_mm).dice
        if wanted.any() and found.any():
            apart = (_centre(found) - _centre(wanted)) * np.asarray(truth.spacing_mm)
            values[f"{name}_shift_mm"] = float(np.linalg.norm(apart))
    return values


def _centre(mask: Mask) -> NDArray[Any]:
    return np.asarray(np.argwhere(mask).mean(axis=0))
