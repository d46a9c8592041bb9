"""Online augmentation: a prepared case and a seed give a new patient with new films, and the labels that go with them.

The chest is changed first, then exposed, then its films get the faults of real films: the steps and their order are
the table in `settings.py`. Every step draws from a stream of its own (`random_streams`), so a sample follows from
(settings, case, seed) alone. Left and right are never exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import thread_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.morphology import Floats
from xrecon.augmentation.chest import AugmentedChest, chest_of, shrunk
from xrecon.augmentation.projection import beside_the_cube, integrals, moved_along
from xrecon.augmentation.random_streams import stream
from xrecon.augmentation.settings import AugmentConfig, steps_of
from xrecon.augmentation.spatial.deformation import ChestDeformation
from xrecon.augmentation.steps import Beams, Exposures, ExposureStep, FilmStep, FilmView, SpatialStep, TissueStep
from xrecon.data.case_file import CaseData
from xrecon.errors import InputError
from xrecon.films.normalisation import network_film
from xrecon.geometry import VIEWS, ConeBeam
from xrecon.projector.attenuation import FILM_ENERGY_KEV


@dataclass(frozen=True, eq=False)
class Sample:
    """A training pair.

    Attributes:
        ct: [D, H, W] float32, HU.
        pa, lateral: [S, S] float32 in 0..1, as `network_film` gives them.
        sides: [D, H, W] uint8: 0 outside, 1 right hemithorax, 2 left; lung and free pleural air.
        air: [D, H, W] uint8: 1 free pleural air.
        measured: [D, H, W] bool: voxels that come from the scan; the others are unknown, not air.
        beams: (PA, lateral) as they were exposed, relative to the cube's centre.
        record: JSON-ready: the seed, and per step what was drawn, None where the step was left out.
    """

    ct: NDArray[np.float32]
    pa: NDArray[np.float32]
    lateral: NDArray[np.float32]
    sides: NDArray[np.uint8]
    air: NDArray[np.uint8]
    measured: NDArray[np.bool_]
    beams: tuple[ConeBeam, ConeBeam]
    record: dict[str, Any]


class Augmenter:
    """Makes training pairs of prepared cases. Holds settings only: safe to copy to workers and to call from threads.

    Args:
        config: which steps, how often, how strong; a subclass of `AugmentConfig` may add steps.
        size: voxels and film pixels per edge of the samples, at most those of the cases.
        frame_mm: edge of the cube.
        beams: nominal (PA, lateral) geometry, relative to the cube's centre; `PreparedDataset.beams`.

    Raises:
        InputError: a size below 16, or a frame that is not positive.

    Example:
        >>> augment = Augmenter(AugmentConfig(), size=96, frame_mm=dataset.frame_mm, beams=dataset.beams)
        >>> sample = augment(dataset[0].load(), seed=1)
    """

    def __init__(self, config: AugmentConfig, *, size: int, frame_mm: float, beams: tuple[ConeBeam, ConeBeam]) -> None:
        if size < 16 or frame_mm <= 0:
            raise InputError(f"expected at least 16 voxels per edge and a positive frame, got {size} and {frame_mm} mm")
        self.config = config
        self.size = size
        self.frame_mm = float(frame_mm)
        self.beams = (beams[0].with_detector((size, size)), beams[1].with_detector((size, size)))

    def __call__(self, case: CaseData, seed: int) -> Sample:
        """The sample of a case and a seed.

        Args:
            case: of at least `size` voxels per edge.
            seed: >= 0.

        Raises:
            InputError: the case is smaller than the samples, or the seed is negative.
        """
        return self.timed(case, seed)[0]

    def timed(self, case: CaseData, seed: int) -> tuple[Sample, dict[str, float]]:
        """The sample, and the processor seconds of the calling thread that each of its steps took."""
        if case.size < self.size:
            raise InputError(f"the case has {case.size} voxels per edge, fewer than the {self.size} asked for")
        if seed < 0:
            raise InputError(f"seed must be at least 0, got {seed}")
        work = _SampleInProgress(self.config, seed, {"seed": int(seed), "size": self.size}, _Clock())
        if case.quantity == "display" and stream(seed, "own_films").random() < self.config.own_films.probability:
            chest, beams, films = self._as_it_is(case, work)
        else:
            deformation, chest = self._changed(case, work)
            beams, films = self._exposed(case, chest, deformation, work)
        films = [
            self._with_film_steps(film, FilmView(name, beam), work)
            for film, name, beam in zip(films, VIEWS, beams, strict=True)
        ]
        pa, lateral = (network_film(film) for film in films)
        work.clock.lap("network film")
        sample = Sample(chest.hu, pa, lateral, chest.sides, chest.air, chest.measured, beams, work.record)
        return sample, work.clock.seconds

    def _as_it_is(self, case: CaseData, work: _SampleInProgress) -> tuple[AugmentedChest, Beams, list[Floats]]:
        """The chest unchanged with the patient's own films."""
        chest = chest_of(case, ChestDeformation.none(), size=self.size, frame_mm=self.frame_mm)
        films = [shrunk(np.asarray(film, dtype=np.float32), self.size) for film in (case.pa, case.lateral)]
        work.record["own_films"] = True
        work.clock.lap("deform")
        return chest, self.beams, films

    def _changed(self, case: CaseData, work: _SampleInProgress) -> tuple[ChestDeformation, AugmentedChest]:
        """The deformed chest with changed tissue, and its deformation."""
        deformation = ChestDeformation.none()
        for name, spatial in steps_of(SpatialStep, type(self.config)):
            if (rng := work.generator(name)) is not None:
                settings = getattr(self.config, name)
                deformation, work.record[name] = spatial.apply(deformation, settings, rng, frame_mm=self.frame_mm)
        work.clock.lap("draw deformation")
        chest = chest_of(case, deformation, size=self.size, frame_mm=self.frame_mm)
        work.clock.lap("deform")
        for name, tissue in steps_of(TissueStep, type(self.config)):
            if (rng := work.generator(name)) is not None:
                chest, work.record[name] = tissue.apply(chest, getattr(self.config, name), rng)
                work.clock.lap(name)
        return deformation, chest

    def _exposed(
        self, case: CaseData, chest: AugmentedChest, deformation: ChestDeformation, work: _SampleInProgress
    ) -> tuple[Beams, list[Floats]]:
        """Line integrals of the changed chest, and of what the stored films show beside the cube."""
        exposures = Exposures(self.beams, FILM_ENERGY_KEV)
        for name, step in steps_of(ExposureStep, type(self.config)):
            if (rng := work.generator(name)) is not None:
                exposures, work.record[name] = step.apply(exposures, getattr(self.config, name), rng)
        films = integrals(chest.hu, exposures, pitch_mm=chest.pitch_mm)
        work.clock.lap("project")
        if case.quantity == "line_integral":
            beside = beside_the_cube(case, self.beams, size=self.size, frame_mm=self.frame_mm)
            beside = moved_along(beside, deformation, exposures, pitch_mm=chest.pitch_mm)
            films = [film + rest for film, rest in zip(films, beside, strict=True)]
            work.clock.lap("beside the cube")
        return exposures.beams, films

    def _with_film_steps(self, film: Floats, view: FilmView, work: _SampleInProgress) -> Floats:
        """The film after all film steps."""
        for name, step in steps_of(FilmStep, type(self.config)):
            rng = work.generator(name, view.name)
            if rng is None or (step.needs_line_integrals and "own_films" in work.record):
                continue
            film, work.record[name][view.name] = step.apply(film, view, getattr(self.config, name), rng)
            work.clock.lap(name)
        return film


@dataclass(frozen=True, eq=False)
class _SampleInProgress:
    """What the steps of one sample share.

    Attributes:
        config: settings of all steps.
        seed: of the sample.
        record: what was drawn so far, as in `Sample.record`.
        clock: processor time per step.
    """

    config: AugmentConfig
    seed: int
    record: dict[str, Any]
    clock: _Clock

    def generator(self, step: str, view: str | None = None) -> np.random.Generator | None:
        """The step's own random numbers if it is to be done, else None; notes the step in the record as left out."""
        if view is None:
            self.record[step] = None
        else:
            self.record.setdefault(step, {})[view] = None
        rng = stream(self.seed, step if view is None else f"{step}.{view}")
        return rng if rng.random() < getattr(self.config, step).probability else None


class _Clock:
    """Processor seconds of this thread per part of the work; the time of other threads and programs does not count."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = thread_time()

    def lap(self, name: str) -> None:
        now = thread_time()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now
