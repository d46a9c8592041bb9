"""Films that are not what a model was told, one disturbance at a time.

The geometry that the model is told stays the nominal one. Disturbances of the rig are projected anew; the part of the
film that comes from outside the cube is kept as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.errors import InputError
from xrecon.evaluation.cases import Films, beams_of
from xrecon.geometry import ConeBeam
from xrecon.priors.asset import load_priors
from xrecon.priors.deformation import mean_chest
from xrecon.projector.attenuation import hu_to_mu
from xrecon.projector.operator import project
from xrecon.radiograph import Radiograph
from xrecon.volume import Volume
from xrecon.warp import Grid

Images = tuple[NDArray[np.float32], NDArray[np.float32]]

LEVELS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "angle": (1.0, 2.0, 5.0, 10.0),
        "distance": (2.0, 5.0, 10.0, 20.0),
        "rotation": (1.0, 2.0, 5.0, 10.0),
        "shift": (2.0, 5.0, 10.0, 20.0),
        "noise": (0.01, 0.05, 0.2),
        "gain": (0.9, 0.95, 1.05, 1.1),
        "gamma": (0.8, 0.9, 1.1, 1.25),
        "crop": (5.0, 10.0, 20.0),
        "mirror": (1.0,),
        "swap": (1.0,),
        "missing": (1.0,),
    }
)
"""Disturbance -> levels. The undisturbed films are always run, too."""

MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "angle": "lateral rig turned further, degrees",
        "distance": "focal spot further away than told, % of the distance to the isocentre",
        "rotation": "both films turned in their own plane, degrees",
        "shift": "PA film moved sideways, mm at the isocentre",
        "noise": "Gaussian noise, standard deviation of the line integral",
        "gain": "line integrals multiplied by",
        "gamma": "line integrals (over their maximum) to the power of",
        "crop": "border of both films without signal, % of the edge on each side",
        "mirror": "PA film mirrored (1)",
        "swap": "films exchanged (1)",
        "missing": "lateral film replaced by that of the mean chest (1)",
    }
)
"""Disturbance -> what its levels are."""


def disturbed(
    films: Films, truth: Volume, *, kind: str, level: float, assets: Path | None = None, seed: int = 0
) -> Films:
    """The films with one disturbance, under the geometry that they had.

    Args:
        films: PA and lateral, line integrals.
        truth: the CT in the frame, centred; for what must be projected anew.
        kind: of `LEVELS`, or "none".
        level: see `MEANINGS`.
        assets: priors whose mean chest stands in for a missing film.
        seed: of the noise.

    Raises:
        InputError: an unknown kind.
    """
    if kind not in (*LEVELS, "none"):
        raise InputError(f"unknown disturbance {kind!r}; choose from {', '.join(LEVELS)}")
    beams = beams_of(films)
    images: Images = (films[0].image, films[1].image)
    if kind in ("angle", "distance", "rotation"):
        images = _with_rig(images, truth, beams, _moved(beams, kind, level))
    elif kind == "missing":
        images = (images[0], _mean_lateral(truth, beams, assets))
    elif kind != "none":
        images = _PLAIN[kind](images, level, beams, seed)
    pa, lateral = (
        Radiograph(np.ascontiguousarray(image, dtype=np.float32), film.view, film.geometry, quantity=film.quantity)
        for image, film in zip(images, films, strict=True)
    )
    return pa, lateral


def _moved(beams: tuple[ConeBeam, ConeBeam], kind: str, level: float) -> tuple[ConeBeam, ConeBeam]:
    if kind == "angle":
        return beams[0], beams[1].moved(angle_deg=level)
    if kind == "rotation":
        return beams[0].moved(roll_deg=level), beams[1].moved(roll_deg=level)
    pa, lateral = (
        replace(
            beam,
            source_to_isocentre_mm=beam.source_to_isocentre_mm * (1 + level / 100),
            source_to_detector_mm=beam.source_to_detector_mm + beam.source_to_isocentre_mm * level / 100,
        )
        for beam in beams
    )
    return pa, lateral


def _with_rig(images: Images, truth: Volume, nominal: Sequence[ConeBeam], real: Sequence[ConeBeam]) -> Images:
    mu = hu_to_mu(torch.from_numpy(np.array(truth.hu)))[None, None]
    before, after = (project(mu, truth.spacing_mm, list(beams))[0].numpy() for beams in (nominal, real))
    pa, lateral = (image + b - a for image, a, b in zip(images, before, after, strict=True))
    return pa, lateral


def _mean_lateral(truth: Volume, beams: Sequence[ConeBeam], assets: Path | None) -> NDArray[np.float32]:
    spacing = truth.spacing_mm[0]
    with torch.no_grad():
        mu = hu_to_mu(mean_chest(load_priors(assets).prior).hu(Grid(truth.shape, spacing)))
        return np.asarray(project(mu.float()[None, None], spacing, beams[1])[0, 0].numpy())


def _shift(images: Images, level: float, beams: tuple[ConeBeam, ConeBeam], _: int) -> Images:
    pixels = level / beams[0].pixel_at_isocentre_mm[1]
    return np.asarray(ndimage.shift(images[0], (0.0, pixels), order=1, mode="nearest")), images[1]


def _noise(images: Images, level: float, _: tuple[ConeBeam, ConeBeam], seed: int) -> Images:
    rng = np.random.default_rng(seed)
    pa, lateral = (image + rng.normal(0.0, level, image.shape).astype(np.float32) for image in images)
    return pa, lateral


def _gain(images: Images, level: float, _: tuple[ConeBeam, ConeBeam], __: int) -> Images:
    return images[0] * np.float32(level), images[1] * np.float32(level)


def _gamma(images: Images, level: float, _: tuple[ConeBeam, ConeBeam], __: int) -> Images:
    pa, lateral = (
        (np.clip(image / image.max(), 0.0, None) ** level * image.max()).astype(np.float32) for image in images
    )
    return pa, lateral


def _crop(images: Images, level: float, _: tuple[ConeBeam, ConeBeam], __: int) -> Images:
    def inner(image: NDArray[np.float32]) -> NDArray[np.float32]:
        rows, cols = (round(n * level / 100) for n in image.shape)
        out = np.zeros_like(image)
        window = np.s_[rows : image.shape[0] - rows, cols : image.shape[1] - cols]
        out[window] = image[window]
        return out

    return inner(images[0]), inner(images[1])


_PLAIN: Mapping[str, Callable[[Images, float, tuple[ConeBeam, ConeBeam], int], Images]] = {
    "shift": _shift,
    "noise": _noise,
    "gain": _gain,
    "gamma": _gamma,
    "crop": _crop,
    "mirror": lambda images, *_: (images[0][:, ::-1], images[1]),
    "swap": lambda images, *_: (images[1], images[0]),
}
"""Disturbances of the images alone."""
