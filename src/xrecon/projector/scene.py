"""What one projection is made of: a voxel grid, its views, and differences of their poses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from xrecon.errors import GeometryError
from xrecon.geometry import ConeBeam
from xrecon.projector.rays import RayFrame, check_source_outside, ray_frame


@dataclass(frozen=True, eq=False)
class Scene:
    """A grid and the films that are taken of it; made by `Scene.of`, which checks its parts.

    Attributes:
        shape: voxels (D, H, W).
        spacing_mm: voxel pitch (D, H, W).
        views: one or several, all with the same detector shape.
        poses: for every view [6] pose differences (see `project`), or None.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    views: tuple[ConeBeam, ...]
    poses: tuple[Float[Tensor, " 6"] | None, ...]

    @classmethod
    def of(
        cls,
        shape: tuple[int, int, int],
        spacing_mm: float | Sequence[float],
        geometry: ConeBeam | Sequence[ConeBeam],
        *,
        pose: Float[Tensor, "*views 6"] | None = None,
    ) -> Scene:
        """Scene of the arguments of `project`.

        Raises:
            GeometryError: no view, views with different detectors, a spacing that is not positive, a pose of another
                shape.
        """
        views = _views(geometry)
        return cls(shape, _spacing(spacing_mm), views, _poses(pose, len(views)))

    @property
    def detector_shape(self) -> tuple[int, int]:
        """Pixels (rows, cols) of every film."""
        return self.views[0].detector_shape

    def single_views(self) -> list[Scene]:
        """One scene for each view."""
        return [replace(self, views=(view,), poses=(pose,)) for view, pose in zip(self.views, self.poses, strict=True)]

    def without_pose_gradients(self) -> Scene:
        """The same scene for derivatives by the volume alone."""
        return replace(self, poses=tuple(pose if pose is None else pose.detach() for pose in self.poses))

    def frames(self, device: torch.device) -> list[RayFrame]:
        """Source and detector of every view; differentiable in the poses.

        Raises:
            GeometryError: a source inside the volume, a pose that is not finite.
        """
        # MPS has no float64; positions in float32 are good to a thousandth of a voxel there.
        precision = torch.float32 if device.type == "mps" else torch.float64
        frames = []
        for view, pose in zip(self.views, self.poses, strict=True):
            frame = ray_frame(view, pose=pose, dtype=precision, device=device)
            check_source_outside(frame, self.shape, self.spacing_mm)
            frames.append(frame)
        return frames


def _views(geometry: ConeBeam | Sequence[ConeBeam]) -> tuple[ConeBeam, ...]:
    views = (geometry,) if isinstance(geometry, ConeBeam) else tuple(geometry)
    if not views:
        raise GeometryError("at least one view is needed, got an empty sequence of geometries")
    shapes = {view.detector_shape for view in views}
    if len(shapes) != 1:
        raise GeometryError(f"all views of one call need the same detector shape, got {sorted(shapes)}")
    return views


def _spacing(spacing_mm: float | Sequence[float]) -> tuple[float, float, float]:
    try:
        values = [float(v) for v in (spacing_mm if isinstance(spacing_mm, Iterable) else (spacing_mm,) * 3)]
    except (TypeError, ValueError):
        values = []
    if len(values) != 3 or not all(math.isfinite(v) and v > 0 for v in values):
        raise GeometryError(f"spacing_mm must be one or three positive numbers (D, H, W), got {spacing_mm}")
    return values[0], values[1], values[2]


def _poses(pose: Float[Tensor, "*views 6"] | None, count: int) -> tuple[Float[Tensor, " 6"] | None, ...]:
    if pose is None:
        return (None,) * count
    if pose.shape not in ((6,), (count, 6)):
        raise GeometryError(f"expected a pose of shape (6,) or ({count}, 6), got {tuple(pose.shape)}")
    return pose.expand(count, 6).unbind(0)
