"""The models without a network: statistics of registered chests, fitted to the two films."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xrecon.inference.protocol import FitTask, FittedChest, Needs, ReadyModel

if TYPE_CHECKING:
    from xrecon.priors.films import FilmPair

BANK_SUFFIX = "+bank"
"""A model with this suffix is the one without it, with a bank of CTs beside the prior."""


@dataclass(frozen=True)
class Atlas:
    """The mean chest; it does not look at the films."""

    name = "atlas"
    summary = "The mean of the registered chests; the films change it only by what they exclude and by the last sweep."
    needs = Needs()
    is_baseline = True

    def ready(self, task: FitTask) -> ReadyModel:
        """Draw the mean chest once."""
        from xrecon.priors.deformation import mean_chest

        chest = mean_chest(task.asset.prior)
        return _ready(self.name, task, lambda _: chest)


@dataclass(frozen=True)
class LinearModes:
    """Principal components of registered chests, found from the films by ridge regression."""

    name = "pca"
    summary = "Principal components of the registered chests, fitted to the films."
    needs = Needs()
    is_baseline = True

    def ready(self, task: FitTask) -> ReadyModel:
        """Bind the priors and the device."""
        from xrecon.priors.linear import fit_linear

        return _ready(self.name, task, lambda films: fit_linear(task.asset.prior, films, device=task.device))


@dataclass(frozen=True)
class Deformation:
    """The mean chest, deformed and changed in density until it projects to the films."""

    name = "deform"
    summary = "The mean chest, deformed and changed in density until its projections match the films."
    needs = Needs()
    is_baseline = True

    def ready(self, task: FitTask) -> ReadyModel:
        """Bind the priors and the device."""
        from xrecon.priors.deformation import fit_deformation

        return _ready(self.name, task, lambda films: fit_deformation(task.asset.prior, films, device=task.device))


@dataclass(frozen=True)
class DeformationWithBank:
    """The deformed mean chest, averaged with the CTs of other patients that fit the films best."""

    name = Deformation.name + BANK_SUFFIX
    summary = "deform, averaged with those CTs of other patients that match the films best after a fit."
    needs = Needs(bank=True)
    is_baseline = False

    def ready(self, task: FitTask) -> ReadyModel:
        """Bind the priors, the bank and the device."""
        from xrecon.priors.bank import fit_bank
        from xrecon.priors.deformation import fit_deformation

        def fit(films: FilmPair) -> FittedChest:
            template = fit_deformation(task.asset.prior, films, device=task.device)
            return fit_bank(template, task.bank, films, device=task.device, progress=task.progress)

        return _ready(self.name, task, fit)


def _ready(name: str, task: FitTask, fit: Callable[[FilmPair], FittedChest]) -> ReadyModel:
    task.progress(f"fitting {name}")
    return ReadyModel(fit, name, task.asset.sha256)
