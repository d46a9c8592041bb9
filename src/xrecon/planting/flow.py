"""The collapse of a lung as a smooth flow: air enters at part of its surface, the tissue contracts everywhere.

The velocity v is the gradient of a potential inside the pleural cavity. Its divergence is negative everywhere (the
lung contracts), its normal component is an inflow w >= 0 on the surface that the air reaches and zero where the lung
keeps touching the wall (it may slide there). Following v for a time t maps the cavity onto the collapsed lung; what is
left of the cavity is the pocket. A flow cannot fold or tear, its Jacobian gives the density of the collapsed lung, and
the volume falls monotonically with t, so any occupancy can be reached.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import cg

from xrecon.anatomy.morphology import Floats, Mask, Spacing, signed_mm
from xrecon.planting.trace import inside_share, step_back
from xrecon.smoothing import gaussian_smoothed

_WALL_MM = 7.0
"""Within this distance of the wall the normal velocity is set to the inflow: the staircase of voxels cannot leak."""
_STEP = 0.04
"""Time step; the volume falls by about this share in each."""
_LONGEST = 6.0
"""Longest time: only 1/400 of the lung would be left."""
_HOLD_MM = 22.0
"""Radius round the lung root that hardly moves: bronchi and vessels tether the lung there."""


@dataclass(frozen=True, eq=False)
class Cavity:
    """A pleural cavity on a coarse grid of equal pitch.

    Attributes:
        mask: [D, H, W] bool.
        depth: [D, H, W], signed distance to the wall, mm, positive inside, smooth.
        normal: [3, D, H, W], its gradient: into the cavity, length at most 1.
        pitch_mm: edge of a voxel.
        root_mm: (d, h, w) position of the lung root in mm from the centre of voxel (0, 0, 0).
    """

    mask: Mask
    depth: Floats
    normal: Floats
    pitch_mm: float
    root_mm: NDArray[np.float64]

    @classmethod
    def of(cls, mask: Mask, pitch_mm: float, root_mm: NDArray[np.float64]) -> Cavity:
        """Distance and normals of a mask."""
        spacing: Spacing = (pitch_mm, pitch_mm, pitch_mm)
        depth = gaussian_smoothed(signed_mm(mask, spacing), 1.0)
        normal = np.stack([np.gradient(depth, pitch_mm, axis=axis) for axis in range(3)]).astype(np.float32)
        normal /= np.maximum(np.linalg.norm(normal, axis=0), 1.0)
        return cls(mask, depth, normal, pitch_mm, root_mm)

    @property
    def positions(self) -> Floats:
        """[3, D, H, W] position of every voxel, mm."""
        return (np.indices(self.mask.shape, dtype=np.float32) * np.float32(self.pitch_mm)).astype(np.float32)

    @property
    def from_root_mm(self) -> Floats:
        """[D, H, W] distance to the lung root, mm."""
        away = self.positions - self.root_mm.reshape(3, 1, 1, 1)
        return np.asarray(np.linalg.norm(away, axis=0), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Collapse:
    """Where each place of the chest was before the collapse.

    Attributes:
        shift_mm: [3, D, H, W] original minus present position, mm, on the cavity's coarse grid.
        log_density: [D, H, W] logarithm of the factor by which the tissue became denser.
        remaining: share of its cavity that the collapsed lung fills, on the coarse grid.
    """

    shift_mm: Floats
    log_density: Floats
    remaining: float


def inflow_velocity(cavity: Cavity, inflow: Floats, contraction: Floats) -> Floats:
    """Velocity [3, D, H, W] in mm per unit of time, in which the cavity's volume falls e-fold.

    Args:
        cavity: where.
        inflow: [D, H, W] >= 0, relative; used near the wall.
        contraction: [D, H, W] > 0, relative rate at which tissue shrinks.
    """
    mask, pitch = cavity.mask, cavity.pitch_mm
    rate = np.where(mask, contraction, 0.0)
    rate /= rate[mask].mean()
    faces = _wall_faces(cavity)
    sides = [np.where(face, inflow * np.abs(cavity.normal[axis]), 0.0) for axis, _, face in faces]
    total = sum(float(side.sum()) for side in sides)
    scale = float(rate.sum()) * pitch / total
    sides = [side * scale for side in sides]
    potential = _potential(mask, rate * pitch**2 - sum(sides) * pitch)
    velocity = np.zeros((3, *mask.shape), dtype=np.float32)
    for axis in range(3):
        inner = _pairs(mask, axis)
        step = np.diff(potential, axis=axis) / pitch * inner
        low, high = _halves(axis)
        velocity[axis][low] += 0.5 * step
        velocity[axis][high] += 0.5 * step
    for (axis, direction, _), side in zip(faces, sides, strict=True):
        velocity[axis] -= 0.5 * direction * side
    velocity = _Continuation(mask).of(velocity)
    return _along_the_wall(cavity, velocity, _Continuation(_rim(cavity)).of((inflow * np.float32(scale))[None])[0])


def collapse_to(cavity: Cavity, velocity: Floats, remaining: float) -> Collapse:
    """Follow the flow until the lung has shrunk to the share `remaining` (0..1) of its cavity."""
    return Course(cavity, velocity).until(remaining)


class Course:
    """The collapse of a cavity in one flow, followed as far as it was asked for and kept: a second stop costs little.

    Args:
        cavity: where.
        velocity: [3, D, H, W] mm per unit of time.
    """

    def __init__(self, cavity: Cavity, velocity: Floats) -> None:
        pitch = cavity.pitch_mm
        divergence = sum(np.gradient(velocity[axis], pitch, axis=axis) for axis in range(3))
        self._fields = np.stack([*(velocity / pitch), divergence], axis=-1).astype(np.float32)
        self._cavity = cavity
        self._near = cavity.depth > -3.0 * pitch
        count = int(self._near.sum())
        self._start = np.column_stack([*np.nonzero(self._near), np.zeros(count)]).astype(np.float32)
        self._depth = np.ascontiguousarray(cavity.depth[..., None] / np.float32(pitch))
        self._weight = np.clip(self._depth[self._near][:, 0] + 0.5, 0.0, 1.0).astype(np.float32)
        self._full = float(inside_share(self._start, self._depth, self._weight))
        self._smoothing = _Continuation(self._near)
        self._steps: list[tuple[Floats, float]] = [(self._start, 1.0)]

    def until(self, remaining: float) -> Collapse:
        """The collapse that leaves the share `remaining` (0..1) of the cavity to the lung."""
        place, now = self._start, 1.0
        for number in range(int(_LONGEST / _STEP)):
            if now <= remaining:
                break
            after, volume = self._step(number + 1)
            if volume < remaining:
                # The last step is cut so that the volume is met.
                place = place + np.float32((now - remaining) / (now - volume)) * (after - place)
                now = self._volume(place)
                break
            place, now = after, volume
        pitch, near = self._cavity.pitch_mm, self._near
        moved = np.zeros((4, *near.shape), dtype=np.float32)
        for axis in range(3):
            moved[axis][near] = (place[:, axis] - self._start[:, axis]) * np.float32(pitch)
        moved[3][near] = place[:, 3]
        smooth = self._smoothing.of(moved)
        return Collapse(smooth[:3], smooth[3], now)

    def _step(self, number: int) -> tuple[Floats, float]:
        """Places [N, 4] after so many time steps, and the volume's share."""
        if number == len(self._steps):
            after = step_back(self._steps[-1][0], self._fields, _STEP)
            self._steps.append((after, self._volume(after)))
        return self._steps[number]

    def _volume(self, place: Floats) -> float:
        return float(inside_share(place, self._depth, self._weight)) / self._full


def smooth_noise(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> Floats:
    """Random field [D, H, W] of unit variance that varies over `sigma` voxels."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return np.asarray((noise - noise.mean()) / max(float(noise.std()), 1e-9), dtype=np.float32)


def _halves(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    low: list[slice] = [slice(None)] * 3
    high: list[slice] = [slice(None)] * 3
    low[axis], high[axis] = slice(None, -1), slice(1, None)
    return tuple(low), tuple(high)


def _pairs(mask: Mask, axis: int) -> Mask:
    low, high = _halves(axis)
    return np.asarray(mask[low] & mask[high])


def _wall_faces(cavity: Cavity) -> list[tuple[int, int, Mask]]:
    """(axis, direction, cavity voxels whose neighbour in that direction is outside)."""
    faces = []
    for axis in range(3):
        for direction in (-1, 1):
            neighbour = np.roll(cavity.mask, -direction, axis=axis)
            faces.append((axis, direction, cavity.mask & ~neighbour))
    return faces


def _rim(cavity: Cavity) -> Mask:
    return cavity.mask & (cavity.depth < 1.6 * cavity.pitch_mm)


def _potential(mask: Mask, source: NDArray[np.floating]) -> Floats:
    """Solve sum over neighbours (p_i - p_j) = source_i inside the mask; no flux but through the sources."""
    number = np.full(mask.shape, -1, dtype=np.int64)
    number[mask] = np.arange(int(mask.sum()))
    rows, columns = [], []
    for axis in range(3):
        low, high = _halves(axis)
        linked = mask[low] & mask[high]
        rows.append(number[low][linked])
        columns.append(number[high][linked])
    i, j = np.concatenate(rows), np.concatenate(columns)
    size = int(mask.sum())
    ones = np.ones(i.size)
    links = sparse.coo_matrix((ones, (i, j)), shape=(size, size)).tocsr()
    links = links + links.T
    degree = np.asarray(links.sum(axis=1)).ravel()
    matrix = sparse.diags(degree) - links
    balanced = source[mask].astype(np.float64)
    balanced -= balanced.mean()
    inverse = sparse.diags(1.0 / np.maximum(degree, 1.0))
    solution, _ = cg(matrix, balanced, rtol=1e-4, maxiter=1500, M=inverse)
    potential = np.zeros(mask.shape, dtype=np.float32)
    potential[mask] = solution
    return potential


class _Continuation:
    """Values of the valid voxels, slightly smoothed, continued smoothly to all others."""

    def __init__(self, valid: Mask) -> None:
        self._valid = valid
        self._layers: list[tuple[float, Mask, Floats]] = []
        missing = np.ones(valid.shape, dtype=bool)
        for sigma in (1.2, 3.0, 9.0):
            weight = gaussian_smoothed(valid.astype(np.float32), sigma)
            usable = missing & (weight > 0.02)
            self._layers.append((sigma, usable, weight[usable]))
            missing &= ~usable
            if not missing.any():
                break

    def of(self, values: Floats) -> Floats:
        """The continued values [channels, D, H, W]."""
        out = np.zeros(values.shape, dtype=np.float32)
        masked = [np.where(self._valid, part, 0.0).astype(np.float32) for part in values]
        for sigma, usable, weight in self._layers:
            for part, smooth in zip(masked, out, strict=True):
                smooth[usable] = gaussian_smoothed(part, sigma)[usable] / weight
        return out


def _along_the_wall(cavity: Cavity, velocity: Floats, inflow: Floats) -> Floats:
    """The velocity without flow through the wall that air does not reach, and held at the lung root."""
    near = np.exp(-((np.maximum(cavity.depth, 0.0) / _WALL_MM) ** 2)).astype(np.float32)
    # Where air enters, the potential's own velocity stays: a layer of constant velocity would pile tissue up behind it.
    near *= np.exp(-inflow / (0.15 * inflow[_rim(cavity)].max()))
    across = (velocity * cavity.normal).sum(axis=0)
    velocity = velocity + near * (inflow - across) * cavity.normal
    free = 1.0 - np.exp(-((cavity.from_root_mm / _HOLD_MM) ** 2))
    return np.asarray(velocity * free, dtype=np.float32)
