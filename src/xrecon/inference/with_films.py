"""Any reconstruction model, with the free pleural air that the film networks see drawn into its CT."""

from __future__ import annotations

from dataclasses import dataclass, replace

from xrecon.inference.protocol import FitTask, Needs, ReadyModel, ReconstructionModel

FILMS_SUFFIX = "+films"
"""A model with this suffix is the one without it, with what the film networks see of free air drawn into its CT."""


@dataclass(frozen=True)
class WithFilmNetworks:
    """A model whose CT gets the air that the shipped film networks see.

    Attributes:
        base: the model without them.
    """

    base: ReconstructionModel
    is_baseline = False

    @property
    def name(self) -> str:
        """That of the model without, and the suffix."""
        return self.base.name + FILMS_SUFFIX

    @property
    def summary(self) -> str:
        """One sentence for people."""
        return f"{self.base.name}, with the free pleural air that the film networks see drawn into the CT."

    @property
    def needs(self) -> Needs:
        """Those of the model, and the film networks."""
        return replace(self.base.needs, films=True)

    def ready(self, task: FitTask) -> ReadyModel:
        """The model itself: the air is drawn when the CT is. Raises as the model."""
        ready = self.base.ready(task)
        return replace(ready, label=ready.label + FILMS_SUFFIX)
