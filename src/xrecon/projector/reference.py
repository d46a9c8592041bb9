"""Joseph's projector in plain torch: any pose, any device, differentiable in volume and pose.

For every ray the axis that it crosses fastest is its dominant axis (Joseph, IEEE TMI 1:192, 1982): one bilinear
sample per voxel plane of that axis, weighted by the ray's exact path length inside the slab of that plane and inside
the volume. The volume is made of voxels (its edge is half a voxel beyond the outer voxel centres), so a uniform cube
gives mu times the chord length for every ray. This is the readable oracle of the faster paths.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from xrecon.projector.rays import RayFrame

_SAMPLES_PER_CHUNK = 1_000_000  # bounds the memory of one chunk of rays to about a hundred MB


def project_reference(
    volume: Tensor, spacing_mm: tuple[float, float, float], frame: RayFrame, detector_shape: tuple[int, int]
) -> Tensor:
    """Line integrals of one view.

    Args:
        volume: [N, D, H, W], 1/mm (any floating dtype; the result has the same).
        spacing_mm: voxel pitch (D, H, W).
        frame: rays, in (d, h, w) mm from the volume's centre.
        detector_shape: (rows, cols).

    Returns:
        [N, rows, cols], dimensionless.
    """
    shape = torch.tensor(volume.shape[1:], dtype=frame.source.dtype, device=volume.device)
    spacing = torch.tensor(spacing_mm, dtype=frame.source.dtype, device=volume.device)
    pixels = frame.pixels(*detector_shape).reshape(-1, 3)
    start = frame.source / spacing + (shape - 1) / 2
    ray = (pixels - frame.source) / spacing
    length_mm = (pixels - frame.source).norm(dim=1)
    enter, leave = _box_interval(start, ray, shape)
    dominant = ray.detach().abs().argmax(dim=1)

    differentiable = torch.is_grad_enabled() and (volume.requires_grad or ray.requires_grad)
    order, parts = [], []
    for axis in range(3):
        chosen = torch.nonzero(dominant == axis).flatten()
        rays_per_chunk = max(1, _SAMPLES_PER_CHUNK // volume.shape[1 + axis])
        for rays in torch.split(chosen, rays_per_chunk) if chosen.numel() else ():
            arguments = (volume, axis, start, ray[rays], length_mm[rays], enter[rays], leave[rays])
            # Chunks are recomputed in the backward pass: the samples of a whole film would not fit in memory.
            if differentiable:
                parts.append(checkpoint(_joseph, *arguments, use_reentrant=False, preserve_rng_state=False))
            else:
                parts.append(_joseph(*arguments))
            order.append(rays)
    inverse = torch.argsort(torch.cat(order))
    return torch.cat(parts, dim=1)[:, inverse].reshape(volume.shape[0], *detector_shape)


def _box_interval(start: Tensor, ray: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
    """Ray parameters at which rays [R, 3] from `start` enter and leave the voxel box, in index coordinates, [R]."""
    tiny = torch.finfo(ray.dtype).tiny
    safe = torch.where(ray.abs() < 1e-12, torch.full_like(ray, 1e-12), ray)
    low, high = (-0.5 - start) / safe, (shape - 0.5 - start) / safe
    near, far = torch.minimum(low, high), torch.maximum(low, high)
    enter = near.amax(dim=1).clamp(min=tiny)
    leave = far.amin(dim=1).clamp(max=1.0)
    return enter, torch.maximum(leave, enter)


def _joseph(
    volume: Tensor, axis: int, start: Tensor, ray: Tensor, length_mm: Tensor, enter: Tensor, leave: Tensor
) -> Tensor:
    """Line integrals [N, R] of rays whose dominant axis is `axis`."""
    size = volume.shape[1:]
    planes = torch.arange(size[axis], dtype=ray.dtype, device=ray.device)
    crossing = (planes - start[axis]) / ray[:, axis : axis + 1]
    half = (0.5 / ray[:, axis].abs())[:, None]
    inside = torch.minimum(crossing + half, leave[:, None]) - torch.maximum(crossing - half, enter[:, None])
    weight = (inside.clamp(min=0.0) * length_mm[:, None]).to(volume.dtype)

    first, second = (a for a in range(3) if a != axis)
    stride = (size[1] * size[2], size[2], 1)
    base = planes.long() * stride[axis]
    f0, f1, f_weight = _neighbours(start[first] + crossing * ray[:, first : first + 1], size[first], volume.dtype)
    s0, s1, s_weight = _neighbours(start[second] + crossing * ray[:, second : second + 1], size[second], volume.dtype)
    flat = volume.reshape(volume.shape[0], -1)
    total = torch.zeros(volume.shape[0], ray.shape[0], dtype=volume.dtype, device=volume.device)
    for f, wf in ((f0, 1 - f_weight), (f1, f_weight)):
        for s, ws in ((s0, 1 - s_weight), (s1, s_weight)):
            index = base + f * stride[first] + s * stride[second]
            samples = flat[:, index.flatten()].reshape(-1, *index.shape)
            total = total + (samples * (wf * ws * weight)).sum(dim=2)
    return total


def _neighbours(position: Tensor, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Lower and upper neighbour of a position, clamped to the axis, and the upper one's weight."""
    position = position.clamp(0.0, size - 1.0)
    lower = position.detach().floor().long().clamp(max=max(size - 2, 0))
    return lower, (lower + 1).clamp(max=size - 1), (position - lower).to(dtype)
