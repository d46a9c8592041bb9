"""Two films to what the film networks see in them: maps of free air and lung along every ray, and figures by side."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from xrecon.environment import one_thread
from xrecon.errors import CheckpointError, InputError
from xrecon.films.local_contrast import local_contrast
from xrecon.films.thickness_maps import SIDES
from xrecon.geometry import FRAME_MM, VIEWS, ConeBeam
from xrecon.models.checkpoint import load_model
from xrecon.models.film_network import FilmNet
from xrecon.radiograph import Radiograph

SHIPPED = "films-v1"
"""Folder of the networks that come with the package, among its assets."""


@dataclass(frozen=True, eq=False)
class FilmFindings:
    """What the film networks say of one patient. Sides in the order right, left.

    Attributes:
        views: names of the films that were seen, "pa" and "lateral" or one of them.
        geometry: of the maps, one per view.
        air_probability: [views, 2 sides, rows, cols] float32, 0..1, that the ray meets free pleural air.
        air_mm: the same shape, length of free air along the ray where there is any, mm.
        lung_mm: the same shape, length of lung along the ray, mm.
        presence: probability of free air by side, 0..1; None for networks without that head.
        model_sha256: digest of the weights.
    """

    views: tuple[str, ...]
    geometry: tuple[ConeBeam, ...]
    air_probability: NDArray[np.float32]
    air_mm: NDArray[np.float32]
    lung_mm: NDArray[np.float32]
    presence: tuple[float, float] | None
    model_sha256: str

    @property
    def expected_air_mm(self) -> NDArray[np.float32]:
        """[views, 2 sides, rows, cols] length of free air times its probability, mm."""
        return np.asarray(self.air_mm * self.air_probability, dtype=np.float32)

    @property
    def air_ml(self) -> dict[str, float]:
        """Free air by side, mean of the views, mL."""
        return self._volumes_ml(self.expected_air_mm)

    @property
    def lung_ml(self) -> dict[str, float]:
        """Lung by side, mean of the views, mL."""
        return self._volumes_ml(self.lung_mm)

    @property
    def occupancy(self) -> dict[str, float]:
        """Share of free air, 0..1, of the right and left hemithorax and of the whole chest (`whole_chest`)."""
        air, lung = self.air_ml, self.lung_ml
        parts = {side: (air[side], lung[side]) for side in SIDES}
        parts["whole_chest"] = (sum(air.values()), sum(lung.values()))
        return {name: a / (a + b) if a + b > 0 else 0.0 for name, (a, b) in parts.items()}

    def _volumes_ml(self, lengths_mm: NDArray[np.float32]) -> dict[str, float]:
        """Volumes behind length maps, as if all lay at the isocentre."""
        areas = np.array([np.prod(view.pixel_at_isocentre_mm) for view in self.geometry])
        volumes = (lengths_mm.sum(axis=(-2, -1), dtype=np.float64) * areas[:, None]).mean(axis=0) / 1000.0
        return {side: float(volume) for side, volume in zip(SIDES, volumes, strict=True)}


def networks_folder(networks: str | os.PathLike[str]) -> Path:
    """The folder of film networks: "default" is that of the shipped ones; any other name is a folder itself."""
    if os.fspath(networks) == "default":
        return Path(str(resources.files("xrecon") / "assets" / SHIPPED))
    return Path(networks)


def film_findings(films: Mapping[str, Radiograph], model: str | os.PathLike[str]) -> FilmFindings:
    """What the film networks see in the films of a patient.

    Args:
        films: by view, "pa" and "lateral"; a film that the network does not see is ignored.
        model: folder of `xrecon train films` (model.safetensors and model.json).

    Raises:
        InputError: a film that the network needs is missing, or shows another view than its name.
        CheckpointError: the folder holds no film networks, or damaged ones.

    Example:
        >>> findings = film_findings({"pa": pa, "lateral": lateral}, "film-run")
        >>> findings.air_ml["right"], findings.occupancy["whole_chest"]
    """
    network, information = load_model(model, dtype=torch.float32)
    if not isinstance(network, FilmNet):
        raise CheckpointError(
            f"{model}: weights of the family {information.family!r}, expected film networks; give a folder of "
            "`xrecon train films`"
        )
    names = network.config.views
    size = round(FRAME_MM / network.config.pixel_mm)
    geometry = tuple(ConeBeam.preset("chest", name, size=size) for name in names)
    images = [_image(films, name, view) for name, view in zip(names, geometry, strict=True)]
    with one_thread(), torch.inference_mode():
        stack = torch.from_numpy(np.stack(images))[None]
        contrast = local_contrast(stack, network.config.pixel_mm, scales_mm=network.config.scales_mm)
        maps = network(contrast)
    presence = None
    if maps.presence_logit is not None:
        right, left = maps.presence_logit[0].sigmoid().tolist()
        presence = (right, left)
    return FilmFindings(
        views=names,
        geometry=geometry,
        air_probability=maps.air_logit[0].sigmoid().numpy(),
        air_mm=maps.air_mm[0].numpy(),
        lung_mm=maps.lung_mm[0].numpy(),
        presence=presence,
        model_sha256=information.sha256,
    )


def _image(films: Mapping[str, Radiograph], name: str, geometry: ConeBeam) -> NDArray[np.float32]:
    """[rows, cols] the film of a view on the network's detector. Raises InputError."""
    if name not in films:
        expected = " and ".join(VIEWS)
        raise InputError(f"the film networks need the {name} film, got {', '.join(films) or 'none'}; give {expected}")
    film = films[name]
    if film.view != name:
        raise InputError(f"the film given as {name} is a {film.view} film; exchange the films")
    return film.resampled(geometry).image
