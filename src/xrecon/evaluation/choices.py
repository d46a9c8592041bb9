"""Which models an evaluation compares: the built-in ones by name, trained networks by folder; and results on disk."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xrecon import __version__
from xrecon.errors import InputError
from xrecon.inference.network_model import SHIPPED, network_folder
from xrecon.inference.reconstruct import MODELS, reconstruct
from xrecon.inference.result import Reconstruction
from xrecon.io.limits import atomic_path, sha256_of
from xrecon.models.checkpoint import INFORMATION_NAME
from xrecon.radiograph import Radiograph


@dataclass(frozen=True)
class ModelChoice:
    """One model of an evaluation.

    Attributes:
        label: how tables and files call it.
        model: what `reconstruct` is given: a name or a folder.
        digest: changes when the model does: hash of the network's model.json (which holds that of its weights), or the
            version of xrecon.
    """

    label: str
    model: str
    digest: str

    def run(
        self, films: tuple[Radiograph, Radiograph], *, size: int, assets: str | os.PathLike[str] | None, seed: int
    ) -> Reconstruction:
        """Reconstruct a pair of films. Raises as `reconstruct`."""
        return reconstruct(*films, model=self.model, size=size, assets=assets, seed=seed)


def choose_models(
    names: Sequence[str], *, assets: str | os.PathLike[str] | None = None, baselines: Sequence[str] = MODELS
) -> tuple[ModelChoice, ...]:
    """The models by name or folder, after the `baselines` that every table shows, each once.

    Args:
        names: of `MODELS`, of the shipped networks, or folders that hold a trained network.
        assets: priors file that the built-in models use; None for the shipped one.
        baselines: of `MODELS`.

    Raises:
        InputError: neither a known name nor the folder of a network, or two folders of one name.
    """
    prior = f"xrecon {__version__}" + ("" if assets is None else f" {sha256_of(Path(assets))}")
    chosen: dict[str, ModelChoice] = {}
    for name in (*baselines, *names):
        if name in MODELS:
            chosen[name] = ModelChoice(name, name, f"{prior} {name}")
            continue
        folder = network_folder(name)
        if folder is None or not (folder / INFORMATION_NAME).is_file():
            known = ", ".join((*MODELS, *SHIPPED))
            raise InputError(
                f"unknown model {name!r}: neither one of {known} nor a folder that holds {INFORMATION_NAME}"
            )
        label = name if name in SHIPPED else folder.resolve().name
        other = chosen.get(label)
        if other is not None and other.model != str(folder):
            raise InputError(f"two models are called {label!r}: {other.model} and {folder}; rename one of the folders")
        chosen[label] = ModelChoice(label, str(folder), f"{prior} {sha256_of(folder / INFORMATION_NAME)}")
    return tuple(chosen.values())


class ResultStore:
    """Results of single cases on disk, so that an evaluation that was stopped goes on where it was.

    A result counts only under the settings that it was made with: their digest is part of its name.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def path(self, name: str, settings: Mapping[str, Any], suffix: str) -> Path:
        """File of a result; `name` may hold `/` for sub-folders, and points, which begin no suffix."""
        text = json.dumps(settings, sort_keys=True, default=str)
        return self.folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}{suffix}"

    def values(self, name: str, settings: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The stored JSON values, or those of `make`, stored for the next time."""
        path = self.path(name, settings, ".json")
        if path.is_file():
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return found
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        # NaN and infinity as such: identical volumes have an infinite PSNR, and None would mean "not measured".
        with atomic_path(path, overwrite=True) as temporary:
            temporary.write_text(json.dumps(made, indent=1), encoding="utf-8")
        return made

    def arrays(
        self, name: str, settings: Mapping[str, Any], make: Callable[[], dict[str, np.ndarray[Any, Any]]]
    ) -> dict[str, np.ndarray[Any, Any]]:
        """The stored arrays, or those of `make`, stored for the next time."""
        path = self.path(name, settings, ".npz")
        if path.is_file():
            with np.load(path, allow_pickle=False) as found:
                return {key: found[key] for key in found.files}
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path, overwrite=True) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **made)  # type: ignore[arg-type]
        return made
