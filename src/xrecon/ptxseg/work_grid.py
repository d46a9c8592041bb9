"""The working grid: the body's box at 1.2 to 2.4 mm, tied to the input's voxels by whole numbers per axis.

Fine axes are averaged in blocks, coarse ones interpolated to a whole number of new voxels for each old one. So every
input voxel owns a block of working voxels or belongs to exactly one, and nothing shifts on the way back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.morphology import Box, Spacing
from xrecon.resample import axis_weights
from xrecon.volume import Volume

TARGET_MM = 1.7
"""Pitch that the working grid comes nearest to."""
_COARSEST_MM = 2.4
"""An axis up to this pitch is not interpolated: the gain is below its cost in time."""


@dataclass(frozen=True)
class Ratio:
    """One axis: `block` input voxels make a working voxel, or `split` working voxels make an input voxel."""

    block: int = 1
    split: int = 1


@dataclass(frozen=True, eq=False)
class WorkingGrid:
    """A box of the input, resampled by whole numbers.

    Attributes:
        source: the whole input in canonical orientation.
        box: the part of it (input voxels) that the working grid covers; whole blocks, so it may end a little early.
        ratios: per axis D, H, W.
        volume: the box on the working grid; HU [D, H, W] and its affine.
    """

    source: Volume
    box: Box
    ratios: tuple[Ratio, Ratio, Ratio]
    volume: Volume

    @property
    def spacing_mm(self) -> Spacing:
        """Pitch of the working grid (D, H, W), mm."""
        return self.volume.spacing_mm

    def nearest_voxels(self) -> list[NDArray[np.int64]]:
        """Per axis the input voxel nearest to the centre of each working voxel."""
        indices = []
        for part, ratio in zip(self.box, self.ratios, strict=True):
            count = (part.stop - part.start) * ratio.split // ratio.block
            indices.append(part.start + (np.arange(count) * ratio.block + ratio.block // 2) // ratio.split)
        return indices


def working_grid(volume: Volume, box: Box) -> WorkingGrid:
    """The box of a canonical volume on its working grid."""
    ratios = _ratios(volume.spacing_mm)
    box = _whole_blocks(box, ratios)
    hu = np.asarray(volume.hu[box])
    for axis, ratio in enumerate(ratios):
        if ratio.block > 1:
            hu = _block_mean(hu, axis, ratio.block)
    for axis, ratio in enumerate(ratios):
        if ratio.split > 1:
            hu = _interpolated(hu, axis, ratio.split)
    return WorkingGrid(volume, box, ratios, Volume(np.ascontiguousarray(hu), _affine(volume, box, ratios)))


def _ratios(spacing_mm: Spacing) -> tuple[Ratio, Ratio, Ratio]:
    ratios = []
    for pitch in spacing_mm:
        if pitch > _COARSEST_MM:
            ratios.append(Ratio(split=int(np.ceil(pitch / _COARSEST_MM))))
        else:
            ratios.append(Ratio(block=max(1, round(TARGET_MM / pitch - 0.1))))
    return ratios[0], ratios[1], ratios[2]


def _whole_blocks(box: Box, ratios: tuple[Ratio, Ratio, Ratio]) -> Box:
    parts = []
    for part, ratio in zip(box, ratios, strict=True):
        length = max(1, (part.stop - part.start) // ratio.block) * ratio.block
        parts.append(slice(part.start, part.start + length))
    return parts[0], parts[1], parts[2]


def _affine(volume: Volume, box: Box, ratios: tuple[Ratio, Ratio, Ratio]) -> NDArray[np.float64]:
    """Working voxel i of an axis has its centre at start + (i + 0.5) * block / split - 0.5 of the input."""
    matrix = np.eye(4)
    for axis, (part, ratio) in enumerate(zip(box, ratios, strict=True)):
        step = ratio.block / ratio.split
        matrix[axis, axis] = step
        matrix[axis, 3] = part.start + 0.5 * step - 0.5
    return np.asarray(volume.affine @ matrix, dtype=np.float64)


def _block_mean(hu: NDArray[np.float32], axis: int, block: int) -> NDArray[np.float32]:
    whole = hu.shape[axis] // block * block
    # Strided views are added, so that no copy of the full array is made.
    total: NDArray[np.float32] | None = None
    for first in range(block):
        index = [slice(None)] * 3
        index[axis] = slice(first, whole, block)
        part = hu[tuple(index)]
        total = part.astype(np.float32) if total is None else np.add(total, part, out=total)
    assert total is not None
    total *= np.float32(1.0 / block)
    return total


def _interpolated(hu: NDArray[np.float32], axis: int, split: int) -> NDArray[np.float32]:
    count = hu.shape[axis]
    weights, inside = axis_weights(count, count * split, scale=1.0 / split, offset=0.5 / split - 0.5)
    weights /= inside[:, None]  # the first and last half voxel repeat the edge
    return np.ascontiguousarray(np.moveaxis(np.tensordot(weights, hu, axes=(1, axis)), 0, axis))
