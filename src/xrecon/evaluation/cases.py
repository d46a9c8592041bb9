"""Chests whose CT is known: filmed, put on the reconstruction's grid and planted in; from CT files or a data set."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from xrecon.anatomy.body import body_mask, without_table
from xrecon.anatomy.frame import framed, thorax_centre
from xrecon.anatomy.orientation import with_orientation_notes
from xrecon.data.ct_folder import content_sha256
from xrecon.data.dataset import PreparedCase, PreparedDataset
from xrecon.errors import InputError
from xrecon.films.simulation import simulate
from xrecon.geometry import FRAME_MM, ConeBeam
from xrecon.projector.attenuation import hu_to_mu
from xrecon.projector.operator import project
from xrecon.projector.physics import film_physics
from xrecon.radiograph import Radiograph
from xrecon.segmentation import Label, Segmentation, Side
from xrecon.volume import Volume, load_ct

LEAST_DETECTOR = 128
"""Simulated films have at least this many pixels per edge: a detector is finer than a coarse reconstruction."""

Films = tuple[Radiograph, Radiograph]


@dataclass(frozen=True)
class FilmTaking:
    """How the films of a CT are simulated.

    Attributes:
        pixels: per edge of the detector, at least; 1.5 mm at the isocentre are 256.
        physics: preset of the film physics: "linear" (line integrals) or "clinical" (a digital stand: beam, scatter,
            heel effect, noise, unsharpness, display).
    """

    pixels: int = LEAST_DETECTOR
    physics: str = "linear"


class StudyChest(Protocol):
    """A chest whose CT is known: how it, or a version of it with something planted, is filmed and framed.

    Attributes:
        volume: the CT, on the grid on which one plants.
    """

    volume: Volume

    def films(self, volume: Volume, *, seed: int = 0) -> Films:
        """PA and lateral film of a version of the chest; line integrals, where the chest's own films are.

        `seed` is that of the noise, where there is noise.
        """
        ...

    def on_frame(self, volume: Volume) -> Volume:
        """A version of the chest on the frame's grid, centred at the isocentre."""
        ...

    def truth_on_frame(self, truth: Segmentation) -> Segmentation:
        """Labels of a version of the chest on the frame's grid."""
        ...

    def body_on_frame(self) -> NDArray[np.bool_]:
        """[D, H, W] the patient's body on the frame's grid."""
        ...


@dataclass(frozen=True)
class CaseSource:
    """Where a chest comes from; travels to other processes, opens to a `StudyChest` there.

    Attributes:
        name: pseudonym of the case.
        patient: pseudonym of the patient.
        digest: of the content.
        place: the prepared case, or the CT file.
        size: voxels per edge of the frame.
        geometry: preset of the films.
        film: how the films of a CT file are taken; the films of a data set are there already.
    """

    name: str
    patient: str
    digest: str
    place: PreparedCase | Path
    size: int
    geometry: str = "chest"
    film: FilmTaking = FilmTaking()

    @property
    def is_prepared(self) -> bool:
        """A case of a data set of `xrecon prepare`, with films of its own."""
        return isinstance(self.place, PreparedCase)

    def open(self, *, device: str = "cpu") -> StudyChest:
        """Read it; films are projected on `device`.

        Raises:
            InputError, CheckpointError: it cannot be read, or holds no chest.
        """
        if isinstance(self.place, PreparedCase):
            return PreparedChest(self.place, device=device)
        ct = with_orientation_notes(load_ct(self.place), self.place)
        return ScannedChest(ct, size=self.size, geometry=self.geometry, film=self.film, device=device)

    def open_with_line_integrals(self, *, device: str = "cpu") -> StudyChest:
        """Read it for a study that changes its films, which only line integrals allow.

        Raises:
            InputError: its films are display values; and as `open`.
        """
        chest = self.open(device=device)
        if isinstance(chest, PreparedChest) and not chest.is_quantitative:
            raise InputError(f"{self.name}: its films are display values; a study needs line integrals")
        return chest


def prepared_sources(dataset: PreparedDataset) -> tuple[CaseSource, ...]:
    """All cases of a data set."""
    return tuple(
        CaseSource(case.name, case.patient, case.record.sha256, case, dataset.size, dataset.manifest.geometry.name)
        for case in dataset.cases
    )


def healthy_sources(dataset: PreparedDataset, *, exempt: Collection[str] = ()) -> tuple[CaseSource, ...]:
    """The cases of a data set without a pneumothorax, where one can be planted.

    Those in which `xrecon prepare` found free pleural air are left out, and must be named where the study is reported:
    `dataset.cases` without these.

    Args:
        dataset: of one subset.
        exempt: cases that a reader knows to be healthy: they stay in, whatever `xrecon prepare` found (a bulla).

    Raises:
        InputError: a name in `exempt` that the data set does not have, or no case is left.
    """
    names = [case.name for case in dataset.cases]
    for name in exempt:
        if name not in names:
            raise InputError(f"{dataset.path}: no {dataset.subset} case {name}; it has {', '.join(names)}")
    healthy = {case.name for case in dataset.cases if case.name in exempt or not bool(case.load().air.any())}
    sources = tuple(source for source in prepared_sources(dataset) if source.name in healthy)
    if not sources:
        raise InputError(f"{dataset.path}: every {dataset.subset} case has free pleural air already")
    return sources


def file_sources(cases: Sequence[tuple[str, Path]], *, size: int, geometry: str) -> tuple[CaseSource, ...]:
    """(name, CT) pairs as sources; one patient per CT. Raises InputError if one cannot be read."""
    return tuple(CaseSource(name, name, content_sha256(path), path, size, geometry) for name, path in cases)


class PreparedChest:
    """Planted on the data set's own grid. Films are those of the whole CT, changed by what the planting changed:
    line integrals add up, so nothing outside the cube is lost.
    """

    def __init__(self, case: PreparedCase, *, device: str = "cpu") -> None:
        data = case.load()
        # Films know no scanner: the CT gets the frame's own coordinates, with the origin at the isocentre.
        self.volume = Volume.centred(data.ct.astype(np.float32), (data.spacing_mm,) * 3)
        self._films = data.films()
        self._beams = data.beams
        self._body = data.body
        self._device = device

    @property
    def is_quantitative(self) -> bool:
        """Both films are line integrals."""
        return all(film.is_quantitative for film in self._films)

    def films(self, volume: Volume, *, seed: int = 0) -> Films:  # noqa: ARG002 (no noise is added)
        """The data set's films, changed by the projection of what was planted."""
        if volume is self.volume:
            return self._films
        with_plant, without = (
            hu_to_mu(torch.from_numpy(np.array(version.hu)).to(self._device)) for version in (volume, self.volume)
        )
        change = project((with_plant - without)[None, None], volume.spacing_mm, self._beams)[0].cpu().numpy()
        pa, lateral = (replace(film, image=film.image + part) for film, part in zip(self._films, change, strict=True))
        return pa, lateral

    def on_frame(self, volume: Volume) -> Volume:
        """As it is: the data set lies on the frame's grid."""
        return volume

    def truth_on_frame(self, truth: Segmentation) -> Segmentation:
        """As they are."""
        return truth

    def body_on_frame(self) -> NDArray[np.bool_]:
        """[D, H, W] the body that `xrecon prepare` found."""
        return np.asarray(self._body > 0)


class ScannedChest:
    """Planted on the CT's own grid; the whole CT is filmed without its table, the isocentre amid the lungs.

    Raises:
        InputError: no body or no lungs in the CT.
    """

    def __init__(
        self,
        ct: Volume,
        *,
        size: int,
        geometry: str = "chest",
        film: FilmTaking | None = None,
        device: str = "cpu",
    ) -> None:
        self._ct = ct.canonical()
        self.volume = without_table(self._ct, mask=self._mask)
        self._centre = thorax_centre(self._ct)
        self._size, self._geometry, self._device = size, geometry, device
        self._film = film or FilmTaking()

    @cached_property
    def _mask(self) -> NDArray[np.bool_]:
        return body_mask(self._ct)

    def films(self, volume: Volume, *, seed: int = 0) -> Films:
        """Films of the whole CT, simulated with the preset's geometry and physics."""
        physics = None if self._film.physics == "linear" else film_physics(self._film.physics)
        return simulate(
            volume,
            size=max(self._size, self._film.pixels),
            geometry=self._geometry,
            keep_table=True,  # the table is gone already: no second search for the body
            centre_mm=self._centre,
            device=self._device,
            physics=physics,
            generator=None if physics is None else torch.Generator(self._device).manual_seed(seed),
        )

    def on_frame(self, volume: Volume) -> Volume:
        """Resampled to the frame around the middle of the lungs."""
        cube = framed(volume, self._size, centre_mm=self._centre)
        # Films know no scanner: the origin lies at the isocentre.
        truth = Volume.centred(cube.hu, (FRAME_MM / self._size,) * 3, synthetic=volume.synthetic)
        return replace(truth, notes=cube.notes)

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

    def body_on_frame(self) -> NDArray[np.bool_]:
        """[D, H, W] voxels that the body fills by more than half."""
        share = self._ct.with_hu(self._mask.astype(np.float32)).resampled(
            (self._size,) * 3, FRAME_MM / self._size, centre_mm=self._centre, fill_hu=0.0
        )
        return np.asarray(share.hu > 0.5)


@dataclass(frozen=True, eq=False)
class KnownCase:
    """What an estimate is measured against, and what it is made from.

    Attributes:
        name: name of the case (never a patient's).
        truth: HU [size, size, size] on the frame, centred at the isocentre; everything outside the body removed.
        body: [size, size, size] bool, the patient's body.
        films: (PA, lateral).
    """

    name: str
    truth: Volume
    body: NDArray[np.bool_]
    films: Films


def known_case(name: str, chest: StudyChest) -> KnownCase:
    """A chest as it is: truth and body on the frame, and films."""
    return KnownCase(name, chest.on_frame(chest.volume), chest.body_on_frame(), chest.films(chest.volume))


def prepare_case(name: str, ct: Volume, *, size: int, geometry: str = "chest", device: str = "cpu") -> KnownCase:
    """Truth, body mask and films of a CT; the films' isocentre is the middle of its lungs.

    Raises:
        InputError: no body or no lungs in the CT.
        GeometryError: an unknown preset.
    """
    return known_case(name, ScannedChest(ct, size=size, geometry=geometry, device=device))


def beams_of(films: Films) -> tuple[ConeBeam, ConeBeam]:
    """Geometry of both films."""
    return films[0].geometry, films[1].geometry
