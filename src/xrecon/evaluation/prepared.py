"""Every model on every case of a prepared data set: one job per case, results kept on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xrecon.data.case_file import CaseData
from xrecon.data.dataset import PreparedCase, PreparedDataset
from xrecon.errors import InputError, XReconError
from xrecon.evaluation.metrics.anatomy import SegmentedVolume, anatomy_metrics, find_anatomy
from xrecon.evaluation.metrics.catalogue import full_metrics
from xrecon.evaluation.metrics.structures import StructureMaps, check_structure_maps, structure_masks, structure_metrics
from xrecon.evaluation.models import ModelChoice
from xrecon.evaluation.store import ResultStore
from xrecon.evaluation.tables import PerCase
from xrecon.jobs import gathered
from xrecon.volume import Volume


@dataclass(frozen=True)
class EvaluationJob:
    """One case and all models; travels to other processes.

    Attributes:
        case: the prepared case.
        models: what to run.
        size: voxels per edge of the data set.
        store: folder of the results.
        anatomy: run PTX-Seg on truth and reconstructions.
        assets: priors file, None for the shipped one.
        seed: of random choices.
        structures: label maps of heart and spine, None for none.
    """

    case: PreparedCase
    models: tuple[ModelChoice, ...]
    size: int
    store: Path
    anatomy: bool
    assets: Path | None
    seed: int
    structures: StructureMaps | None = None


@dataclass(frozen=True)
class DatasetResults:
    """What `evaluate_dataset` found.

    Attributes:
        rows: one per case and model that worked, in the order of the data set.
        details: (case, model) -> what does not fit a table: film residuals, volumes of both segmentations, flags.
        failures: "case, model: reason" of those that did not work; they are in no mean.
        planes: (case, model) -> file with the middle planes of truth and estimate, HU.
    """

    rows: tuple[PerCase, ...]
    details: dict[tuple[str, str], dict[str, Any]]
    failures: tuple[str, ...]
    planes: dict[tuple[str, str], Path]


def evaluate_dataset(
    dataset: PreparedDataset,
    models: Sequence[ModelChoice],
    store: Path,
    *,
    anatomy: bool = True,
    assets: Path | None = None,
    seed: int = 0,
    structures: StructureMaps | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> DatasetResults:
    """Reconstruct every case from its films with every model, and measure.

    Args:
        dataset: one subset of a prepared data set.
        models: see `choose_models`.
        store: folder of the results of single cases; what it holds already is not computed again.
        anatomy: also run PTX-Seg on truth and reconstructions.
        assets: priors file; None for the shipped one.
        seed: of random choices.
        structures: label maps of some of the cases; None leaves heart and spine out.
        workers: processes on this machine (more than one needs Dask).
        scheduler: address of a Dask scheduler.
        progress: called with a line of text after each case.

    Raises:
        InputError: no model, a label map that does not fit, or not a single result.
        MissingPartError: a scheduler without Dask.
    """
    if not models:
        raise InputError("give at least one model to evaluate")
    if structures is not None:
        check_structure_maps(structures, dataset)
    jobs = [
        EvaluationJob(case, tuple(models), dataset.size, Path(store), anatomy, assets, seed, structures)
        for case in dataset.cases
    ]
    done, failures = gathered(
        evaluate_prepared_case,
        jobs,
        [case.name for case in dataset.cases],
        workers=workers,
        scheduler=scheduler,
        progress=progress,
    )
    rows, details, planes = [], {}, {}
    for values in done:
        key = values["case"], values["model"]
        if "failure" in values:
            failures.append(f"{key[0]}, {key[1]}: {values['failure']}")
            continue
        rows.append(PerCase(*key, values["metrics"], values["seconds"], patient=values["patient"]))
        details[key] = values["details"]
        planes[key] = Path(store) / values["planes"]
    if not rows:
        raise InputError("nothing could be evaluated: " + "; ".join(failures[:5]))
    return DatasetResults(tuple(rows), details, tuple(failures), planes)


def centred_truth(data: CaseData) -> Volume:
    """The CT of a case in the frame's own coordinates, as its films see it: films know no scanner."""
    return Volume.centred(data.ct.astype(np.float32), (data.spacing_mm,) * 3)


def evaluate_prepared_case(job: EvaluationJob) -> list[dict[str, Any]]:
    """All models on one case: JSON values, from the store where it has them."""
    store = ResultStore(job.store)
    data = job.case.load()
    truth, body = centred_truth(data), data.body > 0
    true_anatomy: list[SegmentedVolume] = []  # PTX-Seg on the truth, run when first needed
    maps = job.structures if job.structures is not None and job.case.name in job.structures.maps else None

    def measure(choice: ModelChoice, name: str) -> dict[str, Any]:
        started = time.perf_counter()
        result = choice.run(data.films(), size=job.size, assets=job.assets, seed=job.seed)
        seconds = time.perf_counter() - started
        metrics = full_metrics(result.volume, truth, body=body, beams=data.beams)
        details: dict[str, Any] = {
            "film_residuals": {view: [one.before, one.after] for view, one in result.residual.items()},
            "notes": list(result.provenance.get("notes", ())),
            "model_sha256": result.provenance.get("sha256"),
        }
        if job.anatomy:
            if not true_anatomy:
                true_anatomy.append(find_anatomy(truth))
            pair = {"found": find_anatomy(result.volume), "true": true_anatomy[0]}
            metrics.update(
                anatomy_metrics(
                    result.volume, truth, estimate_anatomy=pair["found"], true_anatomy=pair["true"], body=body
                )
            )
            for key, anatomy in pair.items():
                details[key] = {**anatomy.volumes().to_dict(), **anatomy.decision().to_dict()}
        if maps is not None:
            masks = structure_masks(maps, job.case.name, data)
            metrics.update(structure_metrics(result.volume, truth, masks, maps.rules()))
        planes = store.path(name, settings_of(choice), ".npz")
        store.arrays(name, settings_of(choice), lambda: middle_planes(result.volume, truth))
        return {
            "case": job.case.name,
            "patient": job.case.patient,
            "model": choice.label,
            "metrics": metrics,
            "seconds": seconds,
            "details": details,
            "planes": str(planes.relative_to(job.store)),
        }

    def settings_of(choice: ModelChoice) -> dict[str, Any]:
        settings = {
            "case": job.case.record.sha256,
            "model": choice.digest,
            "size": job.size,
            "anatomy": job.anatomy,
            "seed": job.seed,
        }
        return settings if maps is None else {**settings, "structures": maps.digest(job.case.name)}

    rows = []
    for choice in job.models:
        name = f"{choice.label}/{job.case.name}"
        try:
            rows.append(store.values(name, settings_of(choice), lambda c=choice, n=name: measure(c, n)))  # type: ignore[misc]
        except (XReconError, RuntimeError, MemoryError) as error:
            # One model that fails on one case must not cost the others; it is named and counted in no mean.
            rows.append({"case": job.case.name, "model": choice.label, "failure": f"{type(error).__name__}: {error}"})
    return rows


def middle_planes(estimate: Volume, truth: Volume) -> dict[str, np.ndarray[Any, Any]]:
    """Coronal, sagittal and axial plane through the middle of both volumes, int16 HU."""
    d, h, w = (n // 2 for n in truth.shape)
    cuts: dict[str, Any] = {"coronal": np.s_[:, h, :], "sagittal": np.s_[:, :, w], "axial": np.s_[d, :, :]}
    return {
        f"{kind}_{name}": np.clip(np.rint(volume.hu[cut]), -32768, 32767).astype(np.int16)
        for kind, volume in (("truth", truth), ("estimate", estimate))
        for name, cut in cuts.items()
    }
