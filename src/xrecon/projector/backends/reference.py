"""Joseph's projector in plain torch: any pose, any device, differentiable in volume and pose as often as one likes.

For every ray one bilinear sample per voxel plane of its dominant axis (Joseph, IEEE TMI 1:192, 1982), weighted by the
ray's exact path length inside the slab of that plane and inside the volume. The volume is made of voxels (its edge is
half a voxel beyond the outer voxel centres), so a uniform cube gives mu times the chord length for every ray. This is
the readable oracle of the faster paths.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from xrecon.projector.backends.backend import Backend, Films, Volumes, transposed
from xrecon.projector.backends.lines import OTHER_AXES, LineParameters, lines_of
from xrecon.projector.rays import RayFrame
from xrecon.projector.scene import Scene

_SAMPLES_PER_CHUNK = 1_000_000  # bounds the memory of one chunk of rays to about a hundred MB


def project_reference(
    volume: Volumes,
    spacing_mm: tuple[float, float, float],
    frame: RayFrame,
    detector_shape: tuple[int, int],
) -> Float[Tensor, "batch rows cols"]:
    """Line integrals of one view.

    Args:
        volume: [N, D, H, W], 1/mm (any floating dtype; the result has the same).
        spacing_mm: voxel pitch (D, H, W).
        frame: rays, in (d, h, w) mm from the volume's centre.
        detector_shape: (rows, cols).

    Returns:
        [N, rows, cols], dimensionless.
    """
    shape = (volume.shape[1], volume.shape[2], volume.shape[3])
    order, parts = [], []
    for lines in lines_of(frame, shape, spacing_mm, detector_shape):
        order.append(torch.nonzero(lines.chosen.flatten()).flatten())
        parts.append(line_integrals(volume, lines.axis, lines.values.flatten(1)[:, order[-1]]))
    inverse = torch.argsort(torch.cat(order))
    return torch.cat(parts, dim=1)[:, inverse].reshape(volume.shape[0], *detector_shape)


def line_integrals(volume: Volumes, axis: int, lines: Float[Tensor, "7 rays"]) -> Float[Tensor, "batch rays"]:
    """Line integrals of volumes along lines (`Lines.values`) that one axis dominates."""
    differentiable = torch.is_grad_enabled() and (volume.requires_grad or lines.requires_grad)
    parts = []
    for chunk in torch.split(lines, max(1, _SAMPLES_PER_CHUNK // volume.shape[1 + axis]), dim=1):
        # Chunks are recomputed in the backward pass: the samples of a whole film would not fit in memory.
        if differentiable:
            parts.append(checkpoint(_joseph, volume, axis, chunk, use_reentrant=False, preserve_rng_state=False))
        else:
            parts.append(_joseph(volume, axis, chunk))
    return torch.cat(parts, dim=1)


def _joseph(volume: Volumes, axis: int, lines: Float[Tensor, "7 rays"]) -> Float[Tensor, "batch rays"]:
    """`line_integrals` of a few rays."""
    size = volume.shape[1:]
    line = LineParameters.of(lines[:, :, None])
    planes = torch.arange(size[axis], dtype=lines.dtype, device=lines.device)
    share = (torch.minimum(planes + 0.5, line.k1) - torch.maximum(planes - 0.5, line.k0)).clamp(min=0.0)
    weight = (share * line.path_mm).to(volume.dtype)

    first, second = OTHER_AXES[axis]
    stride = (size[1] * size[2], size[2], 1)
    base = torch.arange(size[axis], device=volume.device) * stride[axis]
    f0, f1, f_weight = _neighbours(line.u0 + planes * line.du, size[first], volume.dtype)
    s0, s1, s_weight = _neighbours(line.v0 + planes * line.dv, size[second], volume.dtype)
    flat = volume.reshape(volume.shape[0], -1)
    total = torch.zeros(volume.shape[0], lines.shape[1], dtype=volume.dtype, device=volume.device)
    for f, wf in ((f0, 1 - f_weight), (f1, f_weight)):
        for s, ws in ((s0, 1 - s_weight), (s1, s_weight)):
            index = base + f * stride[first] + s * stride[second]
            samples = flat[:, index.flatten()].reshape(volume.shape[0], *index.shape)
            total = total + (samples * (wf * ws * weight)).sum(dim=2)
    return total


def _neighbours(
    position: Float[Tensor, "rays planes"], size: int, dtype: torch.dtype
) -> tuple[Int[Tensor, "rays planes"], Int[Tensor, "rays planes"], Float[Tensor, "rays planes"]]:
    """Lower and upper neighbour of a position, clamped to the axis, and the upper one's weight."""
    position = position.clamp(0.0, size - 1.0)
    lower = position.detach().floor().long().clamp(max=max(size - 2, 0))
    return lower, (lower + 1).clamp(max=size - 1), (position - lower).to(dtype)


def _refusal(volume: Volumes, scene: Scene) -> str | None:
    del volume, scene
    return None


def _project(volume: Volumes, scene: Scene) -> Films:
    frames = scene.frames(volume.device)
    return torch.stack(
        [project_reference(volume, scene.spacing_mm, frame, scene.detector_shape) for frame in frames], dim=1
    )


REFERENCE = Backend(
    name="reference",
    summary="plain torch, for every pose, dtype and device",
    refusal=_refusal,
    project=_project,
    backproject=transposed(_project),
)
