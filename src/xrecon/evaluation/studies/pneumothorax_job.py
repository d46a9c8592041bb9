"""One patient of the pneumothorax study: plant, film, reconstruct with every model, and look with PTX-Seg."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xrecon.errors import XReconError
from xrecon.evaluation.cases import CaseSource, StudyChest
from xrecon.evaluation.metrics.anatomy import SegmentedVolume, find_anatomy
from xrecon.evaluation.metrics.mask_agreement import compare_masks, region
from xrecon.evaluation.models import ModelChoice
from xrecon.evaluation.store import ResultStore
from xrecon.evaluation.studies.pneumothorax_plan import BLIND, HEALTHY_CT, TRUE_CT, Plant
from xrecon.films.film_width import film_width_mm
from xrecon.films.thickness_maps import SIDES
from xrecon.geometry import FRAME_MM, ConeBeam
from xrecon.inference.film_assessment import FilmAssessment
from xrecon.io.guards.files import sha256_of
from xrecon.planting.pneumothorax import plant_pneumothorax
from xrecon.planting.truth import Truth
from xrecon.priors.asset import load_priors
from xrecon.priors.deformation import mean_chest
from xrecon.projector.operator import project
from xrecon.segmentation import Label, Segmentation, Side
from xrecon.volume import Volume
from xrecon.warp import Grid

FILM_VALUES = ("right_probability", "left_probability", "percent", "low", "high", "right_air_ml", "left_air_ml")
"""What the film networks say of a pair: probability of free air by side, occupancy of the whole chest in percent with
the ends of its interval, free air by side in mL."""


@dataclass(frozen=True)
class PneumothoraxJob:
    """One patient: all plants, all models; travels to other processes.

    Attributes:
        source: the chest.
        plants: the healthy chest first, then every pneumothorax.
        models: what to run.
        store: folder of the results.
        assets: priors file, None for the shipped one.
        seed: of random choices.
        device: where films are projected.
    """

    source: CaseSource
    plants: tuple[Plant, ...]
    models: tuple[ModelChoice, ...]
    store: Path
    assets: Path | None
    seed: int
    device: str = "cpu"


def study_patient(job: PneumothoraxJob) -> list[dict[str, Any]]:
    """All plants and models of one patient: JSON values, from the store where it has them."""
    patient = _Patient(job)
    choices: tuple[ModelChoice | str, ...] = (TRUE_CT, HEALTHY_CT, BLIND, *job.models)
    rows: list[dict[str, Any]] = []
    for plant in job.plants:
        for choice in choices:
            try:
                rows.append(patient.row(plant, choice))
            except (XReconError, RuntimeError, MemoryError) as error:
                key = {"case": job.source.name, "patient": job.source.patient, "plant": plant.index}
                rows.append({**key, "model": _label(choice), "failure": f"{type(error).__name__}: {error}"})
    return rows


def _label(choice: ModelChoice | str) -> str:
    """A control is a string, which is its label."""
    return choice if isinstance(choice, str) else choice.label


class _Patient:
    """The chest and its planted versions, made when first needed: a study that goes on needs few of them."""

    def __init__(self, job: PneumothoraxJob) -> None:
        self._job = job
        self._store = ResultStore(job.store)
        self._versions: dict[int, tuple[Volume, Truth | None]] = {}
        self._controls: dict[str, SegmentedVolume] = {}
        self._widths: dict[int, float] = {}

    @cached_property
    def _chest(self) -> StudyChest:
        return self._job.source.open_with_line_integrals(device=self._job.device)

    def row(self, plant: Plant, choice: ModelChoice | str) -> dict[str, Any]:
        """The stored row of a plant and a model or control, or a new one."""
        source, label = self._job.source, _label(choice)
        settings = {**self._settings(plant), "model": self._digest(choice), "label": label}
        place = f"{label.replace(': ', '-').replace(' ', '-')}/{source.name}-{plant.index}"
        key = {
            "case": source.name,
            "patient": source.patient,
            "plant": plant.index,
            "asked": plant.occupancy,
            "side": plant.side,
            "pattern": plant.pattern,
            "mechanism": plant.mechanism,
            "model": label,
        }
        return self._store.values(place, settings, lambda: {**key, **self._measured(plant, choice)})

    def _settings(self, plant: Plant) -> dict[str, Any]:
        """What a stored result depends on beside the model."""
        source = self._job.source
        return {
            "source": source.digest,
            "size": source.size,
            "geometry": source.geometry,
            "film": asdict(source.film),
            "plant": asdict(plant),
            "seed": self._job.seed,
        }

    def _digest(self, choice: ModelChoice | str) -> str:
        """What tells one model from another; the mean chest among the controls is that of the priors."""
        if not isinstance(choice, str):
            return choice.digest
        return f"control {sha256_of(self._job.assets)}" if choice == BLIND and self._job.assets else "control"

    def _version(self, plant: Plant) -> tuple[Volume, Truth | None]:
        """The CT with the plant and its truth on the planting grid; the healthy CT and None for no plant."""
        if plant.occupancy == 0:
            return self._chest.volume, None
        if plant.index not in self._versions:
            planted = plant_pneumothorax(
                self._chest.volume,
                side=plant.side,
                occupancy=plant.occupancy,
                seed=plant.seed,
                pattern=plant.pattern,
                mechanism=plant.mechanism,
            )
            self._versions = {plant.index: planted}  # only the last one: each holds a whole CT
        return self._versions[plant.index]

    def _measured(self, plant: Plant, choice: ModelChoice | str) -> dict[str, Any]:
        """Reconstruct, look for air, and compare with the truth; JSON values."""
        sick, truth = self._version(plant)
        started = time.perf_counter()
        estimate, said = self._estimate(plant, choice)
        seconds = time.perf_counter() - started
        anatomy = self._anatomy(estimate, choice)
        row: dict[str, Any] = {"seconds": seconds, "found": anatomy.volumes().to_dict(), **anatomy.decision().to_dict()}
        if said is not None:
            row["films"] = said
        if truth is None:
            return {**row, "true": {"occupancy": 0.0, "whole_chest": 0.0, "air_ml": 0.0, "width_mm": 0.0}}
        row["true"] = {
            "occupancy": 100 * truth.occupancy.of(plant.side),
            "whole_chest": 100 * truth.occupancy.whole_chest,
            "air_ml": truth.volumes_ml.air,
            "width_mm": self._width_mm(plant, truth),
        }
        labels = self._chest.truth_on_frame(truth)
        row["air_dice"] = _air_dice(anatomy, labels)
        healthy, _ = self._estimate(self._job.plants[0], choice)
        true_change = self._chest.on_frame(sick).hu - self._chest.on_frame(self._chest.volume).hu
        row["change"] = change_of_density(estimate.hu - healthy.hu, true_change, labels, side=plant.side)
        return row

    def _anatomy(self, estimate: Volume, choice: ModelChoice | str) -> SegmentedVolume:
        """PTX-Seg on an estimate; once for the controls that look the same for every plant."""
        if choice not in (HEALTHY_CT, BLIND):
            return find_anatomy(estimate)
        if str(choice) not in self._controls:
            self._controls[str(choice)] = find_anatomy(estimate)
        return self._controls[str(choice)]

    def _width_mm(self, plant: Plant, truth: Truth) -> float:
        """Largest inscribed width of the planted air on the PA film, mm."""
        if plant.index not in self._widths:
            labels = self._chest.truth_on_frame(truth)
            size, spacing = labels.shape[0], labels.spacing_mm[0]
            view = ConeBeam.preset(self._job.source.geometry, "pa", size=size)
            lung = Label.RIGHT_LUNG if plant.side == "right" else Label.LEFT_LUNG
            masks = np.stack([labels.labels == label for label in (Label.AIR, lung)])[:, None].astype(np.float32)
            air_mm, lung_mm = project(torch.from_numpy(masks), spacing, (view,))[:, 0].numpy()
            self._widths[plant.index] = film_width_mm(air_mm, lung_mm, view)
        return self._widths[plant.index]

    def _estimate(self, plant: Plant, choice: ModelChoice | str) -> tuple[Volume, dict[str, float] | None]:
        """What stands for the reconstruction: of a model (it stays in the store), or a control.

        With it, of models that ask the film networks, what these say.
        """
        job, size = self._job, self._job.source.size
        spacing = FRAME_MM / size
        if choice == BLIND:
            grid = Grid((size, size, size), spacing)
            with torch.no_grad():
                hu = mean_chest(load_priors(job.assets).prior).hu(grid).numpy()
            return Volume.centred(hu.astype(np.float32), (spacing,) * 3, synthetic=True), None
        if isinstance(choice, str):
            volume = self._version(plant)[0] if choice == TRUE_CT else self._chest.volume
            return self._chest.on_frame(volume), None

        def reconstructed() -> dict[str, np.ndarray[Any, Any]]:
            films = self._chest.films(self._version(plant)[0], seed=plant.seed + plant.index)
            result = choice.run(films, size=size, assets=job.assets, seed=job.seed, case=job.source)
            arrays: dict[str, np.ndarray[Any, Any]] = {
                "hu": np.clip(np.rint(result.volume.hu), -32768, 32767).astype(np.int16)
            }
            if result.pneumothorax is not None:
                arrays["films"] = _film_values(result.pneumothorax.answer.assessment)
            return arrays

        settings = {**self._settings(plant), "model": choice.digest}
        name = f"volumes/{choice.label}/{job.source.name}-{plant.index}"
        stored = self._store.arrays(name, settings, reconstructed)
        volume = Volume.centred(stored["hu"].astype(np.float32), (spacing,) * 3, synthetic=True)
        said = stored.get("films")
        return volume, None if said is None else dict(zip(FILM_VALUES, map(float, said), strict=True))


def _film_values(assessment: FilmAssessment) -> NDArray[np.float64]:
    """`FILM_VALUES` of an assessment; NaN for what a missing calibration leaves open."""
    sides = [assessment.sides[name] for name in SIDES]
    whole = assessment.whole_chest
    values = [side.probability for side in sides]
    values += [None] * 3 if whole is None else [whole.percent, whole.low, whole.high]
    values += [side.air_ml for side in sides]
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _air_dice(anatomy: SegmentedVolume, truth: Segmentation) -> float | None:
    if anatomy.segmentation is None:
        return None
    masks = region(anatomy.segmentation, "air"), region(truth, "air")
    return compare_masks(*masks, spacing_mm=truth.spacing_mm).dice


def change_of_density(
    estimated: NDArray[np.floating[Any]], true: NDArray[np.floating[Any]], labels: Segmentation, *, side: str
) -> dict[str, float | None]:
    """Mean change of HU by the plant, in the true air and in its mirror image in the other lung.

    Args:
        estimated: reconstruction with minus reconstruction without the plant, HU [D, H, W].
        true: the same of the CT.
        labels: truth on the same grid.
        side: of the plant.

    Returns:
        `true` and `found` (of the reconstruction) in the air, `mirror_true` and `mirror_found` in the mirrored region,
        HU; None where the region holds no voxel. A model that knows where the air is changes only the first.
    """
    planted, other = (Side.RIGHT, Label.LEFT_LUNG) if side == "right" else (Side.LEFT, Label.RIGHT_LUNG)
    air = labels.air_side == planted
    mirror = air[..., ::-1] & (labels.labels == other)
    values: dict[str, float | None] = {}
    for name, mask in (("", air), ("mirror_", mirror)):
        for word, change in (("true", true), ("found", estimated)):
            values[name + word] = float(change[mask].mean()) if mask.any() else None
    return values
