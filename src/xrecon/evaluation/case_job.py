"""All models on one case: the piece of an evaluation that travels to other processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from xrecon.data.dataset import PreparedCase
from xrecon.errors import XReconError
from xrecon.evaluation.cases import CaseSource, KnownCase, beams_of, known_case
from xrecon.evaluation.metrics.anatomy import SegmentedVolume, anatomy_metrics, find_anatomy
from xrecon.evaluation.metrics.catalogue import full_metrics
from xrecon.evaluation.metrics.structures import StructureMaps, structure_masks, structure_metrics
from xrecon.evaluation.models import ModelChoice
from xrecon.evaluation.results import CaseFailure, CaseOutcome
from xrecon.evaluation.store import ResultStore
from xrecon.inference.result import Reconstruction
from xrecon.volume import Volume

Preview = Callable[[Reconstruction, Volume], bytes]
"""Draws a reconstruction beside the truth as a PNG; importable by name, because it travels to other processes."""


@dataclass(frozen=True)
class EvaluationJob:
    """One case and all models; travels to other processes.

    Attributes:
        source: the case.
        models: what to run.
        store: folder of the results.
        anatomy, assets, seed, structures, device: as in `EvaluationPlan`.
        preview: draws the reconstruction of the last model; None for no picture.
    """

    source: CaseSource
    models: tuple[ModelChoice, ...]
    store: Path
    anatomy: bool = True
    assets: Path | None = None
    seed: int = 0
    structures: StructureMaps | None = None
    device: str = "cpu"
    preview: Preview | None = None


def evaluate_case(job: EvaluationJob) -> list[CaseOutcome | CaseFailure]:
    """All models on one case, from the store where it has them."""
    case = _Case(job)
    outcomes: list[CaseOutcome | CaseFailure] = []
    for choice in job.models:
        try:
            outcomes.append(case.outcome(choice))
        except (XReconError, RuntimeError, MemoryError) as error:
            # One model that fails on one case must not cost the others; it is named and counted in no mean.
            outcomes.append(CaseFailure(job.source.name, choice.label, f"{type(error).__name__}: {error}"))
    return outcomes


def preview_path(job: EvaluationJob) -> Path:
    """Where the picture of the last model's reconstruction lies, if it could be drawn."""
    return _Case(job).preview_path()


class _Case:
    """One case of a job: opened, and its anatomy found, when first needed. A run that goes on needs neither."""

    def __init__(self, job: EvaluationJob) -> None:
        self._job = job
        self._store = ResultStore(job.store)
        maps, name = job.structures, job.source.name
        self._maps = maps if maps is not None and name in maps.maps else None

    @cached_property
    def _case(self) -> KnownCase:
        return known_case(self._job.source.name, self._job.source.open(device=self._job.device))

    @cached_property
    def _true_anatomy(self) -> SegmentedVolume:
        return find_anatomy(self._case.truth)

    def preview_path(self) -> Path:
        """Where the picture of the last model's reconstruction lies."""
        choice = self._job.models[-1]
        return self._store.path(self._name(choice), self._settings(choice), ".png")

    def outcome(self, choice: ModelChoice) -> CaseOutcome:
        """The stored result, or a new one. Raises as `ModelChoice.run` and the metrics."""
        has_picture = self._job.preview is not None and choice == self._job.models[-1]
        if has_picture and not self.preview_path().is_file():
            self._store.forget(self._name(choice), self._settings(choice), ".json")
        values = self._store.values(
            self._name(choice), self._settings(choice), lambda: self._measured(choice, has_picture=has_picture)
        )
        return CaseOutcome(**values)

    def _name(self, choice: ModelChoice) -> str:
        return f"{choice.label}/{self._job.source.name}"

    def _settings(self, choice: ModelChoice) -> dict[str, Any]:
        """What a stored result depends on."""
        job, source = self._job, self._job.source
        settings: dict[str, Any] = {
            "case": source.digest,
            "model": choice.digest,
            "size": source.size,
            "anatomy": job.anatomy,
            "seed": job.seed,
        }
        if not source.is_prepared:
            settings |= {"geometry": source.geometry}
        return settings if self._maps is None else {**settings, "structures": self._maps.digest(source.name)}

    def _measured(self, choice: ModelChoice, *, has_picture: bool) -> dict[str, Any]:
        """Reconstruct and measure; JSON values."""
        job, case = self._job, self._case
        started = time.perf_counter()
        result = choice.run(case.films, size=job.source.size, assets=job.assets, seed=job.seed, case=job.source)
        seconds = time.perf_counter() - started
        metrics, details = self._errors(result)
        name, settings = self._name(choice), self._settings(choice)
        self._store.arrays(name, settings, lambda: middle_planes(result.volume, case.truth))
        if has_picture and job.preview is not None:
            self._store.write(name, settings, ".png", job.preview(result, case.truth))
        return {
            "case": job.source.name,
            "patient": job.source.patient,
            "model": choice.label,
            "metrics": metrics,
            "seconds": seconds,
            "details": details,
            "planes": str(self._store.path(name, settings, ".npz").relative_to(job.store)),
        }

    def _errors(self, result: Reconstruction) -> tuple[dict[str, float | None], dict[str, Any]]:
        """Metrics of a reconstruction, and the details beside them."""
        case, volume = self._case, result.volume
        metrics = full_metrics(volume, case.truth, body=case.body, beams=beams_of(case.films))
        details: dict[str, Any] = {
            "film_residuals": {view: [misfit.before, misfit.after] for view, misfit in result.residual.items()},
            "notes": list(result.provenance.get("notes", ())),
            "model_sha256": result.provenance.get("sha256"),
        }
        if self._job.anatomy:
            estimate, truth = find_anatomy(volume), self._true_anatomy
            metrics.update(
                anatomy_metrics(volume, case.truth, estimate_anatomy=estimate, true_anatomy=truth, body=case.body)
            )
            for key, anatomy in (("found", estimate), ("true", truth)):
                details[key] = {**anatomy.volumes().to_dict(), **anatomy.decision().to_dict()}
        if self._maps is not None and isinstance(self._job.source.place, PreparedCase):
            masks = structure_masks(self._maps, self._job.source.name, self._job.source.place.load())
            metrics.update(structure_metrics(volume, case.truth, masks, self._maps.rules()))
        return metrics, details


def middle_planes(estimate: Volume, truth: Volume) -> dict[str, np.ndarray[Any, Any]]:
    """Coronal, sagittal and axial plane through the middle of both volumes, int16 HU."""
    d, h, w = (n // 2 for n in truth.shape)
    cuts: dict[str, Any] = {"coronal": np.s_[:, h, :], "sagittal": np.s_[:, :, w], "axial": np.s_[d, :, :]}
    return {
        f"{kind}_{name}": np.clip(np.rint(volume.hu[cut]), -32768, 32767).astype(np.int16)
        for kind, volume in (("truth", truth), ("estimate", estimate))
        for name, cut in cuts.items()
    }
