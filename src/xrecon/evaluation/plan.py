"""What an evaluation will do: its cases, models and options, refused before any work where they do not fit together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xrecon.errors import InputError, MissingPartError
from xrecon.evaluation.case_set import CaseSet, find_case_set
from xrecon.evaluation.metrics.structures import StructureMaps, check_structure_maps, load_structure_maps
from xrecon.evaluation.models import ModelChoice, bank_for, choose_models
from xrecon.inference.device import usable_device
from xrecon.inference.models import DEFAULT_MODEL, baseline_names
from xrecon.jobs import dask_is_installed

TRAIN_NOTE = "Train cases: models and priors that have learned from them flatter themselves here."
"""What a reader should know of every result on train cases."""
DEFAULT_SIZE = 64
"""Voxels per edge where CT files are evaluated and nothing else is asked for."""


@dataclass(frozen=True)
class EvaluationPlan:
    """What is evaluated, checked before any work begins.

    Attributes:
        cases: the cases.
        models: the models, in the order of the tables.
        baseline: label of the model that the others are tested against.
        anatomy: run PTX-Seg on truth and reconstructions.
        structures: label maps of heart and spine, None for none.
        assets: priors file, None for the shipped one.
        seed: of random choices.
        device: where films are projected and models compute.
        bank: names of the cases that models with a bank may use.
    """

    cases: CaseSet
    models: tuple[ModelChoice, ...]
    baseline: str
    anatomy: bool
    structures: StructureMaps | None
    assets: Path | None
    seed: int
    device: str
    bank: tuple[str, ...]


def plan_evaluation(
    dataset: str | os.PathLike[str],
    *,
    models: Sequence[str] = (),
    subset: str = "test",
    split: str | os.PathLike[str] | None = None,
    size: int | None = None,
    geometry: str | None = None,
    baseline: str | None = None,
    baselines: bool | None = None,
    anatomy: bool = True,
    structures: str | os.PathLike[str] | None = None,
    assets: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> EvaluationPlan:
    """Find cases and models and refuse what does not fit together, before any work. Arguments as for `evaluate`.

    Raises:
        InputError, ConfigError: as `evaluate`.
    """
    cases = find_case_set(dataset, default_size=DEFAULT_SIZE, subset=subset, split=split, size=size, geometry=geometry)
    if baselines is None:
        baselines = cases.dataset is not None or not models
    bank = bank_for(models, cases)
    chosen = choose_models(
        models, assets=assets, baselines=baseline_names() if baselines else (), bank=bank, device=device
    )
    if not chosen:
        raise InputError("give at least one --model, or leave --no-baselines out")
    labels = [choice.label for choice in chosen]
    if baseline == "default":
        baseline = DEFAULT_MODEL
    elif baseline is not None and baseline not in labels:
        labels_by_folder = {choice.model: choice.label for choice in chosen}
        baseline = labels_by_folder.get(str(Path(baseline).absolute()), baseline)
    if baseline is not None and baseline not in labels:
        raise InputError(
            f"--baseline {baseline}: is not among the evaluated models, {', '.join(labels)}; add --model {baseline}, "
            "or choose one of them"
        )
    if baseline is None:
        baseline = DEFAULT_MODEL if DEFAULT_MODEL in labels else labels[0]
    maps = None if structures is None else _structure_maps(structures, cases)
    return EvaluationPlan(
        cases, chosen, baseline, anatomy, maps, None if assets is None else Path(assets), seed, device,
        tuple(source.name for source in bank),
    )  # fmt: skip


def _structure_maps(path: str | os.PathLike[str], cases: CaseSet) -> StructureMaps:
    if cases.dataset is None:
        raise InputError(
            f"--structures {path}: label maps are put on the grid of a data set of `xrecon prepare`, and "
            f"{cases.folder} holds CT files; prepare them first, or leave --structures out"
        )
    maps = load_structure_maps(path)
    check_structure_maps(maps, cases.dataset)
    return maps


def check_machine(*, workers: int, scheduler: str | None, device: str) -> None:
    """Refuse a number of workers that nothing would obey, and a device that is not here.

    Raises:
        InputError: workers beside a scheduler, whose workers are its own, or an unusable device (on a scheduler's
            machines it is not looked for from here).
        MissingPartError: more than one worker without Dask.
    """
    if scheduler is None:
        usable_device(device)
    if workers > 1 and scheduler is not None:
        raise InputError(f"--workers {workers}: the scheduler {scheduler} has workers of its own; give one of the two")
    if workers > 1 and not dask_is_installed():
        raise MissingPartError(
            f"--workers {workers} needs Dask; install it with: pip install 'dask[distributed]', or leave --workers out"
        )
