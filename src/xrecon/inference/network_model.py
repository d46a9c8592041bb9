"""A trained network on two films: its volume inside the cube that it computes, the mean chest beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xrecon.errors import CheckpointError
from xrecon.films.normalisation import network_film
from xrecon.geometry import FRAME_MM
from xrecon.models.checkpoint import ModelInformation, load_model
from xrecon.models.config import HU_OFFSET, HU_SCALE
from xrecon.models.generator import Generator
from xrecon.models.precision import Precision, run
from xrecon.priors.deformation import DeformedChest
from xrecon.priors.films import FilmPair
from xrecon.warp import Grid, sample


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
        """The facts about the network that a result carries."""
        return {
            "name": self.information.name,
            "size": self.size,
            "parameters": self.information.parameters,
            "training_data": self.information.training_data,
            "licence": self.information.licence,
            "metrics": dict(self.information.metrics),
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
        hu = sample(self.hu_volume[None], positions, spacing)[0]
        inside = (positions.abs() <= FRAME_MM / 2).all(dim=-1)
        return hu if bool(inside.all()) else torch.where(inside, hu, self.beside.hu(grid))

    def deviation(self, grid: Grid) -> Tensor:
        """[D, H, W] HU: that of registered chests; the network does not state its own."""
        return self.beside.deviation(grid)


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
    """Run the network on the films; their gain and offset do not matter (see `network_film`).

    Args:
        model: the network.
        pair: PA and lateral film.
        mean: the mean chest, for what lies beside the network's cube.
        device: where to compute.
        precision: of the convolutions.
    """
    images = [torch.from_numpy(network_film(film.image)) for film in pair.radiographs(model.size)]
    pa, lateral = (image[None, None].to(device) for image in images)
    volume = run(model.network, pa, lateral, precision=precision)[0, 0].clamp(0, 1)
    return NetworkChest(volume * HU_SCALE - HU_OFFSET, mean)
