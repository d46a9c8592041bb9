"""A population of analytic thoraces: habitus and disease by the seed, each member independent of how many there are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.phantoms.parameters import ThoraxParameters
from xrecon.phantoms.thorax import Phantom, thorax_phantom
from xrecon.planting.confounders import plant_bulla, plant_subcutaneous_emphysema
from xrecon.volume import Volume

_OCCUPANCY = (0.02, 0.6)
"""Share of the hemithorax that a pneumothorax fills: log-uniform, so that small ones are common."""
_BULLA_ML = (20.0, 200.0)
_EMPHYSEMA_ML = (50.0, 400.0)
_MEASURE = (48, 8.0)
"""Grid (voxels, mm) on which the lungs are measured before the size of a pneumothorax is drawn."""


@dataclass(frozen=True)
class Disease:
    """Share of the population with each disease, 0..1, drawn independently; a bulla only without a pneumothorax."""

    pneumothorax: float = 0.4
    bulla: float = 0.1
    subcutaneous_emphysema: float = 0.05

    def __post_init__(self) -> None:
        for name in ("pneumothorax", "bulla", "subcutaneous_emphysema"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"the share of {name} must be 0..1, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class PopulationMember:
    """A person of the population.

    Attributes:
        number: 0-based.
        volume: HU; synthetic.
        labels: [D, H, W] uint8: 1 right lung, 2 left lung, 3 free pleural air.
        parameters: of the thorax.
        disease: side and name, such as "right bulla" -> mL; empty for a healthy person.
    """

    number: int
    volume: Volume
    labels: NDArray[np.uint8]
    parameters: ThoraxParameters
    disease: dict[str, float]


def population_member(
    number: int, *, seed: int = 0, size: int = 128, spacing_mm: float = 3.0, disease: Disease | None = None
) -> PopulationMember:
    """Person `number` of the population of a seed; the same whatever else is made.

    Raises:
        InputError: size or spacing as `thorax_phantom`; a negative number.
    """
    if number < 0:
        raise InputError(f"members of a population are numbered from 0, got {number}")
    rng = np.random.default_rng([seed, number])
    shares = disease or Disease()
    habitus = ThoraxParameters.sample(rng)
    draws = rng.random(3)
    side = "right" if rng.random() < 0.5 else "left"
    occupancy = math.exp(rng.uniform(*np.log(_OCCUPANCY)))
    bulla_ml = math.exp(rng.uniform(*np.log(_BULLA_ML)))
    emphysema_ml = math.exp(rng.uniform(*np.log(_EMPHYSEMA_ML)))
    disease_ml: dict[str, float] = {}
    if draws[0] < shares.pneumothorax:
        phantom, ml = _with_pneumothorax(habitus, side, occupancy, size=size, spacing_mm=spacing_mm)
        disease_ml[f"{side} pneumothorax"] = ml
    else:
        phantom = thorax_phantom(size, spacing_mm, parameters=habitus)
    volume = phantom.volume
    if draws[1] < shares.bulla and not disease_ml:
        volume = _planted(plant_bulla, volume, f"{side} bulla", ml=bulla_ml, rng=rng, disease_ml=disease_ml)
    if draws[2] < shares.subcutaneous_emphysema:
        name = f"{side} subcutaneous emphysema"
        volume = _planted(plant_subcutaneous_emphysema, volume, name, ml=emphysema_ml, rng=rng, disease_ml=disease_ml)
    rounded = {name: round(ml, 1) for name, ml in disease_ml.items()}
    return PopulationMember(number, volume, phantom.labels, phantom.parameters, rounded)


def _with_pneumothorax(
    habitus: ThoraxParameters, side: str, occupancy: float, *, size: int, spacing_mm: float
) -> tuple[Phantom, float]:
    """The thorax with this share of its hemithorax filled with air: less where so much does not fit, more
    where it is too small to draw."""
    healthy = thorax_phantom(*_MEASURE, parameters=replace(habitus, noise_hu=0.0))
    lung_ml = healthy.label_ml(1 if side == "right" else 2)
    error: InputError | None = None
    for factor in (1.0, 0.7, 0.5, 2.0, 4.0):
        ml = lung_ml * min(occupancy * factor, _OCCUPANCY[1])
        try:
            sick = replace(habitus, pneumothorax_side=side, pneumothorax_ml=ml)  # type: ignore[arg-type]
            return thorax_phantom(size, spacing_mm, parameters=sick), ml
        except InputError as problem:
            error = problem
    assert error is not None
    raise error


def _planted(
    plant: Callable[..., tuple[Volume, NDArray[np.bool_]]],
    volume: Volume,
    name: str,
    *,
    ml: float,
    rng: np.random.Generator,
    disease_ml: dict[str, float],
) -> Volume:
    """The volume with gas of `ml`, or of less where so much does not fit, or without any; notes it in `disease_ml`."""
    seed = int(rng.integers(2**31))
    for share in (1.0, 0.5, 0.25):
        try:
            sick, gas = plant(volume, side=name.partition(" ")[0], volume_ml=share * ml, seed=seed)
        except InputError:
            continue
        disease_ml[name] = float(gas.sum()) * volume.voxel_ml
        return sick
    return volume
