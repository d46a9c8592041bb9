"""One chest, healthy and with a planted pneumothorax: what both film pairs and both reconstructions show of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from xrecon.errors import InputError
from xrecon.evaluation.cases import FilmTaking, ScannedChest
from xrecon.evaluation.metrics.anatomy import ChestVolumes, find_anatomy
from xrecon.inference.film_findings import networks_folder
from xrecon.inference.reconstruct import reconstruct
from xrecon.inference.result import Reconstruction
from xrecon.models.checkpoint import INFORMATION_NAME
from xrecon.planting.pneumothorax import plant_pneumothorax
from xrecon.planting.truth import PlantingSettings
from xrecon.segmentation import Segmentation
from xrecon.volume import Volume

MODEL = "deform+films"
PLANT = PlantingSettings(side="right", occupancy=0.35, seed=1, pattern="upright")
"""The pneumothorax of the story."""
_FILM = FilmTaking(pixels=256, physics="clinical")


@dataclass(frozen=True, eq=False)
class StoryChest:
    """One version of the chest.

    Attributes:
        name: for people.
        truth: the CT on the grid of the reconstruction.
        labels: true lungs and free air on that grid; None for the healthy version.
        occupancy: true share of free air in the whole chest, percent.
        result: reconstruction from the two films, with what the film networks say of them.
        segmentation: PTX-Seg on the reconstruction; None where it refused.
        volumes: what PTX-Seg measures there.
    """

    name: str
    truth: Volume
    labels: Segmentation | None
    occupancy: float
    result: Reconstruction
    segmentation: Segmentation | None
    volumes: ChestVolumes


def pneumothorax_story(
    ct: Volume,
    *,
    size: int,
    assets: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[StoryChest, StoryChest]:
    """The healthy and the sick version of a chest, each filmed on a clinical stand, reconstructed and measured.

    Args:
        ct: a chest without a pneumothorax.
        size: voxels per edge of the reconstruction.
        assets: priors file; default the shipped one.
        device: torch device.
        seed: of the noise on the films.
        progress: called with a line of text at each stage.

    Raises:
        InputError: no lungs in the CT, or the pneumothorax does not fit.
        MissingPartError, CheckpointError: priors or film networks are missing.
    """
    chest = ScannedChest(ct, size=size, film=_FILM, device=device)
    progress("planting a pneumothorax")
    sick, truth = plant_pneumothorax(
        chest.volume, side=PLANT.side, occupancy=PLANT.occupancy, seed=PLANT.seed, pattern=PLANT.pattern
    )
    versions = (
        ("healthy", chest.volume, None, 0.0),
        ("planted pneumothorax", sick, truth, truth.occupancy.whole_chest),
    )
    chests = []
    for number, (name, volume, labels, share) in enumerate(versions):
        progress(f"{name}: films, reconstruction, measurement")
        films = chest.films(volume, seed=seed + number)
        result = reconstruct(*films, model=MODEL, size=size, assets=assets, device=device, seed=seed)
        anatomy = find_anatomy(result.volume)
        on_frame = None if labels is None else chest.truth_on_frame(labels)
        chests.append(
            StoryChest(
                name, chest.on_frame(volume), on_frame, 100.0 * share, result, anatomy.segmentation, anatomy.volumes()
            )
        )
    return chests[0], chests[1]


def has_film_networks() -> bool:
    """Whether the film networks come with this installation."""
    return (networks_folder("default") / INFORMATION_NAME).is_file()


def story_or_note(
    ct: Volume, *, size: int, assets: str | os.PathLike[str] | None, device: str, seed: int,
    progress: Callable[[str], None],
) -> tuple[tuple[StoryChest, StoryChest] | None, str]:  # fmt: skip
    """The story, or None and the reason why there is none."""
    if not has_film_networks():
        return None, "No pneumothorax is shown: the film networks are not installed."
    try:
        return pneumothorax_story(ct, size=size, assets=assets, device=device, seed=seed, progress=progress), ""
    except InputError as error:
        return None, f"No pneumothorax is shown: {error}"
