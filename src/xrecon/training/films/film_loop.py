"""The training loop of the film networks, on one core, over as many sessions as it takes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from xrecon.environment import run_environment
from xrecon.errors import CheckpointError, DivergedError, OutputExistsError
from xrecon.geometry import FRAME_MM
from xrecon.io.output.atomic import atomic_path, write_json_atomic, write_text_atomic
from xrecon.json_text import json_text
from xrecon.models.checkpoint import INFORMATION_NAME, WEIGHTS_NAME, load_model, save_model
from xrecon.models.film_network import FilmNet
from xrecon.training.films.film_loss import film_loss, is_finite
from xrecon.training.films.film_pool import FilmPool
from xrecon.training.films.film_training import FilmTraining
from xrecon.training.films.film_validation import film_metrics, score_films
from xrecon.training.tracker import peak_memory_gb
from xrecon.volume import RESEARCH_NOTICE

CONFIG_NAME, STATE_NAME, LOG_NAME, RUN_NAME = "config.yaml", "state.pt", "metrics.jsonl", "run.json"
SCORES_NAME = "scores-{step:06d}.json"
"""Of every film pair of a measurement: what the networks said, and the truth."""
_REPORT_STEPS = 20


@dataclass
class FilmTrainingState:
    """The network, the moving average of its weights (`ema`), the optimiser, and where the run stands."""

    network: FilmNet
    ema: FilmNet
    optimiser: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class FilmTrainingOutcome:
    """What a run, or a part of it, ends with.

    Attributes:
        step: reached.
        finished: all steps are done, and the weights are written.
        metrics: of the last measurement of this part; empty without cases left out.
        weights: the file, once finished.
    """

    step: int
    finished: bool
    metrics: dict[str, Any]
    weights: Path | None


def train_films(
    library: Path,
    folder: Path,
    *,
    settings: FilmTraining | None = None,
    resume: bool = False,
    overwrite: bool = False,
    start: Path | None = None,
    max_seconds: float | None = None,
    progress: Callable[[str], None] = print,
) -> FilmTrainingOutcome:
    """Train the film networks on a film library, which may still grow.

    Args:
        library: folder of `xrecon prepare-films`.
        folder: of the run: config.yaml, run.json, metrics.jsonl, state.pt, scores-STEP.json of every measurement,
            and from the first measurement on model.safetensors and model.json with the weights so far.
        settings: of a new run; a resumed one keeps its settings, and these must be equal.
        resume: continue from the state in `folder`, or begin if there is none.
        overwrite: replace a run.
        start: folder of trained film networks whose weights a new run begins with. They must not have been trained on
            the cases that this run leaves out.
        max_seconds: stop (and store the state) after so many seconds of this call.
        progress: called with a line of text now and then.

    Raises:
        InputError: no library, or nothing in it to train on.
        OutputExistsError: `folder` holds a run, and neither `resume` nor `overwrite` is given.
        CheckpointError: the state belongs to other settings or to another library; the networks to start with have
            another architecture, or have seen the cases left out.
        DivergedError: a loss that is not finite.
    """
    settings = settings or FilmTraining()
    pool = FilmPool(library, settings)
    state = _begin(folder, settings, pool, resume=resume, overwrite=overwrite, start=start)
    names = ", ".join(pool.left_out) or "none"
    progress(f"{len(pool.training)} film pairs to train on; left out: {names}; step {state.step} of {settings.steps}")
    metrics = _train(state, pool, folder, max_seconds, progress)
    _store(state, folder)
    finished = state.step >= settings.steps
    return FilmTrainingOutcome(state.step, finished, metrics, folder / WEIGHTS_NAME if finished else None)


def _train(
    state: FilmTrainingState, pool: FilmPool, folder: Path, max_seconds: float | None, progress: Callable[[str], None]
) -> dict[str, Any]:
    settings = pool.settings
    begun = saved = time.monotonic()
    losses: list[float] = []
    metrics: dict[str, Any] = {}
    while state.step < settings.steps:
        started = time.monotonic()
        losses.append(_step(state, pool))
        state.seconds += time.monotonic() - started
        if state.step % _REPORT_STEPS == 0 or state.step == settings.steps:
            loss = sum(losses) / len(losses)
            losses.clear()
            progress(f"step {state.step}, {state.seconds / 60:.1f} min: loss {loss:.4f}")
            _log(
                folder,
                {
                    "step": state.step,
                    "seconds": round(state.seconds),
                    "loss": round(loss, 5),
                    "pairs": len(pool.training),
                    "memory_gb": round(peak_memory_gb(), 2),
                },
            )
        if state.step % settings.validate_every == 0 or state.step == settings.steps:
            pool.refresh()
            metrics = _measured(state, pool, folder, progress)
            save_weights(state, folder, pool, metrics)
        if time.monotonic() - saved > 60.0 * settings.checkpoint_minutes:
            saved = time.monotonic()
            _store(state, folder)
        if max_seconds is not None and time.monotonic() - begun > max_seconds:
            break
    return metrics


def _step(state: FilmTrainingState, pool: FilmPool) -> float:
    settings = pool.settings
    state.network.train()
    inputs, target = pool.batch(state.step)
    state.step += 1
    rate = settings.learning_rate * min(1.0, state.step / settings.warm_up_steps)
    for group in state.optimiser.param_groups:
        group["lr"] = rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, state.step / settings.steps)))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=settings.bfloat16):
        maps = state.network(inputs)
    loss = film_loss(maps, target, air_weight=settings.air_weight)
    if not is_finite(loss):
        raise DivergedError(f"the loss is not finite at step {state.step}; lower learning_rate and begin again")
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
    state.optimiser.step()
    decay = min(settings.ema_decay, (1 + state.step) / (10 + state.step))
    with torch.no_grad():
        for mean, value in zip(state.ema.parameters(), state.network.parameters(), strict=True):
            mean.lerp_(value, 1.0 - decay)
    return float(loss.detach())


def _measured(
    state: FilmTrainingState, pool: FilmPool, folder: Path, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Metrics on the cases left out; empty without any."""
    if not pool.validation:
        return {}
    scores = score_films(state.ema, pool, pool.validation)
    metrics = film_metrics(scores)
    facts = {"notice": RESEARCH_NOTICE, "step": state.step, "scores": scores}
    write_json_atomic(folder / SCORES_NAME.format(step=state.step), facts, overwrite=True)
    _log(folder, {"step": state.step, "validation": metrics})
    names = ("auc_upright_10", "auc_0.03_0.07", "side_accuracy_10", "volume_r", "occupancy_mae")
    progress(f"step {state.step}: " + ", ".join(f"{name} {metrics[name]}" for name in names))
    return metrics


def _begin(
    folder: Path, settings: FilmTraining, pool: FilmPool, *, resume: bool, overwrite: bool, start: Path | None
) -> FilmTrainingState:
    config = folder / CONFIG_NAME
    if config.exists() and not (resume or overwrite):
        raise OutputExistsError(f"{folder}: holds a run already; continue it with --resume, or give --overwrite")
    torch.manual_seed(settings.seed)
    network = FilmNet(settings.network)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.98)
    )
    state = FilmTrainingState(network, deepcopy(network), optimiser)
    if resume and config.exists():
        before = FilmTraining.model_validate(yaml.safe_load(config.read_text(encoding="utf-8")))
        if before != settings:
            raise CheckpointError(f"{config}: the run has other settings; give the same ones, or begin another run")
        _check_library(folder / RUN_NAME, pool)
        if (folder / STATE_NAME).is_file():
            _restore(state, folder / STATE_NAME)
        _forget_after(folder / LOG_NAME, state.step)
        return state
    for name in (LOG_NAME, STATE_NAME, WEIGHTS_NAME, INFORMATION_NAME):
        (folder / name).unlink(missing_ok=True)
    started = {} if start is None else _start_with(start, state, pool)
    for file in folder.glob("scores-*.json"):
        file.unlink()
    text = f"# {RESEARCH_NOTICE}\n" + yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)
    write_text_atomic(config, text, overwrite=True)
    facts = {
        "notice": RESEARCH_NOTICE,
        "seed": settings.seed,
        "library": dict(pool.library.information),
        "left_out": list(pool.left_out),
        **started,
        "environment": run_environment(),
    }
    write_json_atomic(folder / RUN_NAME, facts, overwrite=True)
    return state


def _start_with(start: Path, state: FilmTrainingState, pool: FilmPool) -> dict[str, Any]:
    """Give the state the weights of trained networks; what run.json says of them. Raises CheckpointError."""
    network, information = load_model(start, dtype=torch.float32)
    if not isinstance(network, FilmNet) or network.config != pool.settings.network:
        raise CheckpointError(
            f"{start}: holds networks of other settings than this run; give ones of the same `network` settings"
        )
    unseen = information.metrics.get("left_out_cases")
    seen = [case for case in pool.left_out if not isinstance(unseen, list) or case not in unseen]
    if seen:
        raise CheckpointError(
            f"{start}: these networks were trained on {', '.join(seen)}, which this run leaves out; start with "
            "networks that have not seen them, or without --start"
        )
    for target in (state.network, state.ema):
        target.load_state_dict(network.state_dict())
    return {"started_with": information.sha256}


def _check_library(file: Path, pool: FilmPool) -> None:
    """A run goes on with its own library, which may have grown. Raises CheckpointError for another one."""
    before = json.loads(file.read_text(encoding="utf-8"))["library"] if file.is_file() else {}
    changed = [name for name, value in before.items() if pool.library.information.get(name) != value]
    if changed:
        raise CheckpointError(
            f"{file}: the run was begun on a film library of other {', '.join(changed)}; give that library, or begin "
            "another run"
        )


def _log(folder: Path, values: dict[str, Any]) -> None:
    with (folder / LOG_NAME).open("a", encoding="utf-8") as stream:
        stream.write(json_text(values, indent=None) + "\n")


def _store(state: FilmTrainingState, folder: Path) -> None:
    values = {
        "network": state.network.state_dict(),
        "ema": state.ema.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "step": state.step,
        "seconds": state.seconds,
    }
    with atomic_path(folder / STATE_NAME, overwrite=True) as temporary:
        torch.save(values, temporary)


def _restore(state: FilmTrainingState, file: Path) -> None:
    # weights_only: tensors and plain values, so that reading a state cannot run code.
    values = torch.load(file, weights_only=True)
    state.network.load_state_dict(values["network"])
    state.ema.load_state_dict(values["ema"])
    state.optimiser.load_state_dict(values["optimiser"])
    state.step, state.seconds = values["step"], values["seconds"]


def _forget_after(log: Path, step: int) -> None:
    """Drop lines of steps that a resumed run does again, and the half line of a killed run."""
    if not log.is_file():
        return
    kept = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            if int(json.loads(line)["step"]) <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError):
            continue
    write_text_atomic(log, "".join(kept), overwrite=True)


def save_weights(state: FilmTrainingState, folder: Path, pool: FilmPool, metrics: dict[str, Any]) -> None:
    """Write model.safetensors (half precision, the moving average of the weights) and model.json.

    Raises:
        InputError: the folder cannot be written.
    """
    cases = sorted(set(pool.library.information["cases"]) - set(pool.left_out))
    fold = f", fold {pool.settings.fold} of {pool.settings.folds} left out" if pool.left_out else ""
    save_model(
        state.ema,
        folder,
        name="films",
        training_data=f"{len(pool.training)} simulated film pairs of varied anatomies of {len(cases)} chest CTs{fold}: "
        f"{', '.join(cases)}",
        licence="weights: Apache-2.0; training data: terms of the CTs that the film library was made from",
        metrics={
            "step": state.step,
            "steps_of_the_run": pool.settings.steps,
            "fold": pool.settings.fold,
            "folds": pool.settings.folds,
            "left_out_cases": list(pool.left_out),
            "on_left_out_cases": metrics,
        },
        frame_mm=FRAME_MM,
        dtype=torch.float16,
        overwrite=True,
    )
