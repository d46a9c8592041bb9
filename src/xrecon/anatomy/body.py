"""The patient's body in a CT: skin and everything inside it, without table, clothes and cables.

One search (`_outline`) on two working grids, because its two uses ask for different things. `body_mask` decides what of
the CT is kept, so the CT is interpolated to 3 mm and the mask brought back to its voxels by interpolation: it follows
the skin to a fraction of the working grid, in seconds. `find_body` serves a search inside the body, which only has to
tell inside from outside air: means over blocks of whole voxels of about 4 mm take a tenth of a second, and the answer
stays on the blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.morphology import (
    Box,
    Mask,
    Spacing,
    bounding_box,
    components,
    dilated,
    eroded,
    filled_slices,
    opened,
    select,
)
from xrecon.errors import InputError
from xrecon.volume import OUTSIDE_HU, Volume

_SKIN_HU = -350.0
"""What is denser is body, table or cloth: between fat and the partial volume of the skin."""
_OPEN_MM = 5.0
"""Table tops, wires and blankets are thinner than twice this; arms and the neck are thicker."""
_MASK_PITCH_MM = 3.0
"""`body_mask`: pitch of the working grid."""
_MASK_PART_SHARE = 0.2
"""`body_mask`: smallest part that is kept, as a share of the largest: arms."""
_MASK_RIM_MM = 6.0
"""`body_mask`: how far round what survives the erosion tissue is given back."""
_BLOCK_MM = 4.0
"""`find_body`: size that blocks of voxels come nearest to."""
_BLOCK_PART_SHARE = 0.05
"""`find_body`: smallest part that is kept, as a share of the largest."""


def body_mask(volume: Volume) -> Mask:
    """Voxels [D, H, W] of the patient's body: skin and everything inside it, lungs and airways included.

    Found on a 3 mm grid: above -350 HU, opened by 5 mm (exact distance maps), the largest component and every other
    one at least a fifth of its size that reaches no thinner than the opening (arms), holes filled slice by slice.

    Raises:
        InputError: nothing in the volume is denser than air, or the volume is not in canonical orientation (holes are
            filled in axial slices, so the axes must be known).
    """
    if not volume.is_canonical:
        raise InputError(
            "the axes of the volume are not D feet, H back, W left: bring it there first with .canonical()"
        )
    coarse = coarsened(volume, _MASK_PITCH_MM)
    body = _outline(coarse.hu, coarse.spacing_mm, part_share=_MASK_PART_SHARE, rim_mm=_MASK_RIM_MM)
    if not body.any():
        raise _no_body(volume)
    # On the volume's own grid, by the half-level of linear interpolation.
    shares = coarse.with_hu(body.astype(np.float32))
    fine = shares.resampled(volume.shape, volume.spacing_mm, centre_mm=volume.centre_mm, fill_hu=0.0)
    return np.asarray(fine.hu > 0.5)


def without_table(volume: Volume, *, mask: Mask | None = None) -> Volume:
    """The volume, in canonical orientation, with everything outside the body set to `OUTSIDE_HU` (-1024 HU).

    Args:
        volume: any orientation.
        mask: `body_mask(volume.canonical())` where it is known already.

    Raises:
        InputError: nothing in the volume is denser than air.
    """
    volume = volume.canonical()
    mask = body_mask(volume) if mask is None else mask
    hu = np.where(mask, volume.hu, np.float32(OUTSIDE_HU)).astype(np.float32)
    return replace(volume, hu=hu, notes=(*volume.notes, "everything outside the body (table, covers) removed"))


@dataclass(frozen=True, eq=False)
class Body:
    """A body on blocks of voxels.

    Attributes:
        mask: [D, H, W] of blocks; True inside the skin.
        blocks: voxels per block along D, H, W; the last block of an axis also stands for an incomplete one.
        shape: (D, H, W) of the CT.
    """

    mask: Mask
    blocks: tuple[int, int, int]
    shape: tuple[int, int, int]

    def box(self) -> Box:
        """The box of the CT's voxels [D, H, W] round the body, with a block to spare.

        Raises:
            InputError: the body is empty.
        """
        box = bounding_box(self.mask, margin=1)
        if box is None:
            raise InputError("no body found: nothing in the CT is larger than the table's parts")
        parts = []
        for part, block, blocks, size in zip(box, self.blocks, self.mask.shape, self.shape, strict=True):
            parts.append(slice(part.start * block, size if part.stop == blocks else part.stop * block))
        return parts[0], parts[1], parts[2]

    def at(self, indices: list[NDArray[np.int64]]) -> Mask:
        """The body at the CT's voxels of the given indices along D, H and W."""
        last = [n - 1 for n in self.mask.shape]
        places = [np.minimum(i // b, m) for i, b, m in zip(indices, self.blocks, last, strict=True)]
        return np.ascontiguousarray(self.mask[np.ix_(*places)])


def find_body(volume: Volume) -> Body:
    """The body of a CT in canonical orientation on blocks of about 4 mm, quickly.

    Parts from a twentieth of the largest on belong to it.

    Raises:
        InputError: nothing in the volume is denser than air and thick enough.
    """
    blocks = [max(1, min(round(_BLOCK_MM / s), n)) for s, n in zip(volume.spacing_mm, volume.shape, strict=True)]
    d, h, w = (s * b for s, b in zip(volume.spacing_mm, blocks, strict=True))
    hu = block_means(volume.hu, blocks)
    body = _outline(hu, (d, h, w), part_share=_BLOCK_PART_SHARE, rim_mm=_OPEN_MM + h)
    if not body.any():
        raise _no_body(volume)
    return Body(filled_slices(body), (blocks[0], blocks[1], blocks[2]), volume.shape)


def _outline(hu: NDArray[np.float32], spacing: Spacing, *, part_share: float, rim_mm: float) -> Mask:
    """The body on a working grid; empty if there is none.

    Args:
        hu: [D, H, W] HU, canonical axes.
        spacing: mm.
        part_share: size of the smallest part that is kept, as a share of the largest.
        rim_mm: how far round what survives the erosion tissue is given back; more than the erosion takes.
    """
    dense = hu > _SKIN_HU
    parts, sizes = components(eroded(dense, _OPEN_MM, spacing))
    core = select(parts, 1 + np.flatnonzero(sizes >= sizes.max(initial=0) * part_share), len(sizes))
    body = filled_slices(dense & dilated(core, rim_mm, spacing))
    # The outline is smoothed once more, so that hair-thin leftovers of the table's cover go.
    return opened(body, _OPEN_MM, spacing)


def _no_body(volume: Volume) -> InputError:
    return InputError(
        f"no body found: nothing in the CT (HU {volume.hu.min():.0f} to {volume.hu.max():.0f}) is denser than "
        f"{_SKIN_HU:.0f} HU and thicker than {2 * _OPEN_MM:.0f} mm; expected a chest CT in Hounsfield units"
    )


def coarsened(volume: Volume, pitch_mm: float) -> Volume:
    """The volume interpolated to voxels of `pitch_mm`; an axis that is coarser already keeps its pitch."""
    new = [max(pitch_mm, s) for s in volume.spacing_mm]
    shape = [max(1, round(n * s / t)) for n, s, t in zip(volume.shape, volume.spacing_mm, new, strict=True)]
    return volume.resampled((shape[0], shape[1], shape[2]), (new[0], new[1], new[2]))


def block_means(hu: NDArray[np.float32], blocks: list[int]) -> NDArray[np.float32]:
    """Means [D', H', W'] over blocks of whole voxels; an incomplete last block is left out.

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
