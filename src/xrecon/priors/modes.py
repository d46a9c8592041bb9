"""Linear modes of whole chests: principal components of the group's CTs, each in many random shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xrecon.priors.chest import LINEAR_GRID, TEMPLATE_GRID, ShapeMap
from xrecon.priors.films import misfit_deviation, visual_hull
from xrecon.priors.framing import FilmedChest
from xrecon.priors.linear import FILM_PIXELS, ridge_scores
from xrecon.projector.attenuation import hu_to_mu
from xrecon.projector.operator import project
from xrecon.warp import sample

_FREE_MM = 5.0
"""Standard deviation of the smooth random displacement added to the group's own shape differences."""
_RIDGES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


@dataclass(frozen=True)
class LinearStatistics:
    """Mean and modes (1/mm, on LINEAR_GRID), and the ridge that predicts left-out patients best."""

    mean: Tensor
    modes: Tensor
    ridge: float
    errors: dict[float, float]


def linear_statistics(
    carried: Tensor,
    seen: Tensor,
    *,
    template: Tensor,
    shape_mean: Tensor,
    shape_modes: Tensor,
    cases: Sequence[FilmedChest],
    draws_per_case: int,
    count: int,
    seed: int,
    progress: Callable[[str], None],
) -> LinearStatistics:
    """Modes of the group's chests, each in many random shapes, and their ridge.

    Args:
        carried: [cases, D, H, W] HU on TEMPLATE_GRID, each case in the template's frame.
        seen: [cases, D, H, W] 1 where it was measured; elsewhere the template is used.
        template: [D, H, W] HU.
        shape_mean: see `ChestPrior`.
        shape_modes: see `ChestPrior`.
        cases: the cases themselves, for the cross-validation.
        draws_per_case: random shapes of each case.
        count: modes to keep.
        seed: of the random shapes.
        progress: called with a line of text.
    """
    generator = torch.Generator().manual_seed(seed)
    complete = torch.where(seen > 0.5, carried, template)
    draws = []
    for number, chest in enumerate(complete, start=1):
        progress(f"random shapes of case {number} of {len(complete)}")
        draws += [_draw(chest, shape_mean, shape_modes, generator) for _ in range(draws_per_case)]
    samples = torch.stack(draws).flatten(1)
    ridge, errors = _cross_validate(samples, cases, draws_per_case, count, progress)
    mean, modes = _principal_modes(samples, count)
    return LinearStatistics(mean.reshape(LINEAR_GRID.shape), modes.reshape(-1, *LINEAR_GRID.shape), ridge, errors)


def _draw(chest: Tensor, shape_mean: Tensor, shape_modes: Tensor, generator: torch.Generator) -> Tensor:
    """One chest in a random shape, mu (1/mm) on LINEAR_GRID."""
    scores = torch.randn(shape_modes.shape[0], generator=generator)
    shape = ShapeMap.from_vector(shape_mean + scores @ shape_modes)
    free = _FREE_MM * torch.randn(shape.coefficients.shape, generator=generator)
    moved = ShapeMap(shape.matrix, shape.shift_mm, shape.coefficients + free)
    return hu_to_mu(sample(chest[None], moved.positions(LINEAR_GRID), TEMPLATE_GRID.spacing_mm)[0])


def _principal_modes(samples: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean [n] and unit-variance principal components [count, n] of rows [samples, n], by their Gram matrix."""
    mean = samples.mean(dim=0)
    centred = samples - mean
    gram = (centred @ centred.T).double() / samples.shape[0]
    _, vectors = torch.linalg.eigh(gram)
    count = min(count, samples.shape[0] - 1)
    keep = vectors[:, -count:].flip(1) / samples.shape[0] ** 0.5
    return mean, keep.T.to(samples.dtype) @ centred


def _cross_validate(
    samples: Tensor, cases: Sequence[FilmedChest], draws_per_case: int, count: int, progress: Callable[[str], None]
) -> tuple[float, dict[float, float]]:
    """The ridge with the least squared error in mu on patients whose draws are left out of the modes."""
    total = dict.fromkeys(_RIDGES, 0.0)
    device = samples.device
    for index, case in enumerate(cases):
        progress(f"cross-validation: leaving out case {index + 1} of {len(cases)}")
        keep = torch.ones(samples.shape[0], dtype=torch.bool)
        keep[index * draws_per_case : (index + 1) * draws_per_case] = False
        mean, modes = _principal_modes(samples[keep], count)
        pair = case.films
        hull = visual_hull(pair, LINEAR_GRID, device=device)
        films = pair.values(FILM_PIXELS, device)
        stack = torch.cat([mean[None], modes]).reshape(-1, *LINEAR_GRID.shape) * hull
        projections = project(stack[:, None], LINEAR_GRID.spacing_mm, pair.views(FILM_PIXELS)).flatten(1)
        where = LINEAR_GRID.positions_mm()
        truth, valid = (sample(v[None], where, TEMPLATE_GRID.spacing_mm)[0] for v in (case.hu, case.valid))
        truth = hu_to_mu(truth)
        for ridge in _RIDGES:
            scores = ridge_scores(
                projections[1:],
                films.flatten() - projections[0],
                misfit_deviation(films).flatten(),
                ridge=ridge,
            )
            estimate = stack[0] + torch.einsum("k,kdhw->dhw", scores, stack[1:])
            total[ridge] += float(((estimate.clamp(min=0) - truth) * valid).square().mean())
    best = min(total, key=total.__getitem__)
    return best, {ridge: error / len(cases) for ridge, error in total.items()}
