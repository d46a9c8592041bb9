"""Film pairs of a library for training: which are there, which fold they belong to, how often each is picked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from xrecon.data.film_library import AnatomyFile, FilmLibrary, FilmSample
from xrecon.errors import InputError
from xrecon.films.local_contrast import local_contrast
from xrecon.films.simulation import film_pair
from xrecon.geometry import FRAME_MM, ConeBeam
from xrecon.models.film_network import FilmMaps
from xrecon.training.films.exposure import FilmBatchItem, random_film
from xrecon.training.films.film_training import FilmTraining

_SAMPLES_IN_MEMORY = 800
"""Film pairs of 256 x 256 pixels that stay decoded: 3 MB each; reading such a pair again takes 30 ms."""


@dataclass(frozen=True)
class PoolEntry:
    """One film pair of the library.

    Attributes:
        anatomy: the file.
        sample: its number in the file.
        occupancy: of the sick side, 0..1; 0 for a healthy pair.
        has_confounders: other air or gas is in it.
    """

    anatomy: AnatomyFile
    sample: int
    occupancy: float
    has_confounders: bool


class FilmPool:
    """The pairs of a library that may be trained on, and those of the cases that are left out."""

    def __init__(self, folder: Path, settings: FilmTraining) -> None:
        """Open the library.

        Raises:
            InputError: no library, no anatomy in it, a fold that does not exist, or films that are no multiple of what
                the network works on.
        """
        self.library = FilmLibrary(folder)
        self.settings = settings
        self._size = int(self.library.information["settings"]["size"])
        stored_mm = FRAME_MM / self._size
        self.factor = max(1, round(settings.network.pixel_mm / stored_mm))
        pixels = self._size // self.factor
        if abs(self.factor * stored_mm / settings.network.pixel_mm - 1) > 0.01 or pixels % settings.network.multiple:
            raise InputError(
                f"films of {self._size} pixels ({stored_mm:g} mm) cannot serve a network of "
                f"{settings.network.pixel_mm:g} mm with {len(settings.network.channels)} levels"
            )
        self.views = film_pair("chest", size=pixels)
        cases = sorted(self.library.information["cases"])
        self.left_out = _left_out(cases, settings)
        self._entries: dict[str, list[PoolEntry]] = {}
        self._memory: OrderedDict[tuple[str, int], FilmSample] = OrderedDict()
        self.training: list[PoolEntry] = []
        self.validation: list[PoolEntry] = []
        self.refresh()

    def refresh(self) -> None:
        """Take up anatomies that were made since. Raises InputError if there is none to train on."""
        for anatomy in self.library.anatomies():
            if anatomy.path.name not in self._entries:
                self._entries[anatomy.path.name] = _entries(anatomy)
        listed = [entry for name in sorted(self._entries) for entry in self._entries[name]]
        self.training = [entry for entry in listed if entry.anatomy.case not in self.left_out]
        if len(self.validation) < self.settings.validation_pairs:
            mine = sorted(
                (e for e in listed if e.anatomy.case in self.left_out), key=lambda e: (e.anatomy.number, e.sample)
            )
            self.validation = mine[: self.settings.validation_pairs]
        if not self.training:
            raise InputError(f"{self.library.folder}: no anatomy to train on yet; run prepare-films first")
        sick = np.array([entry.occupancy for entry in self.training]) ** self.settings.occupancy_power
        healthy = np.array([entry.occupancy == 0 for entry in self.training], dtype=np.float64)
        sick[healthy > 0] = 0.0
        share = self.settings.healthy_share
        weights = (1 - share) * sick / max(sick.sum(), 1e-9) + share * healthy / max(healthy.sum(), 1e-9)
        self._weights = weights / weights.sum()

    def read(self, entry: PoolEntry) -> FilmSample:
        """The stored lengths at the network's pixel pitch; decoded once as long as memory allows."""
        key = (entry.anatomy.path.name, entry.sample)
        if key not in self._memory:
            self._memory[key] = self.library.read(entry.anatomy, entry.sample, factor=self.factor)
            while len(self._memory) > _SAMPLES_IN_MEMORY:
                self._memory.popitem(last=False)
        self._memory.move_to_end(key)
        return self._memory[key]

    def picked(self, rng: np.random.Generator, count: int) -> list[int]:
        """Places in `training` of so many random pairs: healthy ones, and sick ones by their occupancy."""
        return [int(place) for place in rng.choice(len(self.training), size=count, p=self._weights)]

    def batch(self, step: int) -> tuple[torch.Tensor, FilmMaps]:
        """Inputs [N, views, 2, rows, cols] and targets of one step; the same for the same library and step."""
        rng = np.random.default_rng([self.settings.seed, step, 17])
        picked = self.picked(rng, self.settings.batch)
        items = [random_film(self.read(self.training[i]), self.views, rng) for i in picked]
        return stacked(items, self.settings)


def stacked(items: Sequence[FilmBatchItem], settings: FilmTraining) -> tuple[torch.Tensor, FilmMaps]:
    """Inputs and targets of a batch, for the views that the network sees."""
    numbers = [("pa", "lateral").index(view) for view in settings.network.views]
    films = torch.stack([item.films[numbers] for item in items])
    air = torch.stack([item.air[numbers] for item in items])
    lung = torch.stack([item.lung[numbers] for item in items])
    contrast = local_contrast(films, settings.network.pixel_mm, scales_mm=settings.network.scales_mm)
    return contrast, FilmMaps(torch.zeros_like(air), air, lung)


def network_views(views: tuple[ConeBeam, ConeBeam], settings: FilmTraining) -> list[ConeBeam]:
    """Geometry of the films that the network sees."""
    return [view for view, name in zip(views, ("pa", "lateral"), strict=True) if name in settings.network.views]


def _left_out(cases: Sequence[str], settings: FilmTraining) -> tuple[str, ...]:
    if settings.fold is None:
        return ()
    if settings.fold >= settings.folds:
        raise InputError(f"fold {settings.fold} does not exist: folds are numbered 0 to {settings.folds - 1}")
    return tuple(cases[settings.fold :: settings.folds])


def _entries(anatomy: AnatomyFile) -> list[PoolEntry]:
    entries = []
    for number, sample in enumerate(FilmLibrary.meta(anatomy)["samples"]):
        occupancy = 0.0
        if sample["kind"] != "healthy":
            occupancy = float(sample["occupancy"][sample["planting"]["side"]])
        entries.append(PoolEntry(anatomy, number, occupancy, bool(sample["confounders"])))
    return entries
