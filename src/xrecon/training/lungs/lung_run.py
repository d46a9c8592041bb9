"""A whole run of `xrecon train lungs`: make the cases, train, measure, and store the weights with their description."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from xrecon.data.split import Split
from xrecon.errors import CheckpointError, InputError
from xrecon.io.output.staging import check_outputs
from xrecon.models.checkpoint import INFORMATION_NAME, WEIGHTS_NAME, load_model, save_model
from xrecon.models.lung_network import LungNet, LungNetConfig
from xrecon.training.lungs.loop import CONTINUED_RATE, LungTraining, train_lungs
from xrecon.training.lungs.planted_cases import make_cases


@dataclass(frozen=True)
class LungRun:
    """The result of a run.

    Attributes:
        weights: file with the weights; its description lies beside it.
        cases: names of the CTs.
        metrics: figures on the patients that were held out, as stored with the weights.
    """

    weights: Path
    cases: tuple[str, ...]
    metrics: dict[str, Any]


def train_lung_network(
    cases: Sequence[tuple[str, Path]],
    output: Path,
    *,
    minutes: float = 40.0,
    rounds: int = 1,
    seed: int = 0,
    start: Path | None = None,
    split: Split | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _text: None,
) -> LungRun:
    """Train the network that finds the right and the left hemithorax in a CT.

    Args:
        cases: (patient, CT) of healthy chests, in which pneumothoraces and other air are planted.
        output: folder for the planted cases, the state, the log and the weights.
        minutes: time to train, without the making of the cases.
        rounds: how often pneumothoraces of every size are planted in every CT.
        seed: of plants, batches and first weights.
        start: folder with the weights of an earlier run to begin with.
        split: the lists that the cases come from, for origin and licence in the description; None: a folder of CTs.
        resume: continue from the state in `output`.
        overwrite: replace weights that are there.
        progress: called with a line of text now and then.

    Raises:
        InputError: no cases, or no weights at `start`.
        OutputExistsError: weights are there, and neither `resume` nor `overwrite` is given.
        CheckpointError: nothing to resume, or weights of another network.
    """
    check_outputs(output, (WEIGHTS_NAME, INFORMATION_NAME), overwrite=overwrite or resume)
    begun, begun_sha256 = (None, None) if start is None else _earlier_network(start)
    network = LungNetConfig() if begun is None else begun.config
    volumes = make_cases(
        cases, output / "cases", pitch_mm=network.pitch_mm, seed=seed, rounds=rounds, progress=progress
    )
    settings = LungTraining(minutes=minutes, seed=seed)
    if begun is not None:
        settings = settings.model_copy(update={"learning_rate": CONTINUED_RATE})
    trained, measured = train_lungs(
        volumes, output, settings=settings, network=network, start=begun, resume=resume, progress=progress
    )
    metrics = measured.to_dict()
    if begun is not None:
        metrics = {**metrics, "begun_with_sha256": begun_sha256}
    save_model(
        trained,
        output,
        name="lungs",
        training_data=f"{len(cases) - len(measured.held_out_patients)} chest CTs with planted air "
        f"({measured.training_volumes} volumes). {split.source if split else 'A folder of CTs, no split.'}",
        licence=f"Apache-2.0; training data {split.licence if split else 'of the user'}",
        metrics=metrics,
        dtype=torch.float16,
        overwrite=overwrite or resume,
    )
    return LungRun(output / WEIGHTS_NAME, tuple(name for name, _ in cases), metrics)


def _earlier_network(folder: Path) -> tuple[LungNet, str]:
    """The network of an earlier run, and the digest of its weights."""
    if not (folder / WEIGHTS_NAME).is_file():
        raise InputError(f"{folder}: holds no {WEIGHTS_NAME}; give the folder of an earlier `xrecon train lungs`")
    network, information = load_model(folder, dtype=torch.float32)
    if not isinstance(network, LungNet):
        raise CheckpointError(
            f"{folder}: weights of the family {information.family!r}, expected a lung network; give a folder of "
            "`xrecon train lungs`"
        )
    return network, information.sha256
