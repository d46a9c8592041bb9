"""Random films of stored material lengths: another beam, scatter, noise, display and posture each time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from xrecon.data.film_library import FilmSample
from xrecon.geometry import VIEWS, ConeBeam
from xrecon.projector.detector import expose
from xrecon.projector.physics import Blur, FilmPhysics, Heel, Noise, Scatter
from xrecon.projector.spectrum import Beam
from xrecon.training.films.console import shown, toned

_TURN_DEGREES = 6.0
_SCALE = (0.88, 1.14)
_SHIFT_SHARE = 0.06
_ELASTIC_PIXELS = 3.0
_BIN_KEV = 8
"""Of the random beams: fine enough for films whose beam nobody knows, and an eighth of the work."""


@dataclass(frozen=True, eq=False)
class FilmBatchItem:
    """One film pair for the network.

    Attributes:
        films: [2 views, rows, cols], dense tissue bright, any gain and offset.
        air, lung: [2 views, 2 sides, rows, cols] mm.
    """

    films: Tensor
    air: Tensor
    lung: Tensor


def clinical_film(sample: FilmSample, views: tuple[ConeBeam, ConeBeam], *, seed: int) -> FilmBatchItem:
    """The films of a sample as a stand of average settings would have shown them: for validation."""
    physics = FilmPhysics(beam=Beam(), scatter=Scatter(), noise=Noise(), blur=Blur())
    generator = torch.Generator().manual_seed(seed)
    films = _exposed(sample, views, (physics, physics), generator)
    return FilmBatchItem(films, torch.from_numpy(sample.air), torch.from_numpy(sample.lung))


def random_film(sample: FilmSample, views: tuple[ConeBeam, ConeBeam], rng: np.random.Generator) -> FilmBatchItem:
    """The films of a sample with everything drawn at random that a stand and a patient's posture leave open."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    films = _exposed(sample, views, (_physics(rng), _physics(rng)), generator)
    films = torch.stack([toned(film, rng) for film in films])
    stack = torch.cat([films[:, None], torch.from_numpy(sample.air), torch.from_numpy(sample.lung)], dim=1)
    stack = _moved(stack, rng)
    if rng.random() < 0.5:
        stack = mirrored(stack)
    films = torch.stack([shown(stack[k, 0], name, views[k], rng) for k, name in enumerate(VIEWS)])
    return FilmBatchItem(films, stack[:, 1:3].contiguous(), stack[:, 3:5].contiguous())


def mirrored(stack: Tensor) -> Tensor:
    """The mirror image of the patient: the PA film turns over, and right and left change places on both films.

    Args:
        stack: [2 views, channels, rows, cols]; channels film, air right, air left, lung right, lung left.
    """
    pa, lateral = stack[0].flip(-1), stack[1]
    return torch.stack([pa, lateral])[:, [0, 2, 1, 4, 3]]


def _physics(rng: np.random.Generator) -> FilmPhysics:
    has_grid = rng.random() < 0.7
    scatter = Scatter(ratio=float(rng.uniform(0.2, 1.6)), fwhm_mm=float(rng.uniform(50.0, 120.0)), grid=bool(has_grid))
    return FilmPhysics(
        beam=Beam(kvp=float(rng.uniform(80.0, 135.0)), step_kev=_BIN_KEV),
        scatter=scatter if rng.random() < 0.85 else None,
        heel=_heel(rng) if rng.random() < 0.6 else None,
        noise=Noise(exposure=float(np.exp(rng.uniform(np.log(0.8), np.log(10.0))))),
        blur=Blur(detector_fwhm_mm=float(rng.uniform(0.1, 0.8)), focal_spot_mm=float(rng.uniform(0.3, 1.5))),
    )


def _heel(rng: np.random.Generator) -> Heel:
    """Anode at the top or bottom, seldom at a side, with or without the correction of the detector."""
    side = ("top", "bottom", "top", "bottom", "left", "right")[int(rng.integers(6))]
    return Heel.model_validate(
        {"ratio": float(rng.uniform(0.7, 1.0)), "anode_side": side, "flat_field": bool(rng.random() < 0.5)}
    )


def _exposed(
    sample: FilmSample,
    views: tuple[ConeBeam, ConeBeam],
    physics: tuple[FilmPhysics, FilmPhysics],
    generator: torch.Generator,
) -> Tensor:
    films = []
    with torch.inference_mode():
        for k, view in enumerate(views):
            water, bone = torch.from_numpy(sample.water[k]), torch.from_numpy(sample.bone[k])
            films.append(expose(water, bone, physics[k], geometry=view, generator=generator).line_integral)
    return torch.stack(films).clone()


def _moved(stack: Tensor, rng: np.random.Generator) -> Tensor:
    """Both films and their maps, [2 views, channels, rows, cols], turned, scaled, shifted and a little deformed.

    Scale and the shift along the rows' direction (the patient's long axis) are common to both films.
    """
    rows, cols = stack.shape[-2:]
    scale, down = rng.uniform(*_SCALE), rng.uniform(-_SHIFT_SHARE, _SHIFT_SHARE)
    grids = []
    for _ in range(2):
        turn, across = math.radians(rng.uniform(-_TURN_DEGREES, _TURN_DEGREES)), rng.uniform(-0.04, 0.04)
        matrix = torch.tensor(
            [
                [math.cos(turn) / scale, -math.sin(turn) / scale, 2 * across],
                [math.sin(turn) / scale, math.cos(turn) / scale, 2 * down],
            ],
            dtype=torch.float32,
        )
        grids.append(functional.affine_grid(matrix[None], [1, 1, rows, cols], align_corners=False))
    grid = torch.cat(grids)
    knots = torch.from_numpy(rng.standard_normal((2, 2, 6, 6)).astype(np.float32))
    field = functional.interpolate(knots, size=(rows, cols), mode="bicubic", align_corners=True)
    amount = float(rng.uniform(0.0, _ELASTIC_PIXELS)) * 2.0 / rows
    grid = grid + amount * field.permute(0, 2, 3, 1)
    return functional.grid_sample(stack, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
