"""One projection-consistency sweep: the smoothest likely change of density that explains what the films still show.

Given an estimate x with a standard deviation d per voxel, changes are taken as a Gaussian process with covariance
C = D S S D (D = diag(d), S a Gaussian smoothing of unit variance). Its posterior mean given the films y is
x + C A' (A C A' + W^2)^-1 (y - A x), solved in film space by conjugate gradients: a few projections, no network.
Where the normalised misfit (y - A x)' (A C A' + W^2)^-1 (y - A x) per pixel exceeds its expectation of 1, W grows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as functional
from torch import Tensor

from xrecon.priors.films import FilmPair, line_integrals, misfit_deviation
from xrecon.projector.operator import backproject
from xrecon.warp import Grid

CORRELATION_MM = 24.0
"""Full width at half maximum of the density changes' smoothness."""
_STEPS = 20
_CAUTION = 0.5


def consistency_sweep(
    mu: Tensor, deviation_per_mm: Tensor, pair: FilmPair, grid: Grid, *, size: int, noise: float = 1.0
) -> Tensor:
    """Change of attenuation [D, H, W], 1/mm, to add to an estimate.

    Args:
        mu: [D, H, W], 1/mm, the estimate on `grid`.
        deviation_per_mm: [D, H, W], 1/mm, how far each voxel may be off; 0 where nothing may change.
        pair: the films.
        grid: grid of the estimate.
        size: detector pixels per edge.
        noise: multiplies the assumed misfit of the films; larger is gentler.
    """
    views = pair.views(size)
    films = pair.values(size, mu.device)
    seen = pair.covered(size, mu.device)  # the projections A are those of the pixels that a film has measured
    weight = noise * 0.15 * (2 * misfit_deviation(films))
    kernel = _kernel(CORRELATION_MM / grid.spacing_mm).to(mu.device)

    def spread(images: Tensor) -> Tensor:
        """C A' applied to films [2, rows, cols]."""
        volume = backproject((seen * images)[None], grid.shape, grid.spacing_mm, views)[0, 0]
        return deviation_per_mm * _smooth(_smooth(deviation_per_mm * volume, kernel), kernel)

    def system(images: Tensor) -> Tensor:
        return weight.square() * images + seen * line_integrals(spread(images), grid, views)

    with torch.no_grad():
        misfit = seen * (films - line_integrals(mu, grid, views))
        solution = _conjugate_gradients(system, misfit)
        surprise = float((misfit * solution).sum() / seen.sum())
        if surprise > 1.0:
            # Misfits larger than the covariance allows come from a wrong shape, not from density: trust them less.
            weight = weight * surprise**_CAUTION
            solution = _conjugate_gradients(system, misfit)
        return spread(solution)


def _conjugate_gradients(system: Callable[[Tensor], Tensor], target: Tensor) -> Tensor:
    solution = torch.zeros_like(target)
    residual = target.clone()
    direction = residual.clone()
    energy = residual.square().sum()
    first = float(energy)
    for _ in range(_STEPS):
        if float(energy) <= 1e-10 * first:
            break
        image = system(direction)
        step = energy / (direction * image).sum()
        solution = solution + step * direction
        residual = residual - step * image
        next_energy = residual.square().sum()
        direction = residual + (next_energy / energy) * direction
        energy = next_energy
    return solution


def _kernel(width_voxels: float) -> Tensor:
    """1-D Gaussian whose repeated smoothing of white noise keeps unit variance."""
    sigma = width_voxels / 2.355
    reach = int(3 * sigma) + 1
    x = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    return kernel / kernel.square().sum().sqrt()


def _smooth(volume: Tensor, kernel: Tensor) -> Tensor:
    out = volume[None, None]
    reach = (kernel.numel() - 1) // 2
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = -1
        padding = [0, 0, 0]
        padding[axis] = reach
        out = functional.conv3d(out, kernel.reshape(shape), padding=padding)
    return out[0, 0]
