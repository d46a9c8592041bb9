"""Trained networks in the table of models: those that come with the package by name, all others by their folder."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from xrecon.inference.protocol import FitTask, Needs, ReadyModel


@dataclass(frozen=True)
class TrainedNetwork:
    """A generator that `xrecon train` or `xrecon models import` wrote.

    Attributes:
        name: that of a shipped network, or the folder as it was given.
        folder: where model.safetensors and model.json lie.
        summary: one sentence for people.
    """

    name: str
    folder: Path
    summary: str = "A network that was trained with `xrecon train`."
    is_baseline = False

    @property
    def needs(self) -> Needs:
        """Its folder."""
        return Needs(network=self.folder)

    def ready(self, task: FitTask) -> ReadyModel:
        """Load the network and run it. Once is enough, however the films are calibrated: it normalises them itself."""
        from xrecon.inference.network_model import draw_network, load_network
        from xrecon.priors.deformation import mean_chest

        network = load_network(self.folder, device=task.device)
        task.progress(f"running the network {network.remark}")
        mean = mean_chest(task.asset.prior)
        chest = draw_network(network, task.films, mean, device=task.device, precision=task.precision)
        return ReadyModel(
            lambda _: chest,
            label=network.information.name,
            sha256=network.information.sha256,
            remark=f"network {network.remark}",
            network=network.summary(),
        )


def shipped_network(name: str, folder: str, *, summary: str) -> TrainedNetwork:
    """A network that comes with the package, in this folder among its assets."""
    return TrainedNetwork(name, Path(str(resources.files("xrecon") / "assets" / folder)), summary)


def network_in(path: str) -> TrainedNetwork | None:
    """The network of a folder, or of the model.json in it; None where there is none."""
    from xrecon.models.checkpoint import INFORMATION_NAME

    folder = Path(path)
    if folder.name == INFORMATION_NAME:
        return TrainedNetwork(path, folder.parent)
    return TrainedNetwork(path, folder) if (folder / INFORMATION_NAME).is_file() else None
