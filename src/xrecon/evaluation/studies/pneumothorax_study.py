"""Does a pneumothorax survive? Plant it in known CTs, film them, reconstruct, and look for it with PTX-Seg.

One job per patient: the healthy chest and every planted one go through every model, then through PTX-Seg. Controls
go the same way: the true CT (what PTX-Seg itself can see on this grid), the healthy CT (perfect but for the lesion),
a mean chest that saw no film, and the reconstruction of another patient's films.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from xrecon.errors import InputError
from xrecon.evaluation.case_set import CaseSet, find_case_set
from xrecon.evaluation.cases import FilmTaking, healthy_sources
from xrecon.evaluation.models import ModelChoice, bank_for, choose_models
from xrecon.evaluation.plan import TRAIN_NOTE, check_machine
from xrecon.evaluation.studies.pneumothorax_job import PneumothoraxJob, study_patient
from xrecon.evaluation.studies.pneumothorax_plan import DEFAULT_MECHANISMS, OTHER, SIZES, Plant, plan_plants
from xrecon.evaluation.studies.pneumothorax_summary import DETECT_ML, StudyFigures, summarise_study
from xrecon.jobs import gathered
from xrecon.records import RunRecord

_FLOOR_NOTE = (
    "PTX-Seg sees the true CT on the reconstruction's grid: its own misses and false alarms there are the floor."
)
DEFAULT_MODELS = ("atlas", "deform")
"""Models that are studied where none is named."""
STUDY_FILM = FilmTaking(pixels=256, physics="clinical")
"""Films of CT files where nothing else is asked for: 1.5 mm per pixel, as the film networks see them."""
DEFAULT_SIZE = 96
"""Voxels per edge where CT files are studied and nothing else is asked for."""


@dataclass(frozen=True)
class PneumothoraxPlan:
    """What is studied, checked before any work begins.

    Attributes:
        cases: chests in which one can plant.
        plants: per case: the healthy chest, then every pneumothorax.
        models: the models, in the order of the tables.
        sizes: planted occupancies of the side.
        repeats: plants of each size per patient.
        detect_ml: air that counts as found, mL.
        known_healthy: cases that were taken although free air was found in them.
        assets: priors file, None for the shipped one.
        seed: of all random choices.
        device: where films are projected and models compute.
        notes: who was left out or taken in spite of what was found.
    """

    cases: CaseSet
    plants: tuple[tuple[Plant, ...], ...]
    models: tuple[ModelChoice, ...]
    sizes: tuple[float, ...]
    repeats: int
    detect_ml: float
    known_healthy: tuple[str, ...]
    assets: Path | None
    seed: int
    device: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class StudyResults:
    """Rows of JSON values, one per patient, plant and model or control; and what failed, by name."""

    rows: tuple[dict[str, Any], ...]
    failures: tuple[str, ...]


@dataclass(frozen=True)
class PneumothoraxReport:
    """The rows with their statistics, and what they were computed from."""

    results: StudyResults
    plan: PneumothoraxPlan
    record: RunRecord

    @property
    def rows(self) -> tuple[dict[str, Any], ...]:
        """One per patient, plant and model or control: JSON values."""
        return self.results.rows

    @property
    def failures(self) -> tuple[str, ...]:
        """What failed, by name."""
        return self.results.failures

    @cached_property
    def statistics(self) -> dict[str, StudyFigures]:
        """Model or control -> figures, see `summarise_study`."""
        return summarise_study(self.results.rows, detect_ml=self.plan.detect_ml, seed=self.plan.seed)

    @property
    def notes(self) -> list[str]:
        """What a reader should know."""
        return [
            *self.plan.notes,
            f"The pneumothoraces are planted, not real; films: {_films_in_words(self.plan.cases)}.",
            _FLOOR_NOTE,
            *([TRAIN_NOTE] if self.plan.cases.subset == "train" else []),
        ]

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """The content of summary.json."""
        return {
            **self.record.to_dict(),
            "notes": self.notes,
            "detect_ml": self.plan.detect_ml,
            "failures": self.results.failures,
            "plants": dict(zip(self.plan.cases.names, self.plan.plants, strict=True)),
            "results": self.statistics,
        }


def _films_in_words(cases: CaseSet) -> str:
    """How the films were taken."""
    film = cases.sources[0].film
    if cases.dataset is not None:
        return "those of the data set, changed by the line integrals of what was planted"
    if film.physics == "linear":
        return f"line integrals of {film.pixels} pixels without scatter and noise"
    return f"simulated with {film.pixels} pixels and the {film.physics} physics (beam, scatter, noise, display)"


def plan_pneumothorax_study(
    dataset: str | os.PathLike[str],
    *,
    models: Sequence[str] = DEFAULT_MODELS,
    subset: str = "test",
    split: str | os.PathLike[str] | None = None,
    sizes: Sequence[float] = SIZES,
    repeats: int = 1,
    detect_ml: float = DETECT_ML,
    known_healthy: Sequence[str] = (),
    limit: int | None = None,
    size: int | None = None,
    geometry: str | None = None,
    assets: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    seed: int = 0,
    mechanisms: Sequence[str] = DEFAULT_MECHANISMS,
    film: FilmTaking | None = None,
    film_networks: str | os.PathLike[str] = "default",
) -> PneumothoraxPlan:
    """Find chests and models, and refuse what does not fit together, before any work.

    Args:
        dataset: folder of a data set of `xrecon prepare`, or of CT files.
        models: names (`xrecon models list`) or folders of trained networks.
        subset, split, size, geometry: as for `find_case_set`.
        sizes: planted occupancies of the side, 0.01..0.9.
        repeats: plants of each size per patient.
        detect_ml: air that counts as found, mL.
        known_healthy: cases of a data set that a reader knows to be healthy, whatever `xrecon prepare` found in them.
        limit: only so many patients; None for all.
        assets: priors file; None for the shipped one.
        device: torch device of films and models.
        seed: of all random choices.
        mechanisms: of planting, which take turns (`xrecon.planting.pattern.MECHANISMS`).
        film: how films of CT files are taken; default: 256 pixels of 1.5 mm, on a clinical stand. A data set has its
            films already.
        film_networks: what models with "+films" ask: "default" (the shipped ones), or a folder.

    Raises:
        InputError: no cases, an unknown model, sizes out of range, or an option that does not apply.
        ConfigError: the split cannot be read.
    """
    cases = find_case_set(dataset, default_size=DEFAULT_SIZE, subset=subset, split=split, size=size, geometry=geometry)
    if film is not None and cases.dataset is not None:
        raise InputError("a data set of `xrecon prepare` has films already: leave the settings of the films out")
    cases = replace(cases, sources=tuple(replace(source, film=film or STUDY_FILM) for source in cases.sources))
    bank = bank_for(models, cases)
    chosen = choose_models(models, assets=assets, baselines=(), bank=bank, device=device, film_networks=film_networks)
    cases, notes = _healthy(cases, known_healthy)
    cases = cases.limited(limit)
    plants = plan_plants(len(cases.sources), sizes=sizes, repeats=repeats, mechanisms=mechanisms, seed=seed)
    return PneumothoraxPlan(
        cases, plants, chosen, tuple(sizes), repeats, detect_ml, tuple(known_healthy),
        None if assets is None else Path(assets), seed, device, notes,
    )  # fmt: skip


def _healthy(cases: CaseSet, exempt: Sequence[str]) -> tuple[CaseSet, tuple[str, ...]]:
    """The chests in which one can plant, and in words who was left out or taken in spite of what was found."""
    if cases.dataset is None:
        if exempt:
            raise InputError("--known-healthy is for a data set of `xrecon prepare`; of CT files none is left out")
        return cases, cases.notes
    healthy = replace(cases, sources=healthy_sources(cases.dataset, exempt=exempt))
    left_out = [name for name in cases.names if name not in healthy.names]
    notes = []
    if left_out:
        notes.append(f"Left out, because `xrecon prepare` found free pleural air in them: {', '.join(left_out)}.")
    if exempt:
        notes.append(f"Taken as healthy on a reader's word, whatever `xrecon prepare` found: {', '.join(exempt)}.")
    return healthy, tuple(notes)


def run_pneumothorax_study(
    plan: PneumothoraxPlan,
    store: Path,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> PneumothoraxReport:
    """Run the whole chain.

    Args:
        plan: see `plan_pneumothorax_study`.
        store: folder of the results of single chests; what it holds already is not computed again.
        workers: patients at a time on this machine (more than one needs Dask).
        scheduler: address of a Dask scheduler.
        progress: called with a line of text after each patient.

    Raises:
        InputError: not a single result, workers beside a scheduler, or no scheduler answers.
        MissingPartError: more than one worker, or a scheduler, without Dask.
    """
    check_machine(workers=workers, scheduler=scheduler, device=plan.device)
    jobs = [
        PneumothoraxJob(source, plants, plan.models, Path(store), plan.assets, plan.seed, plan.device)
        for source, plants in zip(plan.cases.sources, plan.plants, strict=True)
    ]
    rows, failures = gathered(
        study_patient, jobs, plan.cases.names, workers=workers, scheduler=scheduler, progress=progress
    )
    failures += [
        f"{row['case']}, plant {row['plant']}, {row['model']}: {row['failure']}" for row in rows if "failure" in row
    ]
    good = [row for row in rows if "failure" not in row]
    if not good:
        raise InputError("nothing could be studied: " + "; ".join(failures[:5]))
    rows = [*good, *_of_other_patients(good, [choice.label for choice in plan.models])]
    return PneumothoraxReport(StudyResults(tuple(rows), tuple(failures)), plan, _record(plan))


def _record(plan: PneumothoraxPlan) -> RunRecord:
    settings = {
        "subset": plan.cases.subset,
        "sizes": ",".join(f"{size:g}" for size in plan.sizes),
        "repeats": plan.repeats,
        "detect_ml": plan.detect_ml,
        "size": plan.cases.size,
        "geometry": plan.cases.geometry,
        "mechanisms": sorted({plant.mechanism for plants in plan.plants for plant in plants[1:]}),
        "film": asdict(plan.cases.sources[0].film),
        "known_healthy": list(plan.known_healthy),
        "device": plan.device,
    }
    return RunRecord(
        command="xrecon study pneumothorax",
        seed=plan.seed,
        inputs={source.name: source.digest for source in plan.cases.sources},
        models={choice.label: choice.digest for choice in plan.models},
        settings=settings,
    )


def _of_other_patients(rows: Sequence[dict[str, Any]], models: Sequence[str]) -> list[dict[str, Any]]:
    """The truth of every patient beside what the model made of the next patient's films with another plant."""
    patients = list(dict.fromkeys(row["patient"] for row in rows))
    if len(patients) < 2:
        return []
    by_key = {(row["patient"], row["plant"], row["model"]): row for row in rows}
    controls = []
    for row in rows:
        if row["model"] not in models:
            continue
        following = patients[(patients.index(row["patient"]) + 1) % len(patients)]
        plants = sorted(key[1] for key in by_key if key[0] == following and key[2] == row["model"])
        if not plants:
            continue
        other = by_key[following, plants[(row["plant"] + 1) % len(plants)], row["model"]]
        truth = {key: row[key] for key in ("case", "patient", "plant", "asked", "side", "pattern", "mechanism", "true")}
        controls.append(
            {
                **truth,
                "model": OTHER + row["model"],
                "found": other["found"],
                "seconds": 0.0,
                **({"films": other["films"]} if "films" in other else {}),
            }
        )
    return controls
