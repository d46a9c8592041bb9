"""Building the statistical chest from a group of CTs: `xrecon train priors`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from xrecon.anatomy.orientation import with_orientation_notes
from xrecon.errors import InputError
from xrecon.io.output.staging import check_outputs
from xrecon.priors.asset import PriorAsset
from xrecon.priors.chest import DENSITY_GRID, KNOT_MM, TEMPLATE_GRID, WIDE_MM, ChestPrior, ShapeMap
from xrecon.priors.framing import FilmedChest, frame_with_films
from xrecon.priors.modes import linear_statistics
from xrecon.priors.registration import ChestMap, Group, MovingChest, group_template, mean_over, register
from xrecon.volume import Volume, load_ct
from xrecon.warp import Grid, SplineField, sample

WORK_GRID = Grid((32, 32, 42), 12.0)
"""Registration runs here: the field's knots are 36 mm apart, finer voxels change nothing but the time."""
_LEAST_CASES = 3
_DENSITY_MODES = 8
"""At most; always too few to span the cases' differences, so that no patient's CT can be rebuilt from them."""
_INVERSE_BENDING = 1e-4


@dataclass(frozen=True)
class BuildSettings:
    """How thoroughly to build; the defaults made the shipped priors.

    Attributes:
        rounds: (optimiser steps, bending weight) of each round of the template.
        inverse_steps: optimiser steps of each map from a patient to the template.
        draws_per_case: random shapes of each case behind the linear modes.
        modes: linear modes kept.
        seed: of the random shapes.
    """

    rounds: tuple[tuple[int, float], ...] = ((40, 3e-4), (60, 1.5e-4), (100, 1e-4))
    inverse_steps: int = 80
    draws_per_case: int = 30
    modes: int = 128
    seed: int = 0

    @classmethod
    def quick(cls, *, seed: int = 0) -> BuildSettings:
        """Coarse statistics in a fraction of the time, only to try things out."""
        return cls(rounds=((20, 3e-4),), inverse_steps=20, draws_per_case=4, modes=16, seed=seed)


def learn_priors(
    cases: Sequence[tuple[str, Path]],
    output: Path,
    *,
    settings: BuildSettings | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Path:
    """Read chest CTs, build their priors and write them to a file, with its description (.json) beside it.

    Args:
        cases: (name, path of the CT); at least three patients, one CT each.
        output: file to write; its name ends in .safetensors.
        settings: how thoroughly.
        overwrite: replace files that are there.
        progress: called with a line of text at each stage.

    Raises:
        InputError: another suffix, a CT that cannot be read, or as `build_priors`.
        OutputExistsError: one of the two files exists, and `overwrite` is not given.
    """
    if output.suffix != ".safetensors":
        raise InputError(f"{output}: priors are written as safetensors; choose a name that ends in .safetensors")
    check_outputs(output.parent, [output.name, output.with_suffix(".json").name], overwrite=overwrite)
    volumes = [(name, with_orientation_notes(load_ct(path), path)) for name, path in cases]
    return build_priors(volumes, settings=settings, progress=progress).save(output, overwrite=overwrite)


def build_priors(
    cases: Sequence[tuple[str, Volume]],
    *,
    settings: BuildSettings | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> PriorAsset:
    """Statistics of a group of chest CTs (minutes on two cores for a dozen cases).

    Args:
        cases: (name, CT); at least three patients, one CT each.
        settings: how thoroughly.
        progress: called with a line of text at each stage.

    Raises:
        InputError: fewer than three cases, or a case without body or lungs.
    """
    prepared = []
    for name, ct in cases:
        progress(f"framing {name}")
        prepared.append(frame_with_films(name, ct))
    return build_from_chests(prepared, settings=settings, progress=progress)


def build_from_chests(
    prepared: Sequence[FilmedChest],
    *,
    settings: BuildSettings | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> PriorAsset:
    """`build_priors` for cases that are framed already."""
    settings = settings or BuildSettings()
    if len(prepared) < _LEAST_CASES:
        raise InputError(f"a prior needs at least {_LEAST_CASES} chest CTs, got {len(prepared)}")
    group = group_template(
        [case.coarse() for case in prepared], grid=WORK_GRID, rounds=settings.rounds, progress=progress
    )
    carried, seen = _carry(prepared, group.maps)
    template = mean_over(carried, seen)
    deviation, density_modes = _density_statistics(template, carried, seen)
    progress("mapping patients to the template")
    shape_mean, shape_modes = _shape_statistics(prepared, group, steps=settings.inverse_steps)
    progress("linear modes")
    linear = linear_statistics(
        carried,
        seen,
        template=template,
        shape_mean=shape_mean,
        shape_modes=shape_modes,
        cases=prepared,
        draws_per_case=settings.draws_per_case,
        count=settings.modes,
        seed=settings.seed,
        progress=progress,
    )
    prior = ChestPrior(
        template=template,
        deviation=deviation,
        density_modes=density_modes,
        shape_mean=shape_mean,
        shape_modes=shape_modes,
        linear_mean=linear.mean,
        linear_modes=linear.modes,
        ridge=linear.ridge,
        information={},
    )
    box = torch.stack([case.box_mm for case in prepared]).mean(dim=0)
    return PriorAsset.of(
        prior, cases=len(prepared), settings=asdict(settings), ridge_errors=linear.errors, mean_box_mm=box.tolist()
    )


def _carry(prepared: Sequence[FilmedChest], maps: Sequence[ChestMap]) -> tuple[Tensor, Tensor]:
    """Every case in the template's frame on TEMPLATE_GRID, and where it was measured; [cases, D, H, W] each."""
    field = SplineField(TEMPLATE_GRID, KNOT_MM, extent_mm=WIDE_MM)
    positions = TEMPLATE_GRID.positions_mm()
    hu, seen = [], []
    for case, chest_map in zip(prepared, maps, strict=True):
        where = chest_map.positions(positions, field)
        values, valid = sample(torch.stack([case.hu, case.valid]), where, TEMPLATE_GRID.spacing_mm)
        hu.append(values)
        seen.append(valid)
    return torch.stack(hu), torch.stack(seen)


def _density_statistics(template: Tensor, carried: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviation about the template and principal density differences, HU on DENSITY_GRID."""
    density = _on_density_grid(torch.cat([template[None], carried]))
    measured = _on_density_grid(seen) > 0.5
    difference = torch.where(measured, density[1:] - density[0], torch.zeros(()))
    deviation = (difference.square().sum(0) / measured.sum(0).clamp(min=1)).sqrt()
    count = max(1, min(_DENSITY_MODES, len(carried) - 2))
    return deviation, _principal(difference.flatten(1), count).reshape(-1, *DENSITY_GRID.shape)


def _shape_statistics(prepared: Sequence[FilmedChest], group: Group, *, steps: int) -> tuple[Tensor, Tensor]:
    """Mean of the cases' `ShapeMap` vectors, and their principal differences."""
    shapes = torch.stack(
        [
            _shape_of(case, group, chest_map, steps=steps).to_vector()
            for case, chest_map in zip(prepared, group.maps, strict=True)
        ]
    )
    mean = shapes.mean(dim=0)
    return mean, _principal(shapes - mean, len(prepared) - 1)


def _on_density_grid(volumes: Tensor) -> Tensor:
    return sample(volumes, DENSITY_GRID.positions_mm(), TEMPLATE_GRID.spacing_mm)


def _principal(differences: Tensor, count: int) -> Tensor:
    """Principal components [count, n] of centred rows [cases, n], each scaled to its standard deviation."""
    cases = differences.shape[0]
    _, values, components = torch.linalg.svd(differences / cases**0.5, full_matrices=False)
    count = min(count, cases - 1)
    scaled: Tensor = values[:count, None] * components[:count]
    return scaled


def _shape_of(case: FilmedChest, group: Group, chest_map: ChestMap, *, steps: int) -> ShapeMap:
    """Map from the patient to the template, the inverse direction of the group's maps."""
    coarse = case.coarse()
    matrix = torch.linalg.inv(chest_map.matrix)
    start = ChestMap(matrix, -matrix @ chest_map.shift_mm, torch.zeros_like(chest_map.coefficients))
    moving = MovingChest(group.template, torch.ones_like(group.template), coarse.box_mm)
    inverse = register(
        coarse.hu, coarse.valid, moving, grid=WORK_GRID, start=start, steps=steps, bending=_INVERSE_BENDING
    )
    return ShapeMap(inverse.matrix, inverse.shift_mm, inverse.coefficients)
