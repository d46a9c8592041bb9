"""Random changes of a coarse lung case before the network sees it: pose, scanner, and tissue that fills a lung."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as functional
from torch import Tensor

_FILL_HU = -1000.0
"""Beyond the volume, and where the random field of view ends: air."""
_TURN_DEGREES = 10.0
_SCALE = (0.82, 1.2)
_SHIFT_SHARE = 0.12
_OFFSET_HU = 50.0
_GAIN = 0.04
_NOISE_HU = 45.0
_BLUR_VOXELS = (0.3, 1.6)
_FILLED_HU = (10.0, 70.0)


def augment(hu: Tensor, sides: Tensor, shape: tuple[int, int, int], rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random pose and a random scanner. Never a mirror image: the heart would lie on the wrong side.

    Args:
        hu: [D, H, W] float.
        sides: [D, H, W] integer: 0, 1 right, 2 left.
        shape: of the result.
        rng: source of every random number.

    Returns:
        HU and sides of `shape`.
    """
    hu, sides = _placed(hu, sides, shape, rng)
    if _chance(0.15, rng):
        hu = _with_dense_lung(hu, sides, rng)
    if _chance(0.3, rng):
        hu = _blurred(hu, _between(*_BLUR_VOXELS, rng))
    if _chance(0.2, rng):
        hu = _thick(hu, 2)
    hu = (hu + 1000.0) * (1.0 + _between(-_GAIN, _GAIN, rng)) - 1000.0 + _between(-_OFFSET_HU, _OFFSET_HU, rng)
    if _chance(0.5, rng):
        hu = hu + torch.randn(hu.shape, generator=rng) * _between(0.0, _NOISE_HU, rng)
    if _chance(0.3, rng):
        hu = _cut(hu, rng)
    return hu, sides


def _chance(share: float, rng: torch.Generator) -> bool:
    return float(torch.rand((), generator=rng)) < share


def _between(low: float, high: float, rng: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=rng))


def _placed(hu: Tensor, sides: Tensor, shape: tuple[int, int, int], rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Turned, scaled and shifted; centred on the lungs, and part of the time (a shift) not quite."""
    inside = (sides > 0).nonzero().float()
    centre = inside.mean(dim=0) if len(inside) else torch.tensor([n / 2 for n in hu.shape])
    centre = centre + torch.tensor([_between(-_SHIFT_SHARE, _SHIFT_SHARE, rng) * n for n in shape])
    turn = _rotation([math.radians(_between(-_TURN_DEGREES, _TURN_DEGREES, rng)) for _ in range(3)])
    common = _between(*_SCALE, rng)
    matrix = turn @ torch.diag(torch.tensor([common * _between(0.92, 1.08, rng) for _ in range(3)]))
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in shape]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) @ matrix.T + centre
    size = torch.tensor(hu.shape, dtype=torch.float32)
    grid = (2.0 * places / (size - 1) - 1.0).flip(-1)[None]
    moved = functional.grid_sample((hu - _FILL_HU)[None, None], grid, align_corners=True)[0, 0] + _FILL_HU
    labels = functional.grid_sample(sides[None, None].float(), grid, mode="nearest", align_corners=True)[0, 0]
    return moved, labels.long()


def _rotation(angles: list[float]) -> Tensor:
    """3 x 3 rotation by an angle (radians) about each axis, one after the other."""
    out = torch.eye(3)
    for axis, angle in enumerate(angles):
        turn = torch.eye(3)
        i, j = (a for a in range(3) if a != axis)
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        out = out @ turn
    return out


def _blurred(hu: Tensor, sigma: float) -> Tensor:
    reach = max(1, math.ceil(2.5 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float32) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    out = hu[None, None]
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = -1
        pad = [0] * 6
        pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = reach
        out = functional.conv3d(functional.pad(out, pad, mode="replicate"), kernel.reshape(shape))
    return out[0, 0]


def _thick(hu: Tensor, slices: int) -> Tensor:
    """Slices that are `slices` voxels thick, interpolated back to the grid."""
    coarse = functional.avg_pool3d(hu[None, None], (slices, 1, 1), ceil_mode=True)
    return functional.interpolate(coarse, size=tuple(hu.shape), mode="trilinear", align_corners=False)[0, 0]


def _with_dense_lung(hu: Tensor, sides: Tensor, rng: torch.Generator) -> Tensor:
    """A random part of one lung filled with soft tissue, as pneumonia and atelectasis do; free air stays."""
    side = 1 + int(torch.randint(2, (), generator=rng))
    rough = torch.randn((1, 1, 6, 6, 6), generator=rng)
    field = functional.interpolate(rough, size=tuple(hu.shape), mode="trilinear", align_corners=True)[0, 0]
    dense = (sides == side) & (field > _between(0.2, 0.9, rng)) & (hu > -930.0)
    return torch.where(dense, torch.full_like(hu, _between(*_FILLED_HU, rng)), hu)


def _cut(hu: Tensor, rng: torch.Generator) -> Tensor:
    """A smaller field of view: planes at one end, or all voxels beyond a circle, hold air."""
    out = hu.clone()
    if _chance(0.5, rng):
        planes = int(_between(0.0, 0.3, rng) * hu.shape[0])
        if planes and _chance(0.5, rng):
            out[:planes] = _FILL_HU
        elif planes:
            out[-planes:] = _FILL_HU
        return out
    h, w = (torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in hu.shape[1:])
    beyond = h[:, None] ** 2 + w**2 > (_between(0.38, 0.5, rng) * hu.shape[2]) ** 2
    out[:, beyond] = _FILL_HU
    return out
