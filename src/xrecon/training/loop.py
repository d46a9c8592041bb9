"""The training loop: steps of both networks, validation, checkpoints, and at the end a model."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from xrecon.errors import DivergedError
from xrecon.geometry import FRAME_MM
from xrecon.models.checkpoint import save_model
from xrecon.models.fast import FastGenerator
from xrecon.training.checkpoints import save_checkpoint
from xrecon.training.gan import generator_with
from xrecon.training.run_config import Training
from xrecon.training.session import Session, make_fabric, set_up
from xrecon.training.tracker import Progress, Tracker, silent
from xrecon.training.validation import mean_of, validate, write_panel


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        folder: of the run.
        step: steps done so far.
        finished: whether all steps are done; if not, it goes on with `resume`.
        validation: mean figures of the last validation, empty without validation cases.
        model: folder with the final weights, None until finished.
    """

    folder: Path
    step: int
    finished: bool
    validation: dict[str, float]
    model: Path | None


def fit(
    training: Training,
    folder: Path,
    *,
    resume: str | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
    fabric: Fabric | None = None,
) -> Outcome:
    """Train, from the beginning or from a checkpoint, until the end or the time limit.

    Args:
        training: all settings.
        folder: of the run; see `RunFolder`.
        resume: "auto" for the newest checkpoint of the folder (or the beginning), the path of one, or None.
        overwrite: replace a run that the folder holds.
        progress: called after every step with the steps done, the steps in all, and a line of text.
        fabric: ready-made, for tests; by default made from `training.run` and launched.

    Raises:
        InputError, ConfigError: data or settings that cannot be trained with.
        OutputExistsError: the folder holds a run, and neither `resume` nor `overwrite` is given.
        CheckpointError: the checkpoint cannot be read.
        DivergedError: a loss is no longer finite.
    """
    if training.run.threads is not None:
        torch.set_num_threads(training.run.threads)
    fabric = fabric if fabric is not None else make_fabric(training)
    session = set_up(training, folder, fabric, resume=resume, overwrite=overwrite)
    _train(session, progress)
    model = _save_model(session) if session.finished else None
    fabric.barrier()
    return Outcome(folder, session.loop.step, session.finished, session.loop.validation, model)


def _train(session: Session, progress: Progress) -> None:
    """Steps, validations and checkpoints until the last step or the time limit."""
    loop, run, fabric = session.loop, session.training.run, session.fabric
    events = run.tensorboard and session.is_first
    tracker = Tracker(session.folder, steps=session.steps, first=loop.step, events=events)
    began = saved = time.monotonic()
    try:
        while not session.finished:
            _take_step(session, tracker, progress)
            ended = session.finished or _out_of_time(fabric, session.training, began)
            if session.validates and (loop.step % run.validate_every == 0 or session.finished):
                _validate(session, tracker)
            late = _agreed(fabric, time.monotonic() - saved > 60 * run.checkpoint_minutes)
            if ended or late or loop.step % run.checkpoint_every == 0:
                save_checkpoint(fabric, session.gan, session.folder, loop, keep_last=run.keep_last)
                saved = time.monotonic()
            if ended:
                break
    finally:
        tracker.close()


def _take_step(session: Session, tracker: Tracker, progress: Progress) -> None:
    """One step on the next batches, recorded. Raises DivergedError."""
    loop, fabric, run = session.loop, session.fabric, session.training.run
    waited = time.monotonic()
    batches = [next(session.batches).to(fabric.device) for _ in range(session.training.optimiser.accumulate)]
    waited = time.monotonic() - waited
    norms = bool(run.gradient_norms_every) and loop.step % run.gradient_norms_every == 0
    values = session.gan.step(batches, loop.step, norms=norms)
    not_finite = [name for name, value in values.items() if not math.isfinite(value)]
    if not_finite:
        raise DivergedError(
            f"{session.folder.path}: {', '.join(not_finite)} became infinite or NaN at step {loop.step}; lower "
            "optimiser.learning_rate or set optimiser.clip_norm, and go on from the last checkpoint with "
            "--resume auto"
        )
    loop.step += 1
    if session.is_first:
        progress(loop.step, session.steps, tracker.stepped(loop.step, values, waited=waited))


def _validate(session: Session, tracker: Tracker) -> None:
    """Figures and a panel of the held-out cases, by the first process; the best body MAE is remembered."""
    network = _network_to_validate(session)
    if network is None or not session.validation:
        return
    loop = session.loop
    cases = validate(network, session.validation, session.fabric.device)
    loop.figures = [case.figures for case in cases]
    loop.validation = mean_of(loop.figures)
    tracker.validated(loop.step, [asdict(figures) for figures in loop.figures], loop.validation)
    write_panel(session.folder.panels / f"step-{loop.step:08d}.png", cases)
    if loop.validation["body_mae_hu"] < loop.best:
        loop.best, loop.best_step = loop.validation["body_mae_hu"], loop.step


def _network_to_validate(session: Session) -> Any:
    """The generator with the weights to use; None on all processes but the first.

    Every process calls this: divided weights are gathered from all of them.
    """
    gan = session.gan
    if gan.ema is None and not gan.sharded:
        return gan.generator if session.is_first else None
    weights = gan.final_weights()
    if not session.is_first:
        return None
    return FastGenerator(generator_with(gan.network.config, weights)).to(session.fabric.device)


def _save_model(session: Session) -> Path | None:
    """Write the model folder, by the first process; every process calls this."""
    weights = session.gan.final_weights()
    if not session.is_first:
        return None
    loop, data = session.loop, session.cases.provenance()
    licences = "; ".join(f"{entry['source']}: {entry['licence'] or 'not stated'}" for entry in data["licences"])
    metrics: dict[str, Any] = {f"validation_{name}": value for name, value in loop.validation.items()}
    metrics |= {"steps": loop.step, "validation_cases": [figures.case for figures in loop.figures]}
    return save_model(
        generator_with(session.gan.network.config, weights),
        session.folder.model,
        name=session.training.name,
        training_data=f"{len(data['patients'])} patients, data set {data['dataset_sha256'][:12]} of `xrecon prepare`: "
        f"{', '.join(data['cases'])}",
        licence=f"weights: Apache-2.0; training data: {licences}",
        metrics=metrics,
        frame_mm=FRAME_MM,
        overwrite=True,
    )


def _agreed(fabric: Fabric, wish: bool) -> bool:
    """The first process decides for all: their clocks differ."""
    return bool(fabric.broadcast(wish)) if fabric.world_size > 1 else wish


def _out_of_time(fabric: Fabric, training: Training, began: float) -> bool:
    limit = training.run.minutes
    return limit is not None and _agreed(fabric, time.monotonic() - began > 60 * limit)
