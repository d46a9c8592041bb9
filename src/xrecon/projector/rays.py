"""Source and detector positions of a cone beam in the volume's own axes, in mm.

The frame here is (d, h, w) = (-z, y, x) of LPS, origin at the volume's centre: the same order as a tensor's axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from xrecon.errors import GeometryError
from xrecon.geometry import ConeBeam


@dataclass(frozen=True)
class RayFrame:
    """Everything that fixes the rays, each [3] in (d, h, w) mm; differentiable in the pose it was built from.

    Attributes:
        source: focal spot.
        corner: centre of the detector pixel (0, 0).
        row_step: from one row to the next.
        col_step: from one column to the next.
    """

    source: Float[Tensor, " 3"]
    corner: Float[Tensor, " 3"]
    row_step: Float[Tensor, " 3"]
    col_step: Float[Tensor, " 3"]

    def pixels(self, rows: int, cols: int) -> Float[Tensor, "{rows} {cols} 3"]:
        """Pixel centres in (d, h, w) mm."""
        r = torch.arange(rows, dtype=self.corner.dtype, device=self.corner.device)
        c = torch.arange(cols, dtype=self.corner.dtype, device=self.corner.device)
        return self.corner + r[:, None, None] * self.row_step + c[None, :, None] * self.col_step


def _rotation(angles_deg: Float[Tensor, " 3"]) -> Float[Tensor, "3 3"]:
    """Rz(angle) Rx(tilt) Ry(roll) on LPS vectors, from degrees (angle, tilt, roll)."""
    sin, cos = torch.sin(torch.deg2rad(angles_deg)), torch.cos(torch.deg2rad(angles_deg))
    zero, unit = torch.zeros_like(sin[0]), torch.ones_like(sin[0])
    rz = torch.stack([cos[0], -sin[0], zero, sin[0], cos[0], zero, zero, zero, unit]).reshape(3, 3)
    rx = torch.stack([unit, zero, zero, zero, cos[1], -sin[1], zero, sin[1], cos[1]]).reshape(3, 3)
    ry = torch.stack([cos[2], zero, sin[2], zero, unit, zero, -sin[2], zero, cos[2]]).reshape(3, 3)
    return rz @ rx @ ry


def ray_frame(
    geometry: ConeBeam,
    *,
    pose: Float[Tensor, " 6"] | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | None = None,
) -> RayFrame:
    """Positions of source and detector of a geometry.

    Args:
        geometry: the nominal geometry.
        pose: [6] differences (angle, tilt, roll in degrees; x, y, z in mm, LPS) added to it; gradients flow to it.
        dtype: precision of the positions.
        device: where the positions live.
    """
    angles = torch.tensor([geometry.angle_deg, geometry.tilt_deg, geometry.roll_deg], dtype=dtype, device=device)
    shift = torch.tensor(geometry.translation_mm, dtype=dtype, device=device)
    if pose is not None:
        if pose.shape != (6,):
            raise GeometryError(f"a pose is 6 numbers (angle, tilt, roll, x, y, z), got shape {tuple(pose.shape)}")
        if not bool(torch.isfinite(pose).all()):
            raise GeometryError(f"the pose must be finite, got {pose.tolist()}")
        pose = pose.to(dtype=dtype, device=device)
        angles, shift = angles + pose[:3], shift + pose[3:]
    rotation = _rotation(angles)
    left, back, up = rotation.unbind(dim=1)
    columns = -left if geometry.mirrored else left
    source = shift + geometry.source_to_isocentre_mm * back
    detector = shift - (geometry.source_to_detector_mm - geometry.source_to_isocentre_mm) * back
    row_step = -up * geometry.pixel_mm[0]
    col_step = columns * geometry.pixel_mm[1]
    rows, cols = geometry.detector_shape
    # Half-pixel counts: pixel centres lie symmetric about the detector's own centre.
    down = geometry.detector_shift_mm[0] / geometry.pixel_mm[0] - (rows - 1) / 2
    along = geometry.detector_shift_mm[1] / geometry.pixel_mm[1] - (cols - 1) / 2
    corner = detector + down * row_step + along * col_step
    source, corner, row_step, col_step = (_lps_to_dhw(v) for v in (source, corner, row_step, col_step))
    return RayFrame(source, corner, row_step, col_step)


def _lps_to_dhw(vector: Float[Tensor, " 3"]) -> Float[Tensor, " 3"]:
    return torch.stack([-vector[2], vector[1], vector[0]])


def check_source_outside(frame: RayFrame, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> None:
    """Raise GeometryError when the focal spot lies inside the volume."""
    half = torch.tensor([n * s / 2 for n, s in zip(shape, spacing_mm, strict=True)], dtype=torch.float64)
    source = frame.source.detach().to("cpu", torch.float64)
    if bool((source.abs() < half).all()):
        d, h, w = (round(float(v), 1) for v in source)
        raise GeometryError(
            f"the source lies inside the volume: at (d, h, w) = ({d}, {h}, {w}) mm from its centre, "
            f"half edges {tuple(float(v) for v in half)} mm; increase source_to_isocentre_mm"
        )
