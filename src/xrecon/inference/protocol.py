"""What a reconstruction model is: its name, what it needs, and how it gets from two films to a chest.

Nothing heavy is imported here, so that the command line can name the models without loading torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from xrecon.models.precision import Precision
    from xrecon.priors.asset import PriorAsset
    from xrecon.priors.films import FilmPair
    from xrecon.priors.framing import FramedChest
    from xrecon.warp import Grid


@runtime_checkable
class FittedChest(Protocol):
    """A chest that was fitted to two films: it can be drawn on any grid, [D, H, W]."""

    def hu(self, grid: Grid) -> Tensor:
        """[D, H, W] HU on `grid`."""
        ...

    def deviation(self, grid: Grid) -> Tensor:
        """[D, H, W] standard deviation of the HU on `grid`, how far the films may still move them."""
        ...


@runtime_checkable
class FittedEnsemble(FittedChest, Protocol):
    """A fitted chest that is the mean of several members, and knows how far they lie apart."""

    def spread(self, grid: Grid) -> Tensor:
        """[D, H, W] HU: standard deviation over the members on `grid`."""
        ...


@dataclass(frozen=True)
class Needs:
    """What a model needs beside the priors, which every model uses: for the fit, or for what lies beside the cube.

    Attributes:
        bank: CTs of other patients, which are fitted to the films one by one.
        network: folder of the trained weights (model.safetensors and model.json); None for a model without a network.
        films: the shipped film networks, which look for free pleural air that is then drawn into the CT.
    """

    bank: bool = False
    network: Path | None = None
    films: bool = False

    def in_words(self) -> str:
        """For people, such as "priors, CTs of other patients"."""
        bank, network = ["CTs of other patients"] * self.bank, ["network"] * (self.network is not None)
        return ", ".join(["priors", *bank, *network, *["film networks"] * self.films])


@dataclass(frozen=True)
class FitTask:
    """What a model is given to reconstruct one pair of films.

    Attributes:
        films: PA and lateral as they were given, not yet calibrated.
        asset: priors, on `device`.
        bank: framed CTs of other patients; empty unless the model needs them.
        device: where to compute.
        precision: of a network's convolutions; "float32" for all other models.
        progress: called with a line of text at each stage.
    """

    films: FilmPair
    asset: PriorAsset
    bank: tuple[FramedChest, ...]
    device: torch.device
    precision: Precision
    progress: Callable[[str], None]


@dataclass(frozen=True)
class ReadyModel:
    """A model with everything it needs, to be fitted to films as often as their calibration asks for.

    Attributes:
        fit: from films, calibrated to line integrals as well as is known so far, to a chest.
        label: how results call the model.
        sha256: of the weights, or of the priors where there are none.
        remark: one line for people about the weights, stored with the CT; empty for none.
        network: what the provenance says of the network; empty for none.
    """

    fit: Callable[[FilmPair], FittedChest]
    label: str
    sha256: str
    remark: str = ""
    network: Mapping[str, Any] = field(default_factory=dict)


class ReconstructionModel(Protocol):
    """One entry of the table `xrecon.inference.models.TABLE`.

    Attributes:
        name: what `--model` calls it.
        summary: one sentence for people.
        needs: what must be given beside the films.
        is_baseline: every comparison of models shows it, too.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def summary(self) -> str: ...  # noqa: D102
    @property
    def needs(self) -> Needs: ...  # noqa: D102
    @property
    def is_baseline(self) -> bool: ...  # noqa: D102

    def ready(self, task: FitTask) -> ReadyModel:
        """Load what the model needs.

        Raises:
            CheckpointError: weights that are absent, damaged, or of another kind.
            MissingPartError: a package that the precision needs is not installed.
        """
        ...
