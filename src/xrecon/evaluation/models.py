"""Which models an evaluation compares: the built-in ones by name, trained networks by folder; and results on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from xrecon import __version__
from xrecon.data.case_file import read_case
from xrecon.data.dataset import PreparedCase, PreparedDataset
from xrecon.errors import InputError
from xrecon.inference.models import baseline_names, find_model, model_names
from xrecon.inference.protocol import ReconstructionModel
from xrecon.inference.reconstruct import reconstruct
from xrecon.inference.result import Reconstruction
from xrecon.io.guards.files import sha256_of
from xrecon.models.checkpoint import INFORMATION_NAME
from xrecon.priors.framing import FramedChest, frame_chest
from xrecon.radiograph import Radiograph

BANK_MODEL = "deform+bank"
"""`deform` with a bank: the train cases of the data set."""


@dataclass(frozen=True)
class ModelChoice:
    """One model of an evaluation.

    Attributes:
        label: how tables and files call it.
        model: what `reconstruct` is given: a name or a folder.
        digest: changes when the model does: hash of the network's model.json (which holds that of its weights), or the
            version of xrecon.
        bank: cases of other patients that are fitted one by one beside the prior; empty for none.
    """

    label: str
    model: str
    digest: str
    bank: tuple[PreparedCase, ...] = ()

    def run(
        self, films: tuple[Radiograph, Radiograph], *, size: int, assets: str | os.PathLike[str] | None, seed: int
    ) -> Reconstruction:
        """Reconstruct a pair of films. Raises as `reconstruct`."""
        bank = [_on_shelf(case.name, case.path) for case in self.bank] or None
        return reconstruct(*films, model=self.model, size=size, bank=bank, assets=assets, seed=seed)


@lru_cache(maxsize=256)
def _on_shelf(name: str, path: Path) -> FramedChest:
    """A case of a bank: framed once per process, whatever the number of films."""
    return frame_chest(name, read_case(path).volume())


def bank_for(names: Sequence[str], folder: Path | None, subset: str) -> tuple[PreparedCase, ...]:
    """The bank of `BANK_MODEL` if it is among the names: the train cases of a prepared data set.

    Args:
        names: of models.
        folder: the data set; None where CT files are given instead.
        subset: that is evaluated.

    Raises:
        InputError: there is no data set, or the train cases themselves are evaluated.
    """
    if BANK_MODEL not in names:
        return ()
    if folder is None or subset == "train":
        raise InputError(
            f"{BANK_MODEL}: its bank are the train cases of a data set of `xrecon prepare`, and only test cases can be "
            "reconstructed with them; give such a data set, or leave the model out"
        )
    return PreparedDataset(folder, "train").cases


def choose_models(
    names: Sequence[str],
    *,
    assets: str | os.PathLike[str] | None = None,
    baselines: Sequence[str] | None = None,
    bank: Sequence[PreparedCase] = (),
) -> tuple[ModelChoice, ...]:
    """The models by name or folder, after the `baselines` that every table shows, each once.

    Args:
        names: of the table of models (`xrecon.inference.models`), or folders that hold a trained network.
        assets: priors file that the built-in models use; None for the shipped one.
        baselines: names; None for those of the table of models.
        bank: cases of `BANK_MODEL`, see `bank_for`.

    Raises:
        InputError: the bank is empty, neither a known name nor the folder of a network, or two folders of one name.
    """
    prior = f"xrecon {__version__}" + ("" if assets is None else f" {sha256_of(Path(assets))}")
    chosen: dict[str, ModelChoice] = {}
    for name in (*(baseline_names() if baselines is None else baselines), *names):
        entry = find_model(name)
        choice = _choice(entry, prior, tuple(bank))
        other = chosen.setdefault(choice.label, choice)
        if other.model != choice.model:
            raise InputError(
                f"two models are called {choice.label!r}: {other.model} and {choice.model}; rename one of the folders"
            )
    return tuple(chosen.values())


def _choice(entry: ReconstructionModel, prior: str, bank: tuple[PreparedCase, ...]) -> ModelChoice:
    """A model of the table, or a network by its folder, with a digest of everything that it was learned from."""
    folder = entry.needs.network
    if folder is None:
        label, model, digest = entry.name, entry.name, f"{prior} {entry.name}"
    else:
        label = entry.name if entry.name in model_names() else folder.resolve().name
        model, digest = str(folder), f"{prior} {sha256_of(folder / INFORMATION_NAME)}"
    if not entry.needs.bank:
        return ModelChoice(label, model, digest)
    if not bank:
        raise InputError(f"{entry.name} needs cases of other patients")
    shelf = hashlib.sha256(" ".join(case.record.sha256 for case in bank).encode()).hexdigest()
    return ModelChoice(label, model, f"{digest} {shelf}", bank)
