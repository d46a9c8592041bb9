"""The projector's public front: `project` and its exact transpose `backproject`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from xrecon.errors import GeometryError
from xrecon.geometry import ConeBeam
from xrecon.projector.backends import compiled
from xrecon.projector.backends.aligned import aligned_plan, project_aligned
from xrecon.projector.backends.reference import project_reference
from xrecon.projector.rays import RayFrame, check_source_outside, ray_frame

_CACHED_PIXELS = 2**20  # rays of a nominal view are kept up to this many (28 bytes each)


def project(
    volume_mu: Tensor,
    spacing_mm: float | Sequence[float],
    geometry: ConeBeam | Sequence[ConeBeam],
    *,
    pose: Tensor | None = None,
) -> Tensor:
    """Cone-beam line integrals of a volume whose centre is the isocentre (moved by the geometry's translation).

    Exact entry to exit of the voxel box, Joseph sampling; differentiable in the volume and in `pose`, also twice.
    float32 on a CPU runs in compiled kernels (`projector.backends.compiled`), everything else in plain torch; results
    agree to 1e-4.

    Args:
        volume_mu: [N, 1, D, H, W], linear attenuation in 1/mm; D to the feet, H to the back, W to the left.
        spacing_mm: voxel pitch, one number or (D, H, W).
        geometry: one view, or several with the same detector shape.
        pose: [6] or [V, 6] pose differences (angle, tilt, roll in degrees; x, y, z in mm LPS) to the geometry.

    Returns:
        [N, V, rows, cols] line integrals, dimensionless; rays that miss the volume give 0. A ray runs from the source
        to its detector pixel: what lies behind the detector is not seen. float64 stays float64; half precision, also
        under autocast, is computed and returned as float32.

    Raises:
        GeometryError: wrong shapes or dtypes, a spacing that is not positive, a source inside the volume, a pose that
            is not finite.

    Example:
        >>> film = xrecon.project(mu[None, None], 1.6, xrecon.ConeBeam.preset("chest", "pa", size=128))
    """
    views = _views(geometry)
    spacing = _spacing(spacing_mm)
    if volume_mu.ndim != 5 or volume_mu.shape[1] != 1 or min(volume_mu.shape) < 1 or not volume_mu.is_floating_point():
        raise GeometryError(
            "expected a floating-point volume [N, 1, D, H, W] without empty axes, "
            f"got {tuple(volume_mu.shape)} {volume_mu.dtype}"
        )
    poses = _poses(pose, len(views))
    # Sums over hundreds of voxels in half precision would lose the lung's contrast: leave autocast, compute in float.
    with torch.autocast(volume_mu.device.type, enabled=False):
        volume = _at_least_float32(volume_mu.squeeze(1))  # not [:, 0], whose gradient is a second volume
        shape = _shape(volume)
        if compiled.supports(volume):
            return compiled.project_fast(volume, _bundles(shape, spacing, views, poses), len(views))
        frames = [_frame(view, p, volume.device, shape, spacing) for view, p in zip(views, poses, strict=True)]
        films = []
        for view, frame, p in zip(views, frames, poses, strict=True):
            plan = aligned_plan(shape, spacing, view) if p is None and volume.dtype == torch.float32 else None
            if plan is not None:
                films.append(project_aligned(volume, plan))
            else:
                films.append(project_reference(volume, spacing, frame, view.detector_shape))
        return torch.stack(films, dim=1)


def project_frames(
    volume: Tensor,
    spacing_mm: tuple[float, float, float],
    frames: Sequence[RayFrame],
    detector_shape: tuple[int, int],
) -> Tensor:
    """Line integrals [N, V, rows, cols] of volumes [N, D, H, W] along rays that no ConeBeam describes.

    For set-ups with conventions of their own; the same sampling, paths and derivatives as `project`.

    Raises:
        GeometryError: a source inside the volume.
    """
    shape = _shape(volume)
    for frame in frames:
        check_source_outside(frame, shape, spacing_mm)
    if not compiled.supports(volume):
        return torch.stack([project_reference(volume, spacing_mm, f, detector_shape) for f in frames], dim=1)
    bundles = []
    for v, frame in enumerate(frames):
        bundles += compiled.bundles_of(frame, view=v, shape=shape, spacing_mm=spacing_mm, detector_shape=detector_shape)
    return compiled.project_fast(volume, bundles, len(frames))


def backproject(
    films: Tensor,
    shape: tuple[int, int, int],
    spacing_mm: float | Sequence[float],
    geometry: ConeBeam | Sequence[ConeBeam],
    *,
    pose: Tensor | None = None,
) -> Tensor:
    """The exact transpose of `project`: films [N, V, rows, cols] to a volume [N, 1, D, H, W] of `shape` (D, H, W).

    Differentiable in the films (not in `pose` off the CPU); usable under `no_grad` and `inference_mode`.

    Raises:
        GeometryError: films that do not fit the geometry, and whatever `project` raises.
    """
    views = _views(geometry)
    expected = (len(views), *views[0].detector_shape)
    if films.ndim != 4 or tuple(films.shape[1:]) != expected or not films.is_floating_point():
        raise GeometryError(
            f"expected floating-point films [N, {expected[0]}, {expected[1]}, {expected[2]}], "
            f"got {tuple(films.shape)} {films.dtype}"
        )
    if len(shape) != 3 or min(shape) < 1:
        raise GeometryError(f"shape must be three positive integers (D, H, W), got {tuple(shape)}")
    spacing = _spacing(spacing_mm)
    poses = _poses(pose, len(views))
    films = _at_least_float32(films)
    keep_graph = torch.is_grad_enabled() and films.requires_grad
    with torch.autocast(films.device.type, enabled=False):
        # An empty view of the right shape tells which path applies without a volume of memory.
        like = films.new_zeros(()).expand(films.shape[0], *shape)
        if compiled.supports(like):
            return compiled.backproject_fast(films, _bundles(shape, spacing, views, poses), shape)[:, None]
        with torch.inference_mode(False), torch.enable_grad():
            # The projector is linear, so its transpose is its vector-Jacobian product at any volume.
            zero = torch.zeros(films.shape[0], 1, *shape, dtype=films.dtype, device=films.device, requires_grad=True)
            image = project(zero, spacing, views, pose=None if pose is None else pose.detach())
            (volume,) = torch.autograd.grad(image, zero, grad_outputs=films, create_graph=keep_graph)
    return volume


def _bundles(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    views: tuple[ConeBeam, ...],
    poses: Sequence[Tensor | None],
) -> list[compiled.Bundle]:
    bundles: list[compiled.Bundle] = []
    for v, (view, pose) in enumerate(zip(views, poses, strict=True)):
        if pose is None:
            keep = math.prod(view.detector_shape) <= _CACHED_PIXELS
            make = _nominal_bundles if keep else _nominal_bundles.__wrapped__
            bundles += [b if b.view == v else replace(b, view=v) for b in make(shape, spacing, view)]
            continue
        frame = _frame(view, pose, torch.device("cpu"), shape, spacing)
        bundles += compiled.bundles_of(
            frame, view=v, shape=shape, spacing_mm=spacing, detector_shape=view.detector_shape
        )
    return bundles


@lru_cache(maxsize=8)
def _nominal_bundles(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], view: ConeBeam
) -> tuple[compiled.Bundle, ...]:
    # What is built under inference mode would be useless to a later call that needs gradients.
    with torch.inference_mode(False), torch.no_grad():
        frame = _frame(view, None, torch.device("cpu"), shape, spacing)
        size = view.detector_shape
        return tuple(compiled.bundles_of(frame, view=0, shape=shape, spacing_mm=spacing, detector_shape=size))


def _frame(
    view: ConeBeam,
    pose: Tensor | None,
    device: torch.device,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
) -> RayFrame:
    # MPS has no float64; positions in float32 are good to a thousandth of a voxel there.
    precision = torch.float32 if device.type == "mps" else torch.float64
    frame = ray_frame(view, pose=pose, dtype=precision, device=device)
    check_source_outside(frame, shape, spacing)
    return frame


def _shape(volume: Tensor) -> tuple[int, int, int]:
    return volume.shape[1], volume.shape[2], volume.shape[3]


def _views(geometry: ConeBeam | Sequence[ConeBeam]) -> tuple[ConeBeam, ...]:
    views = (geometry,) if isinstance(geometry, ConeBeam) else tuple(geometry)
    if not views:
        raise GeometryError("at least one view is needed, got an empty sequence of geometries")
    shapes = {view.detector_shape for view in views}
    if len(shapes) != 1:
        raise GeometryError(f"all views of one call need the same detector shape, got {sorted(shapes)}")
    return views


def _at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _spacing(spacing_mm: float | Sequence[float]) -> tuple[float, float, float]:
    try:
        values = [float(v) for v in (spacing_mm if isinstance(spacing_mm, Iterable) else (spacing_mm,) * 3)]
    except (TypeError, ValueError):
        values = []
    if len(values) != 3 or not all(math.isfinite(v) and v > 0 for v in values):
        raise GeometryError(f"spacing_mm must be one or three positive numbers (D, H, W), got {spacing_mm}")
    return values[0], values[1], values[2]


def _poses(pose: Tensor | None, count: int) -> list[Tensor | None]:
    if pose is None:
        return [None] * count
    if pose.shape not in ((6,), (count, 6)):
        raise GeometryError(f"expected a pose of shape (6,) or ({count}, 6), got {tuple(pose.shape)}")
    return list(pose.expand(count, 6).unbind(0))
