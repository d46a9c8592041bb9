"""The patient's body, without table, clothes and cables, fast: found on a grid of about 4 mm."""

from __future__ import annotations

from dataclasses import dataclass

import fill_voids
import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.ptxseg.morphology import Box, Mask, Spacing, bounding_box, components, dilate, erode, select
from xrecon.volume import Volume

_COARSE_MM = 4.0
_SKIN_HU = -350.0
_OPEN_MM = 5.0
"""Table tops, wires and blankets are thinner than twice this; arms and the neck are thicker."""
_ARM_SHARE = 0.05


@dataclass(frozen=True, eq=False)
class Body:
    """A body on blocks of input voxels.

    Attributes:
        mask: [D, H, W] of blocks; True inside the skin.
        blocks: input voxels per block along D, H, W; the last block of an axis also stands for an incomplete one.
        shape: of the input.
    """

    mask: Mask
    blocks: tuple[int, int, int]
    shape: tuple[int, int, int]

    def box(self) -> Box:
        """The box of input voxels round the body, with a block to spare."""
        found = bounding_box(self.mask, margin=1)
        if found is None:
            raise InputError("no body found: nothing in the CT is larger than the table's parts")
        parts = []
        for part, block, blocks, size in zip(found, self.blocks, self.mask.shape, self.shape, strict=True):
            parts.append(slice(part.start * block, size if part.stop == blocks else part.stop * block))
        return parts[0], parts[1], parts[2]

    def at(self, indices: list[NDArray[np.int64]]) -> Mask:
        """The body at the input voxels of the given rows, lines and columns."""
        last = [n - 1 for n in self.mask.shape]
        places = [np.minimum(i // b, m) for i, b, m in zip(indices, self.blocks, last, strict=True)]
        return np.ascontiguousarray(self.mask[np.ix_(*places)])


def find_body(volume: Volume) -> Body:
    """The body of a canonical CT: skin and everything inside, lungs and airways included.

    The outline is true to about 4 mm, which is enough to tell inside from outside air; `data.body.body_mask` is
    slower and follows the skin closer.

    Raises:
        InputError: nothing in the volume is denser than air and thick enough.
    """
    blocks = [max(1, min(round(_COARSE_MM / s), n)) for s, n in zip(volume.spacing_mm, volume.shape, strict=True)]
    coarse = block_means(volume.hu, blocks)
    spacing: Spacing = tuple(s * b for s, b in zip(volume.spacing_mm, blocks, strict=True))  # type: ignore[assignment]
    dense = coarse > _SKIN_HU
    core = erode(dense, _OPEN_MM, spacing)
    if not core.any():
        raise InputError(
            f"no body found: nothing in the CT (HU {volume.hu.min():.0f} to {volume.hu.max():.0f}) is denser than "
            f"{_SKIN_HU:.0f} HU and thicker than {2 * _OPEN_MM:.0f} mm; expected a chest CT in Hounsfield units"
        )
    parts, sizes = components(core)
    kept = select(parts, 1 + np.flatnonzero(sizes >= sizes.max() * _ARM_SHARE), len(sizes))
    body = _filled_slices(dense & dilate(kept, _OPEN_MM + spacing[1], spacing))
    body = erode(body, _OPEN_MM, spacing)
    body = _filled_slices(dilate(body, _OPEN_MM, spacing))
    return Body(body, (blocks[0], blocks[1], blocks[2]), volume.shape)


def block_means(hu: NDArray[np.float32], blocks: list[int]) -> NDArray[np.float32]:
    """Means over blocks of whole voxels; an incomplete last block is left out.

    Only every second voxel of a block is read along an axis of four or more: a mean of that many is smooth enough.
    """
    shape = [n // b for n, b in zip(hu.shape, blocks, strict=True)]
    out = np.zeros(shape, dtype=np.float32)
    starts = [range(0, b, 2 if b >= 4 else 1) for b in blocks]
    for d in starts[0]:
        for h in starts[1]:
            for w in starts[2]:
                out += hu[d :: blocks[0], h :: blocks[1], w :: blocks[2]][: shape[0], : shape[1], : shape[2]]
    out /= np.prod([len(s) for s in starts])
    return out


def _filled_slices(mask: Mask) -> Mask:
    """Fill holes of every axial slice: lungs that are open to the top or bottom of the scan are closed this way."""
    out = np.empty_like(mask)
    for d in range(mask.shape[0]):
        out[d] = fill_voids.fill(np.ascontiguousarray(mask[d]))
    return out
