"""Healthy chests of a study: planted in, filmed, and put on the reconstruction's grid; from files or a data set."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from xrecon.anatomy.body import body_mask, without_table
from xrecon.anatomy.frame import framed, thorax_centre
from xrecon.data.ct_folder import content_sha256
from xrecon.data.dataset import PreparedCase, PreparedDataset
from xrecon.errors import InputError
from xrecon.evaluation.prepared import centred_truth
from xrecon.evaluation.study import LEAST_DETECTOR
from xrecon.films.simulation import simulate
from xrecon.geometry import FRAME_MM, ConeBeam
from xrecon.projector.attenuation import hu_to_mu
from xrecon.projector.operator import project
from xrecon.radiograph import Radiograph
from xrecon.segmentation import Label, Segmentation, Side
from xrecon.volume import Volume, load_ct

Films = tuple[Radiograph, Radiograph]


class Chest(Protocol):
    """A healthy chest: where pneumothoraces are planted, and how any version of it is filmed and framed."""

    volume: Volume

    def films(self, volume: Volume) -> Films:
        """PA and lateral film of a version of the chest, line integrals."""
        ...

    def on_frame(self, volume: Volume) -> Volume:
        """A version of the chest on the frame's grid, centred at the isocentre."""
        ...

    def truth_on_frame(self, truth: Segmentation) -> Segmentation:
        """Labels of a version of the chest on the frame's grid."""
        ...


@dataclass(frozen=True)
class ChestSource:
    """Where a chest comes from; travels to other processes, opens to a `Chest` there.

    Attributes:
        name: pseudonym of the case.
        patient: pseudonym of the patient.
        digest: of the content.
        place: the prepared case, or the CT file.
        size: voxels per edge of the frame.
        geometry: preset of the films, for CT files.
    """

    name: str
    patient: str
    digest: str
    place: PreparedCase | Path
    size: int
    geometry: str = "chest"

    def open(self) -> Chest:
        """Read it. Raises InputError or CheckpointError if it cannot be read or holds no chest."""
        if isinstance(self.place, PreparedCase):
            return _PreparedChest(self.place)
        return _ScannedChest(load_ct(self.place), self.size, self.geometry)


def prepared_sources(dataset: PreparedDataset) -> tuple[ChestSource, ...]:
    """All cases of a data set."""
    return tuple(ChestSource(case.name, case.patient, case.record.sha256, case, dataset.size) for case in dataset.cases)


def healthy_sources(dataset: PreparedDataset, *, known: Collection[str] = ()) -> tuple[ChestSource, ...]:
    """The cases of a data set without a pneumothorax, where one can be planted.

    Those in which `xrecon prepare` found free pleural air are left out, and must be named where the study is reported:
    `dataset.cases` without these.

    Args:
        dataset: of one subset.
        known: cases that a reader knows to be healthy: kept whatever `xrecon prepare` found in them (a bulla).

    Raises:
        InputError: a name in `known` that the data set does not have, or no case is left.
    """
    names = [case.name for case in dataset.cases]
    for name in known:
        if name not in names:
            raise InputError(f"{dataset.path}: no {dataset.subset} case {name}; it has {', '.join(names)}")
    free = {case.name for case in dataset.cases if case.name in known or not bool(case.load().air.any())}
    kept = tuple(source for source in prepared_sources(dataset) if source.name in free)
    if not kept:
        raise InputError(f"{dataset.path}: every {dataset.subset} case has free pleural air already")
    return kept


def file_sources(cases: Sequence[tuple[str, Path]], *, size: int, geometry: str) -> tuple[ChestSource, ...]:
    """(name, CT) pairs as sources; one patient per CT. Raises InputError if one cannot be read."""
    return tuple(ChestSource(name, name, content_sha256(path), path, size, geometry) for name, path in cases)


class _PreparedChest:
    """Planted on the data set's own grid. Films are those of the whole CT, changed by what the planting changed:
    line integrals add up, so nothing outside the cube is lost.
    """

    def __init__(self, case: PreparedCase) -> None:
        data = case.load()
        self.volume = centred_truth(data)
        self._films = data.films()
        if not all(film.is_quantitative for film in self._films):
            raise InputError(f"{case.name}: its films are display values; a study needs line integrals")
        self._beams = data.beams

    def films(self, volume: Volume) -> Films:
        if volume is self.volume:
            return self._films
        pair = [hu_to_mu(torch.from_numpy(np.array(one.hu))) for one in (volume, self.volume)]
        change = project((pair[0] - pair[1])[None, None], volume.spacing_mm, self._beams)[0].numpy()
        pa, lateral = (replace(film, image=film.image + part) for film, part in zip(self._films, change, strict=True))
        return pa, lateral

    def on_frame(self, volume: Volume) -> Volume:
        return volume

    def truth_on_frame(self, truth: Segmentation) -> Segmentation:
        return truth


class _ScannedChest:
    """Planted on the CT's own grid; the whole CT is filmed."""

    def __init__(self, ct: Volume, size: int, geometry: str) -> None:
        ct = ct.canonical()
        self.volume = without_table(ct, mask=body_mask(ct))
        self._centre = thorax_centre(ct)
        self._size, self._geometry = size, geometry

    def films(self, volume: Volume) -> Films:
        size = max(self._size, LEAST_DETECTOR)
        return simulate(volume, size=size, geometry=self._geometry, keep_table=True, centre_mm=self._centre)

    def on_frame(self, volume: Volume) -> Volume:
        cube = framed(volume, self._size, centre_mm=self._centre)
        return Volume.centred(cube.hu, (FRAME_MM / self._size,) * 3, synthetic=volume.synthetic)

    def truth_on_frame(self, truth: Segmentation) -> Segmentation:
        """A voxel belongs to what fills most of it."""
        parts = [
            truth.labels == Label.RIGHT_LUNG,
            truth.labels == Label.LEFT_LUNG,
            truth.air_side == Side.RIGHT,
            truth.air_side == Side.LEFT,
        ]
        spacing = FRAME_MM / self._size
        shares = [
            Volume(part.astype(np.float32), truth.affine)
            .resampled((self._size,) * 3, spacing, centre_mm=self._centre, fill_hu=0.0)
            .hu
            for part in parts
        ]
        winner = np.argmax([1.0 - np.sum(shares, axis=0), *shares], axis=0)
        labels = np.choose(winner, [0, Label.RIGHT_LUNG, Label.LEFT_LUNG, Label.AIR, Label.AIR]).astype(np.uint8)
        sides = np.choose(winner, [0, 0, 0, Side.RIGHT, Side.LEFT]).astype(np.uint8)
        affine = Volume.centred(shares[0], (spacing,) * 3).affine
        return Segmentation(labels, sides, affine)


def beams_of(films: Films) -> tuple[ConeBeam, ConeBeam]:
    """Geometry of both films."""
    return films[0].geometry, films[1].geometry
