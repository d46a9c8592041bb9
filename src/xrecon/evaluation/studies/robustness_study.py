"""How much worse does a model become when its films are not what it was told? One disturbance at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from xrecon.anatomy.body import body_mask
from xrecon.errors import InputError, XReconError
from xrecon.evaluation.case_set import CaseSet, find_case_set
from xrecon.evaluation.cases import CaseSource
from xrecon.evaluation.metrics.image import mae_hu, psnr_volumetric
from xrecon.evaluation.metrics.similarity import similarities
from xrecon.evaluation.models import ModelChoice, bank_for, choose_models
from xrecon.evaluation.plan import TRAIN_NOTE, check_machine
from xrecon.evaluation.store import ResultStore
from xrecon.evaluation.studies.disturbances import LEVELS, disturbed
from xrecon.evaluation.studies.robustness_summary import RobustnessFigures, summarise_robustness
from xrecon.jobs import gathered
from xrecon.records import RunRecord

DEFAULT_MODELS = ("atlas", "pca")
"""Models that are studied where none is named."""
DEFAULT_SIZE = 64
"""Voxels per edge where CT files are studied and nothing else is asked for."""


@dataclass(frozen=True)
class RobustnessPlan:
    """What is studied, checked before any work begins.

    Attributes:
        cases: the cases.
        models: the models, in the order of the tables.
        kinds: disturbances, see `LEVELS`.
        assets: priors file, None for the shipped one.
        seed: of the noise and of the bootstrap.
        device: where films are projected and models compute.
    """

    cases: CaseSet
    models: tuple[ModelChoice, ...]
    kinds: tuple[str, ...]
    assets: Path | None
    seed: int
    device: str


@dataclass(frozen=True)
class RobustnessJob:
    """One case: all disturbances, all models; travels to other processes."""

    source: CaseSource
    kinds: tuple[str, ...]
    models: tuple[ModelChoice, ...]
    store: Path
    assets: Path | None
    seed: int
    device: str = "cpu"


@dataclass(frozen=True)
class RobustnessReport:
    """The rows with their means, and what they were computed from.

    Attributes:
        rows: JSON values: case, model, kind, level, metrics.
        failures: what failed, by name.
        plan: what was studied.
        record: command, environment, seed, digests and settings.
    """

    rows: tuple[dict[str, Any], ...]
    failures: tuple[str, ...]
    plan: RobustnessPlan
    record: RunRecord

    @property
    def notes(self) -> list[str]:
        """What a reader should know."""
        count = len(self.plan.cases.sources)
        return [
            f"{count} cases; films are line integrals without scatter and noise before the disturbance.",
            *self.plan.cases.notes,
            *([TRAIN_NOTE] if self.plan.cases.subset == "train" else []),
        ]

    @cached_property
    def statistics(self) -> list[RobustnessFigures]:
        """Per model, disturbance and level, see `summarise_robustness`."""
        return summarise_robustness(self.rows, seed=self.plan.seed)

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """The content of summary.json."""
        return {
            **self.record.to_dict(),
            "notes": self.notes,
            "failures": list(self.failures),
            "results": [figures.to_dict() for figures in self.statistics],
        }


def plan_robustness_study(
    dataset: str | os.PathLike[str],
    *,
    models: Sequence[str] = DEFAULT_MODELS,
    subset: str = "test",
    split: str | os.PathLike[str] | None = None,
    kinds: Sequence[str] = tuple(LEVELS),
    limit: int | None = None,
    size: int | None = None,
    geometry: str | None = None,
    assets: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> RobustnessPlan:
    """Find cases and models, and refuse what does not fit together, before any work.

    Args:
        dataset: folder of a data set of `xrecon prepare`, or of CT files.
        models: names (`xrecon models list`) or folders of trained networks.
        subset, split, size, geometry: as for `find_case_set`.
        kinds: disturbances, keys of `LEVELS`.
        limit: only so many cases; None for all.
        assets: priors file; None for the shipped one.
        device: torch device of films and models.
        seed: of the noise and of the bootstrap.

    Raises:
        InputError: no cases, an unknown model or disturbance, or an option that does not apply.
        ConfigError: the split cannot be read.
    """
    unknown = [kind for kind in kinds if kind not in LEVELS]
    if unknown or not kinds:
        raise InputError(f"unknown disturbances {unknown}; choose from {', '.join(LEVELS)}")
    cases = find_case_set(dataset, default_size=DEFAULT_SIZE, subset=subset, split=split, size=size, geometry=geometry)
    chosen = choose_models(models, assets=assets, baselines=(), bank=bank_for(models, cases), device=device)
    folder = None if assets is None else Path(assets)
    return RobustnessPlan(cases.limited(limit), chosen, tuple(kinds), folder, seed, device)


def run_robustness_study(
    plan: RobustnessPlan,
    store: Path,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> RobustnessReport:
    """Disturb the films of every case, reconstruct and measure.

    Args:
        plan: see `plan_robustness_study`.
        store: folder of the results of single films; what it holds already is not computed again.
        workers: cases at a time on this machine (more than one needs Dask).
        scheduler: address of a Dask scheduler.
        progress: called with a line of text after each case.

    Raises:
        InputError: not a single result, workers beside a scheduler, or no scheduler answers.
        MissingPartError: more than one worker, or a scheduler, without Dask.
    """
    check_machine(workers=workers, scheduler=scheduler, device=plan.device)
    jobs = [
        RobustnessJob(source, plan.kinds, plan.models, Path(store), plan.assets, plan.seed, plan.device)
        for source in plan.cases.sources
    ]
    rows, failures = gathered(
        disturb_case, jobs, plan.cases.names, workers=workers, scheduler=scheduler, progress=progress
    )
    failures += [
        f"{row['case']}, {row['kind']} {row['level']:g}, {row['model']}: {row['failure']}"
        for row in rows
        if "failure" in row
    ]
    good = tuple(row for row in rows if "failure" not in row)
    if not good:
        raise InputError("nothing could be studied: " + "; ".join(failures[:5]))
    record = RunRecord(
        command="xrecon study robustness",
        seed=plan.seed,
        inputs={source.name: source.digest for source in plan.cases.sources},
        models={choice.label: choice.digest for choice in plan.models},
        settings={
            "subset": plan.cases.subset, "kinds": list(plan.kinds), "size": plan.cases.size, "device": plan.device
        },
    )  # fmt: skip
    return RobustnessReport(good, tuple(failures), plan, record)


def disturb_case(job: RobustnessJob) -> list[dict[str, Any]]:
    """All disturbances and models of one case, from the store where it has them."""
    store, source = ResultStore(job.store), job.source
    chest = source.open_with_line_integrals(device=job.device)
    films, truth = chest.films(chest.volume), chest.on_frame(chest.volume)
    body = body_mask(truth)
    rows = []
    for kind, level in [("none", 0.0), *((name, value) for name in job.kinds for value in LEVELS[name])]:
        for choice in job.models:
            key = {"case": source.name, "patient": source.patient, "model": choice.label, "kind": kind, "level": level}
            settings = {**key, "source": source.digest, "size": source.size, "digest": choice.digest, "seed": job.seed}
            if not source.is_prepared:
                settings |= {"geometry": source.geometry}

            def measured(kind: str = kind, level: float = level, choice: ModelChoice = choice) -> dict[str, Any]:
                changed = disturbed(films, truth, kind=kind, level=level, assets=job.assets, seed=job.seed)
                result = choice.run(changed, size=source.size, assets=job.assets, seed=job.seed, case=source).volume
                return {
                    "psnr_2500_db": psnr_volumetric(result.hu, truth.hu),
                    "ssim_unit_3d": similarities(result.hu, truth.hu)["ssim_unit_3d"],
                    "mae_body_hu": mae_hu(result.hu, truth.hu, mask=body),
                }

            name = f"{choice.label}/{source.name}-{kind}-{level:g}"
            try:
                rows.append({**key, **store.values(name, settings, measured)})
            except (XReconError, RuntimeError, MemoryError) as error:
                rows.append({**key, "failure": f"{type(error).__name__}: {error}"})
    return rows
