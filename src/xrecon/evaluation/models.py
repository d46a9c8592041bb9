"""Which models an evaluation compares, each with a digest that tells its results from those of any other model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from xrecon import __version__
from xrecon.anatomy.orientation import with_orientation_notes
from xrecon.data.case_file import read_case
from xrecon.data.dataset import PreparedCase
from xrecon.errors import InputError
from xrecon.evaluation.case_set import CaseSet
from xrecon.evaluation.cases import CaseSource
from xrecon.films.film_calibration import CALIBRATION_NAME
from xrecon.inference.film_findings import networks_folder
from xrecon.inference.models import baseline_names, find_model, model_names
from xrecon.inference.protocol import ReconstructionModel
from xrecon.inference.reconstruct import reconstruct
from xrecon.inference.result import Reconstruction
from xrecon.inference.with_films import FILMS_SUFFIX
from xrecon.io.guards.files import sha256_of
from xrecon.models.checkpoint import INFORMATION_NAME, load_information
from xrecon.priors.framing import FramedChest, frame_chest
from xrecon.radiograph import Radiograph
from xrecon.volume import load_ct


@dataclass(frozen=True)
class ModelChoice:
    """One model of an evaluation.

    Attributes:
        label: how tables and files call it.
        model: what `reconstruct` is given: a name of the table of models, or a folder.
        digest: changes when the model, its priors, its bank or its device does: version of xrecon, hashes of the
            priors, of the network's model.json (which holds that of its weights) and of the bank, device if not cpu.
        bank: cases of other patients that are fitted one by one beside the prior; empty for none.
        device: where it computes.
        film_networks: folder of the film networks of a model that asks them; None for the shipped ones.
    """

    label: str
    model: str
    digest: str
    bank: tuple[CaseSource, ...] = ()
    device: str = "cpu"
    film_networks: str | None = None

    def run(
        self,
        films: tuple[Radiograph, Radiograph],
        *,
        size: int,
        assets: str | os.PathLike[str] | None,
        seed: int,
        case: CaseSource | None = None,
    ) -> Reconstruction:
        """Reconstruct a pair of films.

        Args:
            films: PA and lateral.
            size: voxels per edge.
            assets: priors file; None for the shipped one.
            seed: recorded.
            case: whose films they are: it is never part of its own bank.

        Raises:
            InputError: nothing is left of the bank; and as `reconstruct`.
        """
        bank = [_framed(source) for source in self.bank_without(case)] if self.bank else None
        # Forced: a study may disturb films on purpose, and a data set's films are checked when it is prepared.
        return reconstruct(
            *films,
            model=self.model,
            size=size,
            bank=bank,
            assets=assets,
            device=self.device,
            seed=seed,
            force=True,
            film_networks=self.film_networks,
        )

    def bank_without(self, case: CaseSource | None) -> tuple[CaseSource, ...]:
        """The bank without all cases that have the name or the content of `case`. Raises InputError if none is left."""
        if case is None:
            return self.bank
        others = tuple(other for other in self.bank if other.name != case.name and other.digest != case.digest)
        if not others:
            raise InputError(
                f"{case.name}: no CT of another patient is left for the bank of {self.label}; add train cases"
            )
        return others


def _framed(source: CaseSource) -> FramedChest:
    place = source.place.path if isinstance(source.place, PreparedCase) else source.place
    return _framed_once(source.name, place, source.digest, is_prepared=source.is_prepared)


@lru_cache(maxsize=256)
def _framed_once(name: str, path: Path, digest: str, *, is_prepared: bool) -> FramedChest:  # noqa: ARG001 (of the key)
    """A case of a bank: framed once per process, whatever the number of films."""
    return frame_chest(name, read_case(path).volume() if is_prepared else with_orientation_notes(load_ct(path), path))


def bank_for(names: Sequence[str], cases: CaseSet) -> tuple[CaseSource, ...]:
    """The bank of the models that need one, the train cases beside the evaluated ones; empty if no model needs one.

    Args:
        names: of models.
        cases: that are evaluated.

    Raises:
        InputError: an unknown model, or there are no train cases that may serve.
    """
    users = [name for name in names if find_model(name).needs.bank]
    if not users:
        return ()
    try:
        return cases.bank()
    except InputError as error:
        raise InputError(f"{', '.join(users)}: {error}") from error


def choose_models(
    names: Sequence[str],
    *,
    assets: str | os.PathLike[str] | None = None,
    baselines: Sequence[str] | None = None,
    bank: Sequence[CaseSource] = (),
    device: str = "cpu",
    film_networks: str | os.PathLike[str] = "default",
) -> tuple[ModelChoice, ...]:
    """The models by name or folder, after the `baselines`, each once.

    Args:
        names: of the table of models (`xrecon.inference.models`), or folders that hold a trained network.
        assets: priors file that all models use; None for the shipped one.
        baselines: names; None for those of the table of models.
        bank: of the models that need one, see `bank_for`.
        device: where they compute.
        film_networks: what models with "+films" ask: "default" (the shipped ones), or a folder.

    Raises:
        InputError: the bank is empty, neither a known name nor the folder of a network, or two folders of one name.
    """
    prior = f"xrecon {__version__}" + ("" if assets is None else f" {sha256_of(Path(assets))}")
    chosen: dict[str, ModelChoice] = {}
    for name in (*(baseline_names() if baselines is None else baselines), *names):
        choice = _choice(find_model(name), prior, tuple(bank), device, networks_folder(film_networks))
        other = chosen.setdefault(choice.label, choice)
        if other.model != choice.model:
            raise InputError(
                f"two models are called {choice.label!r}: {other.model} and {choice.model}; rename one of the folders"
            )
    return tuple(chosen.values())


def _choice(
    entry: ReconstructionModel, prior: str, bank: tuple[CaseSource, ...], device: str, film_networks: Path
) -> ModelChoice:
    """A model of the table, or a network by its folder, with a digest of everything that its results depend on."""
    folder = entry.needs.network
    if folder is None:
        label, model, digest = entry.name, entry.name, f"{prior} {entry.name}"
    else:
        suffix = FILMS_SUFFIX if entry.needs.films else ""
        is_shipped = entry.name.removesuffix(FILMS_SUFFIX) in model_names()
        label = entry.name if is_shipped else folder.resolve().name + suffix
        # Absolute, as a folder ./atlas is not the model atlas of the table.
        model, digest = str(folder.absolute()) + suffix, f"{prior} {sha256_of(folder / INFORMATION_NAME)}"
    if entry.needs.films:
        load_information(film_networks)  # raises where there are none
        digest += f" films {sha256_of(film_networks / INFORMATION_NAME)}"
        if (film_networks / CALIBRATION_NAME).is_file():
            digest += f" {sha256_of(film_networks / CALIBRATION_NAME)}"
    if entry.needs.bank:
        if not bank:
            raise InputError(f"{entry.name} needs cases of other patients")
        digest += f" {hashlib.sha256(' '.join(case.digest for case in bank).encode()).hexdigest()}"
    if device != "cpu":
        digest += f" {device}"  # other devices round otherwise
    networks = str(film_networks.absolute()) if entry.needs.films else None
    return ModelChoice(label, model, digest, bank if entry.needs.bank else (), device, networks)
