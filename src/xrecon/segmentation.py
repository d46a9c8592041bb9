"""Lungs and free pleural air of a chest CT, by side: what PTX-Seg finds and what planting knows as truth."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError


class Label(IntEnum):
    """Values of `Segmentation.labels` (SPEC 4)."""

    BACKGROUND = 0
    RIGHT_LUNG = 1
    LEFT_LUNG = 2
    AIR = 3


class Side(IntEnum):
    """Values of `Segmentation.air_side`: the hemithorax that holds the air."""

    NONE = 0
    RIGHT = 1
    LEFT = 2


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Disjoint labels on the grid of a CT.

    Attributes:
        labels: [D, H, W] uint8, `Label`: 0 background, 1 right lung, 2 left lung, 3 air in the pleural space.
        air_side: [D, H, W] uint8, `Side`: 1 or 2 exactly where `labels` is 3, 0 elsewhere.
        affine: 4 x 4; (d, h, w, 1) to LPS mm; that of the CT.
        findings: what the method has to say beside the labels (components, confidence, confounders); JSON values.
        notes: what was assumed, flagged or repaired, for people to read.

    Raises:
        InputError: shapes differ, values outside the labels, or a side that does not match the air.
    """

    labels: NDArray[np.uint8]
    air_side: NDArray[np.uint8]
    affine: NDArray[np.float64]
    findings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        labels, air_side = np.asarray(self.labels), np.asarray(self.air_side)
        if labels.ndim != 3 or labels.shape != air_side.shape:
            raise InputError(f"labels and air_side share one [D, H, W] grid, got {labels.shape} and {air_side.shape}")
        if labels.dtype != np.uint8 or air_side.dtype != np.uint8:
            raise InputError(f"labels and air_side are uint8, got {labels.dtype} and {air_side.dtype}")
        if labels.max(initial=0) > max(Label) or air_side.max(initial=0) > max(Side):
            raise InputError(f"labels run from 0 to 3 and sides from 0 to 2, got {labels.max()} and {air_side.max()}")
        # Slice by slice: comparing whole CTs would take new memory of their size three times.
        if not all(np.array_equal(a == Label.AIR, b > 0) for a, b in zip(labels, air_side, strict=True)):
            raise InputError("air_side must be 1 or 2 exactly where labels is 3")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4):
            raise InputError(f"an affine is a 4 x 4 matrix, got shape {affine.shape}")
        for name, value in (("labels", labels.view()), ("air_side", air_side.view()), ("affine", affine)):
            value.flags.writeable = False
            object.__setattr__(self, name, value)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W)."""
        d, h, w = self.labels.shape
        return d, h, w

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel pitch (D, H, W), mm."""
        d, h, w = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(d), float(h), float(w)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel, mL."""
        return float(abs(np.linalg.det(self.affine[:3, :3])) / 1000.0)

    def volume_ml(self, label: Label, side: Side = Side.NONE) -> float:
        """Volume of a label, mL; for AIR with a side, of the air on that side only."""
        mask = self.air_side == side if label == Label.AIR and side != Side.NONE else self.labels == label
        return float(np.count_nonzero(mask) * self.voxel_ml)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the labels as NIfTI (uint8) with the true affine; atomic. Raises OutputExistsError, InputError."""
        from xrecon.io.nifti import write_nifti
        from xrecon.volume import RESEARCH_NOTICE

        return write_nifti(
            Path(path), self.labels, self.affine, description=RESEARCH_NOTICE, overwrite=overwrite, dtype=np.uint8
        )
