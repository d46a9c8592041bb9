"""One anatomy of the library: a varied chest, its samples, their films and maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xrecon.anatomy.healthy_lungs import ChestAir
from xrecon.anatomy.morphology import Floats, Mask, bounding_box
from xrecon.augmentation.lung_shapes import LungShapes
from xrecon.augmentation.varied_chest import SourceChest, VariedChest, varied_chest
from xrecon.data.film_library import FilmSample, anatomy_bytes
from xrecon.errors import InputError
from xrecon.films.film_width import film_width_mm
from xrecon.films.simulation import film_pair
from xrecon.geometry import ConeBeam
from xrecon.planting.confounders import plant_bulla, plant_stomach_gas, plant_subcutaneous_emphysema
from xrecon.planting.pneumothorax import plant_pneumothorax
from xrecon.planting.prepared import PlantableChest, prepare_chest
from xrecon.planting.sampling import sample_planting
from xrecon.planting.truth import Truth
from xrecon.preparation.film_library.landmarks import chest_landmarks, on_films
from xrecon.preparation.film_library.library_settings import FilmLibrarySettings
from xrecon.projector.operator import project
from xrecon.projector.spectrum import material_fractions
from xrecon.volume import RESEARCH_NOTICE, Volume

_TRIES = 6


@dataclass(frozen=True, eq=False)
class FilmRig:
    """Both films of one anatomy: their rays go round the middle of its lungs.

    Attributes:
        views: geometry relative to the isocentre.
        placed: the same, relative to the centre of the volume.
        middle: index (d, h, w) of the isocentre.
        spacing: voxel pitch, mm.
    """

    views: tuple[ConeBeam, ConeBeam]
    placed: tuple[ConeBeam, ConeBeam]
    middle: NDArray[np.float64]
    spacing: tuple[float, float, float]

    @classmethod
    def of(cls, varied: VariedChest, size: int) -> FilmRig:
        """The rig of a chest."""
        box = bounding_box(varied.chest.right | varied.chest.left)
        assert box is not None
        middle = np.array([(part.start + part.stop - 1) / 2 for part in box])
        spacing = varied.ct.spacing_mm
        d, h, w = (middle - (np.asarray(varied.ct.shape) - 1) / 2) * np.asarray(spacing)
        views = film_pair("chest", size=size)
        moved = [view.moved(translation_mm=(float(w), float(h), float(-d))) for view in views]
        return cls(views, (moved[0], moved[1]), middle, spacing)

    def lengths(self, volumes: Sequence[Floats]) -> NDArray[np.float32]:
        """[volumes, 2 views, rows, cols] mm: integrals of shares [D, H, W] along the rays."""
        with torch.inference_mode():
            films = [
                project(torch.from_numpy(np.array(volume))[None, None], self.spacing, self.placed)[0]
                for volume in volumes
            ]
        return np.asarray(torch.stack(films).numpy())


def produce_anatomy(
    source: SourceChest,
    shapes: LungShapes | None,
    settings: FilmLibrarySettings,
    *,
    number: int,
    commit: str | None = None,
) -> bytes:
    """Content of the file of anatomy `number`; the same for the same source, settings and number.

    Args:
        source: the CT to vary.
        shapes: lungs of other patients, or None.
        settings: of the library.
        number: of the anatomy.
        commit: of the code, to be kept beside the films: a library may be continued with later code.

    Raises:
        InputError: no map of several tries leaves the chest whole.
    """
    varied = _varied(source, shapes, (settings.seed, number))
    rig = FilmRig.of(varied, settings.size)
    rng = np.random.default_rng([settings.seed, number, 31])
    plain = prepare_chest(varied.ct, varied.chest)
    samples = []
    for sample in range(settings.healthy + settings.plants):
        is_sick = sample >= settings.healthy
        with_others = rng.random() < settings.confounder_share if is_sick else sample > 0
        samples.append(_sample(plain, rig, is_sick=is_sick, with_confounders=with_others, rng=rng))
    meta = {
        "notice": RESEARCH_NOTICE,
        "case": source.name,
        "number": number,
        "commit": commit,
        "anatomy": dict(varied.parameters),
        "geometry": {name: view.to_dict() for name, view in zip(("pa", "lateral"), rig.views, strict=True)},
        "landmarks": on_films(chest_landmarks(varied.chest, rig.spacing), rig.middle, rig.spacing, rig.views),
    }
    return anatomy_bytes(samples, meta)


def _varied(source: SourceChest, shapes: LungShapes | None, seed: tuple[int, int]) -> VariedChest:
    problem: InputError | None = None
    for attempt in range(_TRIES):
        try:
            return varied_chest(source, shapes, seed=(*seed, attempt))
        except InputError as error:
            problem = error
    assert problem is not None
    raise problem


def _sample(
    plain: PlantableChest, rig: FilmRig, *, is_sick: bool, with_confounders: bool, rng: np.random.Generator
) -> FilmSample:
    names: list[str] = []
    chest = plain
    if with_confounders:
        ct, names = _with_confounders(plain.ct, plain.chest, rng, bullae=not is_sick)
        chest = prepare_chest(ct, plain.chest)
    if not is_sick:
        return film_sample(chest.ct, chest.chest, rig, names, None)
    ct, truth = _planted(chest, rng)
    return film_sample(ct, chest.chest, rig, names, truth)


def film_sample(ct: Volume, chest: ChestAir, rig: FilmRig, confounders: list[str], truth: Truth | None) -> FilmSample:
    """Films and maps of one chest CT, sick (`truth`) or healthy, and what is known of it."""
    water, bone = (part.numpy() for part in material_fractions(torch.from_numpy(np.array(ct.hu))))
    lungs = [_share(mask) for mask in _lungs(chest, truth)]
    volumes = [water, bone, *lungs]
    air = None
    if truth is not None:
        sick = 0 if truth.settings.side == "right" else 1
        air = np.zeros(ct.shape, dtype=np.float32)
        air[truth.shares.box] = truth.shares.air
        lungs[sick][...] = 0.0
        lungs[sick][truth.shares.box] = truth.shares.lung
        volumes.append(air)
    films = rig.lengths(volumes)
    maps = np.zeros((2, 2, *films.shape[-2:]), dtype=np.float32)
    meta: dict[str, Any] = {"kind": "healthy", "confounders": confounders}
    if truth is not None:
        sick = 0 if truth.settings.side == "right" else 1
        maps[:, sick] = films[4]
        meta |= _facts(truth, films[4], films[2 + sick], rig)
    else:
        volume = [float(lung.sum(dtype=np.float64)) * ct.voxel_ml for lung in lungs]
        meta |= {"volumes_ml": {"right_lung": volume[0], "left_lung": volume[1], "air": 0.0}}
    return FilmSample(films[0], films[1], maps, np.ascontiguousarray(films[2:4].transpose(1, 0, 2, 3)), meta)


def _lungs(chest: ChestAir, truth: Truth | None) -> tuple[Mask, Mask]:
    """The healthy lungs; of a chest whose mediastinum was pushed, the labels know where the other lung lies now."""
    if truth is None:
        return chest.right, chest.left
    return np.asarray(truth.labels == 1), np.asarray(truth.labels == 2)


def _share(mask: Mask) -> Floats:
    return mask.astype(np.float32)


def _facts(truth: Truth, air: NDArray[np.float32], lung: NDArray[np.float32], rig: FilmRig) -> dict[str, Any]:
    """What is known of a planted pneumothorax, JSON values."""
    voxel_ml = float(np.prod(rig.spacing)) / 1000.0
    pushed = {} if truth.carina is None or truth.settings.tension == 0 else {"carina": truth.carina}
    return {
        "kind": "pneumothorax",
        "landmarks": on_films(pushed, rig.middle, rig.spacing, rig.views),
        "planting": asdict(truth.settings),
        "volumes_ml": {
            **{key: round(value, 2) for key, value in asdict(truth.volumes_ml).items()},
            "air_share": round(float(truth.shares.air.sum(dtype=np.float64)) * voxel_ml, 2),
        },
        "occupancy": {key: round(value, 5) for key, value in asdict(truth.occupancy).items()},
        "depth_mm": round(truth.max_depth_mm, 2),
        "film_width_mm": [film_width_mm(*maps) for maps in zip(air, lung, rig.views, strict=True)],
    }


def _planted(chest: PlantableChest, rng: np.random.Generator) -> tuple[Volume, Truth]:
    """A pneumothorax; where one does not fit, the next draw."""
    problem: InputError | None = None
    for _ in range(2 * _TRIES):
        settings = sample_planting(rng)
        try:
            return plant_pneumothorax(chest.ct, prepared=chest, **asdict(settings))
        except InputError as error:
            problem = error
    assert problem is not None
    raise problem


def _with_confounders(
    ct: Volume, chest: ChestAir, rng: np.random.Generator, *, bullae: bool
) -> tuple[Volume, list[str]]:
    """One or two confounders; those that do not fit are left out."""
    names = list(_CONFOUNDERS if bullae else [name for name in _CONFOUNDERS if name != "bulla"])
    chosen = rng.permutation(names)[: int(rng.integers(1, 3))]
    planted = []
    for name in chosen:
        try:
            ct = _CONFOUNDERS[str(name)](ct, chest, rng)
        except InputError:
            continue
        planted.append(str(name))
    return ct, planted


def _side(rng: np.random.Generator) -> str:
    return "right" if rng.random() < 0.5 else "left"


def _bulla(ct: Volume, chest: ChestAir, rng: np.random.Generator) -> Volume:
    volume = float(np.exp(rng.uniform(np.log(8.0), np.log(250.0))))
    return plant_bulla(ct, side=_side(rng), volume_ml=volume, seed=int(rng.integers(2**31)), chest=chest)[0]


def _emphysema(ct: Volume, chest: ChestAir, rng: np.random.Generator) -> Volume:
    volume, seed = float(rng.uniform(15.0, 250.0)), int(rng.integers(2**31))
    return plant_subcutaneous_emphysema(ct, side=_side(rng), volume_ml=volume, seed=seed, chest=chest)[0]


def _stomach(ct: Volume, chest: ChestAir, rng: np.random.Generator) -> Volume:
    volume, wall = float(rng.uniform(30.0, 400.0)), float(rng.uniform(1.5, 8.0))
    return plant_stomach_gas(ct, volume_ml=volume, wall_mm=wall, seed=int(rng.integers(2**31)), chest=chest)[0]


_CONFOUNDERS: Mapping[str, Callable[[Volume, ChestAir, np.random.Generator], Volume]] = {
    "bulla": _bulla,
    "subcutaneous_emphysema": _emphysema,
    "stomach_gas": _stomach,
}
