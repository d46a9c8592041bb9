"""Does a pneumothorax survive? Plant it in known CTs, film them, reconstruct, and look for it with PTX-Seg.

One job per patient: the healthy chest and every planted one go through every model, then through PTX-Seg. Controls
go the same way: the true CT (what PTX-Seg itself can see on this grid), the healthy CT (perfect but for the lesion),
a mean chest that saw no film, and the reconstruction of another patient's films.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xrecon.errors import InputError, XReconError
from xrecon.evaluation.cases import Chest, ChestSource
from xrecon.evaluation.metrics.anatomy import SegmentedVolume, find_anatomy
from xrecon.evaluation.metrics.mask_agreement import compare_masks, region
from xrecon.evaluation.models import ModelChoice
from xrecon.evaluation.store import ResultStore
from xrecon.geometry import FRAME_MM
from xrecon.jobs import gathered
from xrecon.planting.pneumothorax import plant_pneumothorax
from xrecon.planting.truth import Truth
from xrecon.priors.asset import load_priors
from xrecon.priors.deformation import mean_chest
from xrecon.priors.warp import Grid
from xrecon.segmentation import Label, Segmentation, Side
from xrecon.volume import Volume

TRUE_CT, HEALTHY_CT, BLIND = "control: true CT", "control: healthy CT", "control: blind"
OTHER = "control: other patient, "
"""Names of the controls in tables; that of another patient's films is followed by the model."""

SIZES = (0.05, 0.2, 0.5)
"""Default planted sizes: occupancy of the side."""

_TURNS = (("right", "upright"), ("left", "supine"), ("left", "upright"), ("right", "supine"))


@dataclass(frozen=True)
class Plant:
    """One pneumothorax to plant, or none (`occupancy` 0)."""

    index: int
    occupancy: float
    side: str
    pattern: str
    seed: int


@dataclass(frozen=True)
class PneumothoraxJob:
    """One patient: all plants, all models."""

    source: ChestSource
    plants: tuple[Plant, ...]
    models: tuple[ModelChoice, ...]
    store: Path
    assets: Path | None
    seed: int


@dataclass(frozen=True)
class StudyResults:
    """Rows of JSON values, one per patient, plant and model or control; and what failed, by name."""

    rows: tuple[dict[str, Any], ...]
    failures: tuple[str, ...]


def plan(
    patients: int, *, sizes: Sequence[float] = SIZES, repeats: int = 1, seed: int = 0
) -> tuple[tuple[Plant, ...], ...]:
    """The plants of each patient: none first, then every size, `repeats` times; sides and patterns take turns.

    Over patients each size meets both sides and both patterns (upright: apex and side; supine: front and base).

    Raises:
        InputError: a size outside 0.01..0.9, none at all, or no repeats.
    """
    if not sizes or any(not 0.01 <= size <= 0.9 for size in sizes) or repeats < 1:
        raise InputError(f"sizes must lie in 0.01..0.9 and repeats be at least 1, got {list(sizes)} and {repeats}")
    every = []
    for patient in range(patients):
        plants = [Plant(0, 0.0, "none", "none", seed)]
        for number, size in enumerate(size for _ in range(repeats) for size in sizes):
            side, pattern = _TURNS[(patient + number + number // len(sizes)) % len(_TURNS)]
            plants.append(Plant(number + 1, size, side, pattern, seed + 1000 * patient + number))
        every.append(tuple(plants))
    return tuple(every)


def run_pneumothorax_study(
    sources: Sequence[ChestSource],
    plants: Sequence[Sequence[Plant]],
    models: Sequence[ModelChoice],
    store: Path,
    *,
    assets: Path | None = None,
    seed: int = 0,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> StudyResults:
    """Run the whole chain; `plants` holds one plan per source. What `store` holds already is not computed again.

    Raises:
        InputError: not a single result.
        MissingPartError: a scheduler without Dask.
    """
    jobs = [
        PneumothoraxJob(source, tuple(own), tuple(models), Path(store), assets, seed)
        for source, own in zip(sources, plants, strict=True)
    ]
    rows, failures = gathered(
        study_patient,
        jobs,
        [source.name for source in sources],
        workers=workers,
        scheduler=scheduler,
        progress=progress,
    )
    failures += [
        f"{row['case']}, plant {row['plant']}, {row['model']}: {row['failure']}" for row in rows if "failure" in row
    ]
    good = [row for row in rows if "failure" not in row]
    if not good:
        raise InputError("nothing could be studied: " + "; ".join(failures[:5]))
    return StudyResults((*good, *_of_other_patients(good, [one.label for one in models])), tuple(failures))


def study_patient(job: PneumothoraxJob) -> list[dict[str, Any]]:
    """All plants and models of one patient: JSON values, from the store where it has them."""
    store = ResultStore(job.store)
    rows: list[dict[str, Any]] = []
    chest = _Lazy(job.source)
    for plant in job.plants:
        base = _base(job, plant)
        told = {"case": job.source.name, "patient": job.source.patient, "plant": plant.index}
        models: list[ModelChoice | str] = [TRUE_CT, HEALTHY_CT, BLIND, *job.models]
        for choice in models:
            label = choice if isinstance(choice, str) else choice.label
            digest = "control" if isinstance(choice, str) else choice.digest
            settings = {**base, "model": digest, "label": label}
            place = f"{label.replace(': ', '-').replace(' ', '-')}/{job.source.name}-{plant.index}"

            def make(plant: Plant = plant, choice: ModelChoice | str = choice, label: str = label) -> dict[str, Any]:
                return {**told_of(job, plant, label), **_measure(job, store, chest, plant, choice)}

            try:
                rows.append(store.values(place, settings, make))
            except (XReconError, RuntimeError, MemoryError) as error:
                rows.append({**told, "model": label, "failure": f"{type(error).__name__}: {error}"})
    return rows


def told_of(job: PneumothoraxJob, plant: Plant, label: str) -> dict[str, Any]:
    """What identifies a row."""
    return {
        "case": job.source.name,
        "patient": job.source.patient,
        "plant": plant.index,
        "asked": plant.occupancy,
        "side": plant.side,
        "pattern": plant.pattern,
        "model": label,
    }


def _base(job: PneumothoraxJob, plant: Plant) -> dict[str, Any]:
    """What a stored result depends on beside the model."""
    source = job.source
    return {
        "source": source.digest,
        "size": source.size,
        "geometry": source.geometry,
        "plant": asdict(plant),
        "seed": job.seed,
    }


class _Lazy:
    """The chest and its planted versions, made when first needed: a study that goes on needs few of them."""

    def __init__(self, source: ChestSource) -> None:
        self._source = source
        self._chest: Chest | None = None
        self._versions: dict[int, tuple[Volume, Truth | None]] = {}
        self._controls: dict[str, SegmentedVolume] = {}

    @property
    def chest(self) -> Chest:
        if self._chest is None:
            self._chest = self._source.open()
        return self._chest

    def version(self, plant: Plant) -> tuple[Volume, Truth | None]:
        """The CT with the plant and its truth on the planting grid; the healthy CT and None for no plant."""
        if plant.occupancy == 0:
            return self.chest.volume, None
        if plant.index not in self._versions:
            self._versions = {
                plant.index: plant_pneumothorax(
                    self.chest.volume,
                    side=plant.side,
                    occupancy=plant.occupancy,
                    seed=plant.seed,
                    pattern=plant.pattern,
                )
            }
        return self._versions[plant.index]

    def anatomy(self, estimate: Volume, choice: ModelChoice | str) -> SegmentedVolume:
        """PTX-Seg on an estimate; once for the controls that look the same for every plant."""
        if choice not in (HEALTHY_CT, BLIND):
            return find_anatomy(estimate)
        if str(choice) not in self._controls:
            self._controls[str(choice)] = find_anatomy(estimate)
        return self._controls[str(choice)]


def _measure(
    job: PneumothoraxJob, store: ResultStore, lazy: _Lazy, plant: Plant, choice: ModelChoice | str
) -> dict[str, Any]:
    chest = lazy.chest
    sick, truth = lazy.version(plant)
    seconds = time.perf_counter()
    estimate = _estimate(job, store, lazy, plant, choice)
    seconds = time.perf_counter() - seconds
    found = lazy.anatomy(estimate, choice)
    row: dict[str, Any] = {"seconds": seconds, "found": found.volumes().to_dict(), **found.decision().to_dict()}
    if truth is None:
        return {**row, "true": {"occupancy": 0.0, "whole_chest": 0.0, "air_ml": 0.0}}
    row["true"] = {
        "occupancy": 100 * truth.occupancy.of(plant.side),
        "whole_chest": 100 * truth.occupancy.whole_chest,
        "air_ml": truth.volumes_ml.air,
    }
    labels = chest.truth_on_frame(truth)
    row["air_dice"] = _air_dice(found, labels)
    healthy = _estimate(job, store, lazy, job.plants[0], choice)
    framed = chest.on_frame(sick).hu - chest.on_frame(chest.volume).hu
    row["change"] = change_of_density(estimate.hu - healthy.hu, framed, labels, side=plant.side)
    return row


def _estimate(job: PneumothoraxJob, store: ResultStore, lazy: _Lazy, plant: Plant, choice: ModelChoice | str) -> Volume:
    """What stands for the reconstruction: of a model (kept in the store), or a control."""
    size, spacing = job.source.size, FRAME_MM / job.source.size
    if choice == BLIND:
        grid = Grid((size, size, size), spacing)
        with torch.no_grad():
            hu = mean_chest(load_priors(job.assets).prior).hu(grid).numpy()
        return Volume.centred(hu.astype(np.float32), (spacing,) * 3, synthetic=True)
    if isinstance(choice, str):
        return lazy.chest.on_frame(lazy.version(plant)[0] if choice == TRUE_CT else lazy.chest.volume)

    def make() -> dict[str, np.ndarray[Any, Any]]:
        result = choice.run(lazy.chest.films(lazy.version(plant)[0]), size=size, assets=job.assets, seed=job.seed)
        return {"hu": np.clip(np.rint(result.volume.hu), -32768, 32767).astype(np.int16)}

    settings = {**_base(job, plant), "model": choice.digest}
    hu = store.arrays(f"volumes/{choice.label}/{job.source.name}-{plant.index}", settings, make)["hu"]
    return Volume.centred(hu.astype(np.float32), (spacing,) * 3, synthetic=True)


def _air_dice(found: SegmentedVolume, truth: Segmentation) -> float | None:
    if found.segmentation is None:
        return None
    masks = region(found.segmentation, "air"), region(truth, "air")
    return compare_masks(*masks, spacing_mm=truth.spacing_mm).dice


def change_of_density(
    found: NDArray[np.floating[Any]], true: NDArray[np.floating[Any]], labels: Segmentation, *, side: str
) -> dict[str, float | None]:
    """Mean change of HU by the plant, in the true air and in its mirror image in the other lung.

    Args:
        found: reconstruction with minus reconstruction without the plant, HU [D, H, W].
        true: the same of the CT.
        labels: truth on the same grid.
        side: of the plant.

    Returns:
        `true` and `found` in the air, `mirror_true` and `mirror_found` in the mirrored region, HU; None where the
        region holds no voxel. A model that knows where the air is changes only the first.
    """
    own, other = (Side.RIGHT, Label.LEFT_LUNG) if side == "right" else (Side.LEFT, Label.RIGHT_LUNG)
    air = labels.air_side == own
    mirror = air[..., ::-1] & (labels.labels == other)
    values: dict[str, float | None] = {}
    for name, mask in (("", air), ("mirror_", mirror)):
        for word, change in (("true", true), ("found", found)):
            values[name + word] = float(change[mask].mean()) if mask.any() else None
    return values


def _of_other_patients(rows: Sequence[dict[str, Any]], models: Sequence[str]) -> list[dict[str, Any]]:
    """The truth of every patient beside what the model made of the next patient's films with another plant."""
    patients = list(dict.fromkeys(row["patient"] for row in rows))
    by_key = {(row["patient"], row["plant"], row["model"]): row for row in rows}
    made = []
    if len(patients) > 1:
        for row in rows:
            if row["model"] not in models:
                continue
            following = patients[(patients.index(row["patient"]) + 1) % len(patients)]
            plants = sorted(key[1] for key in by_key if key[0] == following and key[2] == row["model"])
            if not plants:
                continue
            other = by_key[following, plants[(row["plant"] + 1) % len(plants)], row["model"]]
            kept = {key: row[key] for key in ("case", "patient", "plant", "asked", "side", "pattern", "true")}
            made.append({**kept, "model": OTHER + row["model"], "found": other["found"], "seconds": 0.0})
    return made
