"""The one table of reconstruction models: `reconstruct`, `evaluate`, the studies, the demo and all help texts read it.

A new model is one file that holds its entry (see `xrecon.inference.protocol.ReconstructionModel`) and one line in
`TABLE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from xrecon.errors import InputError
from xrecon.inference.prior_models import BANK_SUFFIX, Atlas, Deformation, DeformationWithBank, LinearModes
from xrecon.inference.protocol import ReconstructionModel
from xrecon.inference.trained_network import network_in, shipped_network
from xrecon.inference.with_films import FILMS_SUFFIX, WithFilmNetworks

TABLE: Final[Sequence[ReconstructionModel]] = (
    Atlas(),
    LinearModes(),
    Deformation(),
    DeformationWithBank(),
    WithFilmNetworks(Deformation()),
    shipped_network(
        "xrecon", "xrecon-64-v1", summary="The X-Recon network at 64^3 voxels that comes with the package."
    ),
)
"""Every model that has a name. Trained networks of one's own are found by their folder, see `find_model`."""

DEFAULT_MODEL: Final = "deform"
"""The model that "default" stands for: the best of those that need nothing but films."""


def model_names() -> tuple[str, ...]:
    """The names of all models of the table, in its order."""
    return tuple(model.name for model in TABLE)


def baseline_names() -> tuple[str, ...]:
    """The names of the models that every comparison shows, in the order of the table."""
    return tuple(model.name for model in TABLE if model.is_baseline)


def find_model(name: str, *, has_bank: bool = False) -> ReconstructionModel:
    """The model of a name or folder.

    Args:
        name: of the table, "default", or the folder of a trained network. A name of the table stands for its entry; a
            folder of one's own of the same name is `./NAME`. Either may end in "+films": the film networks look for
            free air, too.
        has_bank: CTs of other patients are given: the form of the model that uses them.

    Raises:
        InputError: neither a name of the table nor a folder with a network, or a bank for a model that uses none.
    """
    name = DEFAULT_MODEL if name == "default" else name
    if name.endswith(FILMS_SUFFIX) and not Path(name).is_dir():
        return WithFilmNetworks(find_model(name.removesuffix(FILMS_SUFFIX), has_bank=has_bank))
    by_name = {model.name: model for model in TABLE}
    model = by_name.get(name) or network_in(name)
    if model is None:
        raise InputError(
            f"unknown model {name!r}; choose one of default, {', '.join(by_name)}, or give the folder of a trained "
            "network, which holds model.json"
        )
    if not has_bank or model.needs.bank:
        return model
    if name + BANK_SUFFIX not in by_name:
        users = [entry.name.removesuffix(BANK_SUFFIX) for entry in TABLE if entry.needs.bank]
        raise InputError(f"a bank is used by model {', '.join(users)} only, not by {name}")
    return by_name[name + BANK_SUFFIX]
