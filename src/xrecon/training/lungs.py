"""Training of the lung network (`xrecon train lungs`): a loop that one CPU core ends within an hour."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from xrecon.anatomy.body import body_mask
from xrecon.config import Config
from xrecon.errors import CheckpointError, InputError
from xrecon.io.output.atomic import atomic_path, write_json_atomic
from xrecon.json_text import json_text
from xrecon.models.lung_network import CLASSES, LungNet, LungNetConfig, network_input, predict
from xrecon.training.lung_augment import augment
from xrecon.training.lung_cases import read_case
from xrecon.volume import Volume

STATE_NAME = "state.pt"
LOG_NAME = "log.jsonl"
HOLD_OUT_EVERY, HOLD_OUT_FIRST = 5, 2
"""Patients 3, 8, 13, ... of the list are not trained on: what the network is worth is measured on them."""


class LungTraining(Config):
    """Settings of the training.

    `minutes` is the whole budget: the learning rate falls to 0 over it (cosine), so a run that is continued ends like
    one that was never interrupted. Two volumes at a time: for a single small one torch leaves oneDNN, and a step takes
    four times as long for each. Lung without air is what no threshold finds: its voxels, and those of the tissue beside
    it, weigh `dense_weight` in the loss, and volumes with much of it (a collapse of 60 % or more) are drawn
    `collapse_weight` times as often.
    """

    minutes: float = 40.0
    shape: tuple[int, int, int] = (80, 64, 96)
    batch: int = 2
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    warm_up_steps: int = 20
    average: float = 0.98
    dense_weight: float = 6.0
    collapse_weight: float = 6.0
    checkpoint_minutes: float = 5.0
    seed: int = 0


_TISSUE_HU = -400.0
_BESIDE_VOXELS = 3
CONTINUED_RATE = 1e-3
"""Learning rate from weights that are trained already: a third of that for new ones."""


class _Volumes(NamedTuple):
    """Training volumes in memory, (HU, sides), and how often each is drawn."""

    cases: list[tuple[Tensor, Tensor]]
    weights: Tensor


@dataclass
class _State:
    network: LungNet
    mean: LungNet
    optimiser: torch.optim.Optimizer
    rng: torch.Generator
    step: int = 0
    seconds: float = 0.0


def held_out(names: Sequence[str]) -> tuple[str, ...]:
    """The patients of the list that are not trained on; none if there are fewer than four."""
    unique = list(dict.fromkeys(names))
    return tuple(unique[HOLD_OUT_FIRST::HOLD_OUT_EVERY]) if len(unique) >= 4 else ()


def train_lungs(
    cases: Sequence[tuple[str, Path]],
    folder: Path,
    *,
    settings: LungTraining | None = None,
    network: LungNetConfig | None = None,
    start: LungNet | None = None,
    resume: bool = False,
    tell: Callable[[str], None] = print,
) -> tuple[LungNet, dict[str, Any]]:
    """Train on the cases of `lung_cases.make_cases` but those held out; measure on these.

    Args:
        cases: (patient, file).
        folder: receives the state (for `resume`) and the log.
        settings: of the training.
        network: of a new network.
        start: weights to begin with in place of random ones; `network` is that of these weights then.
        resume: continue from the state in `folder`.
        tell: a line now and then.

    Returns:
        The mean of the weights of the last steps, and the metrics on the patients held out.

    Raises:
        InputError: no cases. CheckpointError: nothing to resume, or it is of another network.
    """
    settings = settings or LungTraining()
    out = held_out([name for name, _ in cases])
    used = [file for name, file in cases if name not in out]
    if not used:
        raise InputError("no training cases: the folder holds no CT in which lungs were found")
    state = _fresh(network or LungNetConfig(), settings) if start is None else _begun(start, settings)
    if resume:
        _restore(state, folder / STATE_NAME)
    tell(f"{len(used)} volumes to train on; held out: {', '.join(out) or 'none'}; {settings.minutes:g} minutes")
    loaded = [(torch.from_numpy(c.hu.astype(np.float32)), torch.from_numpy(c.sides)) for c in map(read_case, used)]
    weights = torch.tensor([settings.collapse_weight if _collapsed(file) else 1.0 for file in used])
    _loop(state, _Volumes(loaded, weights), settings, folder, tell)
    _store(state, folder / STATE_NAME)
    metrics = evaluate(state.mean, [(name, file) for name, file in cases if name in out])
    metrics |= {"steps": state.step, "training_volumes": len(used), "held_out_patients": list(out)}
    write_json_atomic(folder / "metrics.json", metrics, overwrite=True)
    return state.mean, metrics


def evaluate(network: LungNet, cases: Sequence[tuple[str, Path]]) -> dict[str, Any]:
    """Dice of right and left hemithorax on the coarse grid, inside the body, per variant: mean, lowest, number.

    PTX-Seg asks the network inside the body only: what it says of the air of the room does not count.
    """
    pitch = network.config.pitch_mm
    found: dict[str, list[float]] = {}
    for _, file in cases:
        case = read_case(file)
        hu = case.hu.astype(np.float32)
        guess = predict(network.eval(), hu, (pitch, pitch, pitch)).fine().argmax(axis=0)
        guess[~body_mask(Volume.centred(hu, (pitch, pitch, pitch)))] = 0
        kind = file.stem.split("__")[1]
        if "_" in kind:
            kind = "collapse_from_60" if _collapsed(file) else "pneumothorax_below_60"
        for side in (1, 2):
            a, b = guess == side, case.sides == side
            found.setdefault(kind, []).append(2.0 * float((a & b).sum()) / max(1.0, float(a.sum() + b.sum())))
    return {
        f"held_out_dice_at_{pitch:g}_mm_{kind}": {
            "mean": round(float(np.mean(values)), 4),
            "min": round(min(values), 4),
            "sides": len(values),
        }
        for kind, values in found.items()
    }


def _collapsed(file: Path) -> bool:
    """Whether a variant (`Recipe.name` in its file's name) is a collapse of 60 % or more."""
    parts = file.stem.split("__")[1].split("_")
    return len(parts) > 1 and int(parts[1]) >= 60


def lung_loss(logits: Tensor, sides: Tensor, hu: Tensor, dense_weight: float) -> Tensor:
    """Cross-entropy, in which lung without air weighs more (it is rare, and no threshold finds it), plus soft Dice.

    The tissue beside it weighs the same: otherwise too much lung would cost less than too little of it.
    """
    tissue = hu > _TISSUE_HU
    dense = ((sides > 0) & tissue).float()
    near = functional.max_pool3d(dense[:, None], 2 * _BESIDE_VOXELS + 1, stride=1, padding=_BESIDE_VOXELS)[:, 0]
    weight = 1.0 + (dense_weight - 1.0) * near * tissue
    entropy = (functional.cross_entropy(logits, sides, reduction="none") * weight).sum() / weight.sum()
    share = torch.softmax(logits, dim=1)
    truth = functional.one_hot(sides, CLASSES).movedim(-1, 1).float()
    both, total = (share * truth).sum(dim=(0, 2, 3, 4)), (share + truth).sum(dim=(0, 2, 3, 4))
    return entropy + 1.0 - ((2.0 * both + 1.0) / (total + 1.0))[1:].mean()


def _fresh(config: LungNetConfig, settings: LungTraining) -> _State:
    torch.manual_seed(settings.seed)
    return _begun(LungNet(config), settings)


def _begun(network: LungNet, settings: LungTraining) -> _State:
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.98)
    )
    return _State(network, deepcopy(network), optimiser, torch.Generator().manual_seed(settings.seed))


def _loop(
    state: _State,
    volumes: _Volumes,
    settings: LungTraining,
    folder: Path,
    tell: Callable[[str], None],
) -> None:
    budget = 60.0 * settings.minutes
    saved = told = state.seconds
    losses: list[float] = []
    state.network.train()
    while state.seconds < budget:
        start = time.monotonic()
        losses.append(_step(state, volumes, settings, state.seconds / budget))
        state.seconds += time.monotonic() - start
        if state.seconds - told > 60.0 or state.seconds >= budget:
            told, loss = state.seconds, float(np.mean(losses))
            losses.clear()
            tell(f"{state.seconds / 60.0:.1f} min, step {state.step}: loss {loss:.4f}")
            with (folder / LOG_NAME).open("a", encoding="utf-8") as log:
                log.write(
                    json_text({"step": state.step, "seconds": round(state.seconds), "loss": loss}, indent=None) + "\n"
                )
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
    drawn = [volumes.cases[number] for number in picked]
    changed = [augment(one, label, settings.shape, state.rng) for one, label in drawn]
    hu, sides = torch.stack([one for one, _ in changed]), torch.stack([label for _, label in changed])
    loss = lung_loss(state.network(network_input(hu)), sides, hu, settings.dense_weight)
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
    state.optimiser.step()
    keep = min(settings.average, state.step / (state.step + 10.0))
    with torch.no_grad():
        for mean, now in zip(state.mean.parameters(), state.network.parameters(), strict=True):
            mean.lerp_(now, 1.0 - keep)
    return float(loss.detach())


def _store(state: _State, file: Path) -> None:
    values = {
        "architecture": state.network.config.model_dump(mode="json"),
        "network": state.network.state_dict(),
        "mean": state.mean.state_dict(),
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
    state.mean.load_state_dict(values["mean"])
    state.optimiser.load_state_dict(values["optimiser"])
    state.rng.set_state(values["rng"])
    state.step, state.seconds = values["step"], values["seconds"]
