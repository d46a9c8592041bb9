"""A trained network as a model of `reconstruct`: its volume where it looked, the mean chest beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xrecon.errors import CheckpointError
from xrecon.films.network_film import network_film
from xrecon.geometry import FRAME_MM
from xrecon.models.checkpoint import INFORMATION_NAME, ModelInformation, load_model
from xrecon.models.config import HU_OFFSET, HU_SCALE
from xrecon.models.generator import Generator
from xrecon.models.inference import Precision, run
from xrecon.priors.deformation import DeformedChest
from xrecon.priors.films import FilmPair
from xrecon.priors.warp import Grid, sample

SHIPPED = {"xrecon": "xrecon-64-v1"}
"""Networks that come with the package: name, and folder among the assets."""


@dataclass(frozen=True)
class NetworkModel:
    """A generator that was trained, and what its model.json says.

    Attributes:
        network: in evaluation mode.
        information: name, training data, metrics, hash.
    """

    network: Generator
    information: ModelInformation

    @property
    def size(self) -> int:
        """Pixels per film edge and voxels per volume edge of the network."""
        return int(self.network.config.size)

    @property
    def remark(self) -> str:
        """One line for people: its voxels, and on how many patients it was trained."""
        trained = self.information.training_data.split(":")[0]
        return (
            f"{self.information.name} computes {self.size}^3 voxels of {FRAME_MM / self.size:.2g} mm, finer ones are "
            f"interpolated; trained on {trained}"
        )

    def summary(self) -> Mapping[str, Any]:
        """What a result says of the network."""
        told = self.information
        return {
            "name": told.name,
            "size": self.size,
            "parameters": told.parameters,
            "training_data": told.training_data,
            "licence": told.licence,
            "metrics": dict(told.metrics),
        }


@dataclass(frozen=True)
class NetworkChest:
    """The volume of a network, drawable on any grid.

    Attributes:
        hu_volume: [S, S, S] HU on the network's own voxels of the cube.
        beside: the mean chest: what lies beside the cube also shadows the films.
    """

    hu_volume: Tensor
    beside: DeformedChest

    def hu(self, grid: Grid) -> Tensor:
        """[D, H, W] HU on `grid`."""
        spacing = FRAME_MM / self.hu_volume.shape[0]
        positions = grid.positions_mm().to(self.hu_volume.device)
        own = sample(self.hu_volume[None], positions, spacing)[0]
        inside = (positions.abs() <= FRAME_MM / 2).all(dim=-1)
        return own if bool(inside.all()) else torch.where(inside, own, self.beside.hu(grid))

    def deviation(self, grid: Grid) -> Tensor:
        """[D, H, W] HU: that of registered chests; the network does not state its own."""
        return self.beside.deviation(grid)


def network_folder(model: str) -> Path | None:
    """Where a network lies: shipped under this name, or the folder (or model.json) of a trained one; None for neither.

    A folder of one's own that has a shipped name is `./NAME`.
    """
    if model in SHIPPED:
        return Path(str(resources.files("xrecon") / "assets" / SHIPPED[model]))
    given = Path(model)
    return given if (given / INFORMATION_NAME).is_file() or given.name == INFORMATION_NAME else None


def load_network(model: str | os.PathLike[str], *, device: torch.device) -> NetworkModel:
    """The network of a folder written by `xrecon train` or `xrecon models import`.

    Raises:
        CheckpointError: absent, damaged, or not a generator of two films in the frame of 384 mm.
    """
    network, information = load_model(model, device=device, dtype=torch.float32)
    if not isinstance(network, Generator):
        raise CheckpointError(
            f"{model}: holds a {information.family}, which makes no CT; give the folder of a generator"
        )
    if abs(information.frame_mm - FRAME_MM) > 1e-6:
        raise CheckpointError(
            f"{model}: was trained on a cube of {information.frame_mm:g} mm, `reconstruct` frames {FRAME_MM:g} mm"
        )
    return NetworkModel(network, information)


def draw_network(
    model: NetworkModel, pair: FilmPair, mean: DeformedChest, *, device: torch.device, precision: Precision = "float32"
) -> NetworkChest:
    """What the network sees in the films; gain and offset of the films do not matter (`network_film`)."""
    images = [torch.from_numpy(network_film(film.image)) for film in pair.radiographs(model.size)]
    pa, lateral = (image[None, None].to(device) for image in images)
    volume = run(model.network, pa, lateral, precision=precision)[0, 0].clamp(0, 1)
    return NetworkChest(volume * HU_SCALE - HU_OFFSET, mean)
