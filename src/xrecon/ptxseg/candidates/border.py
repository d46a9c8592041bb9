"""Which way the border between air and lung bulges: a lung is convex towards free air, a bulla towards the lung."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.anatomy.morphology import Mask, Spacing, depth_mm, grown

BALL_MM = 8.0
"""Standard deviation of the soft ball in which lung is counted: wider than the steps of voxels, narrower than lungs."""
OFF_WALL_MM = 9.0
"""Nearer to the wall the ball holds too little of either to tell."""
REACH_MM = OFF_WALL_MM + 2.5 * BALL_MM
"""How far round the air the hemithorax is looked at."""
_GRID_MM = 4.0
"""Pitch of the coarser grid on which lung round the border is counted."""
_LEAST_CM2 = 15.0
"""Least border away from the wall that tells which way it bulges."""


def lung_share(air: Mask, hemithorax: Mask, spacing: Spacing) -> float | None:
    """Share of lung in a soft ball, averaged over the border of air and lung away from the wall.

    0.5 for a plane, less where the lung bulges into the air, as it does when it falls back from the chest wall, more
    where the air bulges into the lung.

    Args:
        air: [D, H, W] the candidate.
        hemithorax: [D, H, W] what of it is not air counts as lung. Both masks reach `REACH_MM` beyond the air.
        spacing: (D, H, W) mm.

    Returns:
        0..1, or None where less than 15 cm2 of the border lie away from the wall.
    """
    blocks = [max(1, round(_GRID_MM / pitch)) for pitch in spacing]
    coarse: Spacing = (spacing[0] * blocks[0], spacing[1] * blocks[1], spacing[2] * blocks[2])
    inside = _shares(hemithorax, blocks) >= 0.5
    empty = (_shares(air, blocks) >= 0.5) & inside
    lung = inside & ~empty
    border = ((empty & grown(lung)) | (lung & grown(empty))) & (depth_mm(inside, coarse) > OFF_WALL_MM)
    # Both faces are counted, so each pair of voxels stands for one face.
    area_cm2 = 0.5 * float(border.sum()) * float(np.prod(coarse)) ** (2.0 / 3.0) / 100.0
    if area_cm2 < _LEAST_CM2:
        return None
    sigma = [BALL_MM / pitch for pitch in coarse]
    lung_near, inside_near = (
        ndimage.gaussian_filter(mask.astype(np.float32), sigma, truncate=2.5)[border] for mask in (lung, inside)
    )
    return float((lung_near / np.maximum(inside_near, 1e-6)).mean())


def _shares(mask: Mask, blocks: list[int]) -> NDArray[np.float32]:
    """Share of each block that belongs to the mask; what is missing in the last blocks is outside."""
    padded = np.pad(mask, [(0, -count % block) for count, block in zip(mask.shape, blocks, strict=True)])
    d, h, w = (count // block for count, block in zip(padded.shape, blocks, strict=True))
    split = padded.reshape(d, blocks[0], h, blocks[1], w, blocks[2])
    return np.asarray(split.mean(axis=(1, 3, 5), dtype=np.float32))
