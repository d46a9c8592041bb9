"""Lungs and free pleural air of a chest CT, by side: labels, and what the method that made them says beside them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.io.source_grid import SourceGrid


class Label(IntEnum):
    """Values of `Segmentation.labels`."""

    BACKGROUND = 0
    RIGHT_LUNG = 1
    LEFT_LUNG = 2
    AIR = 3


class Side(IntEnum):
    """Values of `Segmentation.air_side`: the hemithorax that holds the air."""

    NONE = 0
    RIGHT = 1
    LEFT = 2


class AirComponent(TypedDict, total=False):
    """One connected region of air that the method examined, counted as free pleural air or not.

    Attributes:
        kind: "pneumothorax" if it is counted as free pleural air, else what it was taken for.
        side: the patient's "right" or "left".
        volume_ml: mL, on the grid on which the method works.
        confidence: 0..1, in the kind.
        reason: why it is of this kind, in words.
        measurements: name -> what was measured on it; None where it could not be measured.
    """

    kind: str
    side: str
    volume_ml: float
    confidence: float
    reason: str
    measurements: dict[str, float | None]


class ScanFlags(TypedDict):
    """What is unusual about a scan, so that the labels may be wrong or mean less.

    Attributes:
        field_of_view_cut: where the lungs run out of the picture: "head", "feet", "front", "back", "right", "left".
        one_lung_missing: "right" or "left" where no aerated lung was found, else None.
        airless_lung: sides part of whose collapsed lung holds no air and is not labelled.
        thick_slices: voxels are longer than the method was evaluated on.
        smooth_image: edges are too wide to see the pleura.
        very_noisy: the image was smoothed before the search.
        airway_found: the level of air was measured in the windpipe.
    """

    field_of_view_cut: list[str]
    one_lung_missing: str | None
    airless_lung: list[str]
    thick_slices: bool
    smooth_image: bool
    very_noisy: bool
    airway_found: bool


class SegmentationDetails(TypedDict, total=False):
    """What a segmentation method says beside the labels: the one schema of `Segmentation.findings`.

    A dictionary of JSON values rather than a class: it is read by key, it goes into `findings.json` unchanged, and any
    key may be missing, because labels also come from methods that say less than PTX-Seg.

    Attributes:
        notice: the research notice.
        lung_model: what found the lungs.
        air_hu: level of air, HU.
        noise_hu: standard deviation in the windpipe, HU.
        lung_hu: side -> median of the lung, HU.
        edge_width_mm: width of the lungs' edges, mm.
        working_spacing_mm: voxel pitch (D, H, W) on which the method works, mm.
        detection_limit_ml: smallest pocket that the method finds reliably in such a scan, mL; None if not measured.
        flags: what is unusual about the scan.
        components: every region of air that was examined, the largest of each side first.
        warnings: what makes the result doubtful as a whole, such as an anatomy that lies mirrored; mostly empty.
    """

    notice: str
    lung_model: str
    air_hu: float
    noise_hu: float
    lung_hu: dict[str, float]
    edge_width_mm: float
    working_spacing_mm: list[float]
    detection_limit_ml: float | None
    flags: ScanFlags
    components: list[AirComponent]
    warnings: list[str]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Disjoint labels on the grid of a CT.

    Attributes:
        labels: [D, H, W] uint8, `Label`: 0 background, 1 right lung, 2 left lung, 3 air in the pleural space.
        air_side: [D, H, W] uint8, `Side`: 1 or 2 exactly where `labels` is 3, 0 elsewhere.
        affine: 4 x 4; (d, h, w, 1) to LPS mm; that of the CT.
        findings: what the method says beside the labels (components, confidence, flags); JSON values by key.
        notes: what was assumed, flagged or repaired, for people to read.
        source_grid: the axes of the CT's file; files are written on them where the voxels lie there.

    Raises:
        InputError: shapes differ, values outside the labels, or a side that does not match the air.
    """

    labels: NDArray[np.uint8]
    air_side: NDArray[np.uint8]
    affine: NDArray[np.float64]
    findings: SegmentationDetails = field(default_factory=lambda: SegmentationDetails())
    notes: tuple[str, ...] = ()
    source_grid: SourceGrid | None = field(default=None, repr=False)

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
        """Write the labels as NIfTI (uint8) with the true affine, on the axes of the CT's file; atomic.

        Raises OutputExistsError, InputError.
        """
        return self._write(Path(path), self.labels, overwrite=overwrite)

    def save_air_side(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the side of the air like the labels. Raises OutputExistsError, InputError."""
        return self._write(Path(path), self.air_side, overwrite=overwrite)

    def _write(self, path: Path, values: NDArray[np.uint8], *, overwrite: bool) -> Path:
        from xrecon.io.nifti import write_nifti
        from xrecon.volume import RESEARCH_NOTICE

        return write_nifti(
            path,
            values,
            self.affine,
            description=RESEARCH_NOTICE,
            overwrite=overwrite,
            dtype=np.uint8,
            grid=self.source_grid,
        )
