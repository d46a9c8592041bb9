"""The training loop of the lung network: within an hour on one CPU core."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from xrecon.config import Config
from xrecon.errors import CheckpointError, InputError
from xrecon.io.output.atomic import atomic_path, write_json_atomic
from xrecon.json_text import json_text
from xrecon.models.lung_network import LungNet, LungNetConfig, network_input
from xrecon.training.lungs.augment import augment
from xrecon.training.lungs.held_out import LungMetrics, held_out, held_out_dice
from xrecon.training.lungs.loss import lung_loss
from xrecon.training.lungs.planted_cases import is_collapse, read_case

STATE_NAME = "state.pt"
LOG_NAME = "log.jsonl"


class LungTraining(Config):
    """Settings of the training.

    `minutes` is the whole budget: the learning rate falls to 0 over it (cosine), so a run that is continued ends like
    one that was never interrupted. Two volumes at a time: for a single small one torch leaves oneDNN, and a step takes
    four times as long for each. No threshold finds lung without air: its voxels, and those of the tissue beside it,
    weigh `dense_weight` in the loss, and volumes with much of it (a collapse of 60 % or more) are picked
    `collapse_weight` times as often. `ema_decay` is of the moving average of the weights, per step.
    """

    minutes: float = 40.0
    shape: tuple[int, int, int] = (80, 64, 96)
    batch: int = 2
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    warm_up_steps: int = 20
    ema_decay: float = 0.98
    dense_weight: float = 6.0
    collapse_weight: float = 6.0
    checkpoint_minutes: float = 5.0
    seed: int = 0


CONTINUED_RATE = 1e-3
"""Learning rate from weights that are trained already: a third of that for new ones."""


class _Volumes(NamedTuple):
    """Training volumes in memory, (HU, sides), and how often each is picked, relative to the others."""

    cases: list[tuple[Tensor, Tensor]]
    weights: Tensor


@dataclass
class _State:
    """What a stored state holds: the network, the moving average of its weights (`ema`), and where the run stands."""

    network: LungNet
    ema: LungNet
    optimiser: torch.optim.Optimizer
    rng: torch.Generator
    step: int = 0
    seconds: float = 0.0


def train_lungs(
    cases: Sequence[tuple[str, Path]],
    folder: Path,
    *,
    settings: LungTraining | None = None,
    network: LungNetConfig | None = None,
    start: LungNet | None = None,
    resume: bool = False,
    progress: Callable[[str], None] = print,
) -> tuple[LungNet, LungMetrics]:
    """Train on the cases of `planted_cases.make_cases` except the held-out patients, and measure on these.

    Args:
        cases: (patient, file).
        folder: receives the state (for `resume`) and the log.
        settings: of the training.
        network: of a new network.
        start: weights to begin with in place of random ones; `network` is that of these weights then.
        resume: continue from the state in `folder`.
        progress: called with a line of text now and then.

    Returns:
        The network with the moving average of the weights, and the metrics on the held-out patients.

    Raises:
        InputError: no cases. CheckpointError: nothing to resume, or it is of another network.
    """
    settings = settings or LungTraining()
    patients = held_out([name for name, _ in cases])
    files = [file for name, file in cases if name not in patients]
    if not files:
        raise InputError("no training cases: the folder holds no CT in which lungs were found")
    state = _new_state(network or LungNetConfig(), settings) if start is None else _state_from(start, settings)
    if resume:
        _restore(state, folder / STATE_NAME)
    names = ", ".join(patients) or "none"
    progress(f"{len(files)} volumes to train on; held out: {names}; {settings.minutes:g} minutes")
    _train(state, _volumes(files, settings), settings, folder, progress)
    _store(state, folder / STATE_NAME)
    metrics = LungMetrics(
        pitch_mm=state.ema.config.pitch_mm,
        dice=held_out_dice(state.ema, [(name, file) for name, file in cases if name in patients]),
        steps=state.step,
        training_volumes=len(files),
        held_out_patients=patients,
    )
    write_json_atomic(folder / "metrics.json", metrics.to_dict(), overwrite=True)
    return state.ema, metrics


def _volumes(files: Sequence[Path], settings: LungTraining) -> _Volumes:
    cases = [(torch.from_numpy(c.hu.astype(np.float32)), torch.from_numpy(c.sides)) for c in map(read_case, files)]
    weights = torch.tensor([settings.collapse_weight if is_collapse(file) else 1.0 for file in files])
    return _Volumes(cases, weights)


def _new_state(config: LungNetConfig, settings: LungTraining) -> _State:
    torch.manual_seed(settings.seed)
    return _state_from(LungNet(config), settings)


def _state_from(network: LungNet, settings: LungTraining) -> _State:
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.98)
    )
    return _State(network, deepcopy(network), optimiser, torch.Generator().manual_seed(settings.seed))


def _train(
    state: _State,
    volumes: _Volumes,
    settings: LungTraining,
    folder: Path,
    progress: Callable[[str], None],
) -> None:
    budget = 60.0 * settings.minutes
    saved = reported = state.seconds
    losses: list[float] = []
    state.network.train()
    while state.seconds < budget:
        start = time.monotonic()
        losses.append(_step(state, volumes, settings, state.seconds / budget))
        state.seconds += time.monotonic() - start
        if state.seconds - reported > 60.0 or state.seconds >= budget:
            reported, loss = state.seconds, float(np.mean(losses))
            losses.clear()
            progress(f"{state.seconds / 60.0:.1f} min, step {state.step}: loss {loss:.4f}")
            line = json_text({"step": state.step, "seconds": round(state.seconds), "loss": loss}, indent=None)
            with (folder / LOG_NAME).open("a", encoding="utf-8") as log:
                log.write(line + "\n")
        if state.seconds - saved > 60.0 * settings.checkpoint_minutes:
            saved = state.seconds
            _store(state, folder / STATE_NAME)


def _step(state: _State, volumes: _Volumes, settings: LungTraining, share: float) -> float:
    """One batch; `share` of the budget that is spent sets the learning rate."""
    state.step += 1
    rate = settings.learning_rate * min(1.0, state.step / settings.warm_up_steps)
    for group in state.optimiser.param_groups:
        group["lr"] = rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))
    picked = torch.multinomial(volumes.weights, settings.batch, replacement=True, generator=state.rng).tolist()
    chosen = [volumes.cases[number] for number in picked]
    pairs = [augment(volume, labels, settings.shape, state.rng) for volume, labels in chosen]
    hu, sides = torch.stack([volume for volume, _ in pairs]), torch.stack([labels for _, labels in pairs])
    loss = lung_loss(state.network(network_input(hu)), sides, hu, settings.dense_weight)
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
    state.optimiser.step()
    decay = min(settings.ema_decay, state.step / (state.step + 10.0))
    with torch.no_grad():
        for average, weight in zip(state.ema.parameters(), state.network.parameters(), strict=True):
            average.lerp_(weight, 1.0 - decay)
    return float(loss.detach())


def _store(state: _State, file: Path) -> None:
    values = {
        "architecture": state.network.config.model_dump(mode="json"),
        "network": state.network.state_dict(),
        "mean": state.ema.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "rng": state.rng.get_state(),
        "step": state.step,
        "seconds": state.seconds,
    }
    with atomic_path(file, overwrite=True) as temporary:
        torch.save(values, temporary)


def _restore(state: _State, file: Path) -> None:
    if not file.is_file():
        raise CheckpointError(f"{file}: does not exist; there is nothing to resume, leave --resume out")
    # weights_only: tensors and plain values, so that reading a state cannot run code.
    values = torch.load(file, weights_only=True)
    if values["architecture"] != state.network.config.model_dump(mode="json"):
        raise CheckpointError(f"{file}: the state of another network ({values['architecture']}); train anew")
    state.network.load_state_dict(values["network"])
    state.ema.load_state_dict(values["mean"])
    state.optimiser.load_state_dict(values["optimiser"])
    state.rng.set_state(values["rng"])
    state.step, state.seconds = values["step"], values["seconds"]
