"""The training loop: samples in, steps of the game, validation, checkpoints, and at the end a model."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from xrecon.errors import CheckpointError, ConfigError, XReconError
from xrecon.geometry import FRAME_MM
from xrecon.models import Generator
from xrecon.models.checkpoint import save_model
from xrecon.models.fast.generator import FastGenerator
from xrecon.models.registry import build
from xrecon.training.config import Training
from xrecon.training.run_folder import RunFolder
from xrecon.training.samples import TrainingSamples, loader, open_data
from xrecon.training.sharding import load_sharded, save_sharded, sharded_strategy
from xrecon.training.step import Game
from xrecon.training.tracker import Tell, Tracker, silent
from xrecon.training.validation import mean_of, validate, validation_samples, write_panel


class DivergedError(XReconError):
    """A loss became NaN or infinite; the last good checkpoint is kept."""


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
    progress: Tell = silent,
    fabric: Fabric | None = None,
) -> Outcome:
    """Train, from the beginning or from a checkpoint, until the end or the time limit.

    Args:
        training: all settings.
        folder: of the run; see `RunFolder`.
        resume: "auto" for the newest checkpoint of the folder (or the beginning), the path of one, or None.
        overwrite: replace a run that the folder holds.
        progress: is told steps done, steps in all, and a line about losses, speed and memory.
        fabric: ready-made, for tests; by default made from `training.run` and launched.

    Raises:
        InputError, ConfigError: data or settings that cannot be trained with.
        CheckpointError: the checkpoint cannot be read.
        DivergedError: a loss is no longer finite.
    """
    if training.run.threads is not None:
        torch.set_num_threads(training.run.threads)
    fabric = fabric if fabric is not None else make_fabric(training)
    cases, held_out = open_data(training.data)
    size = volume_size(training)
    per_step = training.data.batch_size * training.optimiser.accumulate * fabric.world_size
    steps = training.run.steps or math.ceil(int(training.run.epochs or 0) * len(cases) / per_step)
    run = RunFolder(folder)
    if fabric.is_global_zero:
        run.begin(training, cases.provenance(), resume=resume is not None, overwrite=overwrite)
    fabric.barrier()
    game = Game(training, fabric, spacing_mm=cases.frame_mm / size, steps=steps)
    start = run.resumed_from(resume) if resume is not None else None
    at = _restore(fabric, game, start) if start is not None else _Progress()
    if fabric.is_global_zero:
        run.forget_after(at.step)
    samples = TrainingSamples(cases, training.data.augment, size=size, seed=training.seed)
    batches = loader(
        samples,
        first=at.step * training.optimiser.accumulate,
        settings=training.data,
        rank=fabric.global_rank,
        processes=fabric.world_size,
    )
    checks = validation_samples(held_out, size=size) if held_out is not None and fabric.is_global_zero else []
    tracker = Tracker(run, steps=steps, first=at.step, events=training.run.tensorboard and fabric.is_global_zero)
    began = saved = time.monotonic()
    try:
        while at.step < steps:
            waited = time.monotonic()
            drawn = [next(batches).to(fabric.device) for _ in range(training.optimiser.accumulate)]
            waited = time.monotonic() - waited
            every = training.run.gradient_norms_every
            logged = game.step(drawn, at.step, norms=bool(every) and at.step % every == 0)
            wrong = [name for name, value in logged.items() if not math.isfinite(value)]
            if wrong:
                raise DivergedError(
                    f"{folder}: {', '.join(wrong)} became infinite or NaN at step {at.step}; lower "
                    "optimiser.learning_rate or set optimiser.clip_norm, and go on from the last checkpoint with "
                    "--resume auto"
                )
            at.step += 1
            if fabric.is_global_zero:
                progress(at.step, steps, tracker.stepped(at.step, logged, waited=waited))
            ended = at.step == steps or _out_of_time(fabric, training, began)
            if held_out is not None and (at.step % training.run.validate_every == 0 or at.step == steps):
                network = _to_validate(game, fabric)
                if checks and network is not None:
                    _validate(network, checks, run, tracker, at, device=fabric.device)
            late = _agreed(fabric, time.monotonic() - saved > 60 * training.run.checkpoint_minutes)
            if ended or late or at.step % training.run.checkpoint_every == 0:
                _save(fabric, game, run, at, keep_last=training.run.keep_last)
                saved = time.monotonic()
            if ended:
                break
    finally:
        tracker.close()
    finished = at.step == steps
    weights = game.final_weights() if finished else {}
    made = _finish(training, game, weights, run, at, cases.provenance()) if weights and fabric.is_global_zero else None
    fabric.barrier()
    return Outcome(folder, at.step, finished, at.validation, made)


@dataclass
class _Progress:
    """What the loop itself remembers in a checkpoint."""

    step: int = 0
    best: float = math.inf
    best_step: int | None = None
    validation: dict[str, float] = field(default_factory=dict)
    figures: list[dict[str, Any]] = field(default_factory=list)


def make_fabric(training: Training) -> Fabric:
    """Launched, for the devices and the precision of `training.run`. Raises ConfigError where they do not fit."""
    run = training.run
    try:
        fabric = Fabric(
            accelerator=run.accelerator,
            devices=run.devices,
            num_nodes=run.nodes,
            strategy=sharded_strategy() if run.strategy == "fsdp" else run.strategy,
            precision=run.precision,
        )
        fabric.launch()
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"run: accelerator, devices or strategy do not fit this machine: {error}") from error
    return fabric


def volume_size(training: Training) -> int:
    """Voxels per edge of the generator's volume. Raises ConfigError where the settings name no generator."""
    from xrecon.models import create

    network = create(training.generator.name, device="meta", **training.generator.settings)
    if not isinstance(network, Generator):
        raise ConfigError(f"generator.name: {training.generator.name!r} is no generator")
    return int(network.config.size)


def _agreed(fabric: Fabric, wish: bool) -> bool:
    """Clocks differ: all processes do what the first one wants."""
    return bool(fabric.broadcast(wish)) if fabric.world_size > 1 else wish


def _out_of_time(fabric: Fabric, training: Training, began: float) -> bool:
    limit = training.run.minutes
    return limit is not None and _agreed(fabric, time.monotonic() - began > 60 * limit)


def _to_validate(game: Game, fabric: Fabric) -> Any:
    """What the first process validates with; None on the others, which may have to hand over their weights."""
    if game.mean is None and not game.sharded:
        return game.fast if fabric.is_global_zero else None
    weights = game.final_weights()
    return FastGenerator(_with_weights(game, weights)).to(fabric.device) if fabric.is_global_zero else None


def _validate(network: Any, checks: Any, run: RunFolder, tracker: Tracker, at: _Progress, *, device: Any) -> None:
    figures, volumes = validate(network, checks, device)
    at.validation, at.figures = mean_of(figures), figures
    tracker.validated(at.step, figures, at.validation)
    write_panel(run.panels / f"step-{at.step:08d}.png", volumes)
    if at.validation["body_mae_hu"] < at.best:
        at.best, at.best_step = at.validation["body_mae_hu"], at.step


def _with_weights(game: Game, weights: dict[str, Tensor]) -> Generator:
    """The generator with the weights to use, whole."""
    made = build(game.network.config).to_empty(device="cpu")
    made.load_state_dict({name: value.detach().cpu() for name, value in weights.items()})
    assert isinstance(made, Generator)
    return made


def _save(fabric: Fabric, game: Game, run: RunFolder, at: _Progress, *, keep_last: int) -> None:
    """Every process takes part; the file gets its name only when it is complete."""
    temporary = run.checkpoints / f".unfinished-{at.step:08d}"
    try:
        state = {**game.state(), "loop": asdict(at)}
        if game.sharded:
            save_sharded(temporary, state, first=fabric.is_global_zero)
        else:
            fabric.save(temporary, state)
    except BaseException:
        run.discard(temporary)  # a full disk needs the room, and the checkpoint before is complete
        raise
    fabric.barrier()
    if fabric.is_global_zero:
        run.publish(temporary, at.step, keep_last=keep_last, best=at.best_step)
    fabric.barrier()


def _restore(fabric: Fabric, game: Game, path: Path) -> _Progress:
    state = {**game.state(), "loop": {}}
    try:
        if game.sharded:
            load_sharded(path, state)
        else:
            fabric.load(path, state, weights_only=True)
    except (RuntimeError, KeyError, ValueError, OSError, EOFError) as error:
        raise CheckpointError(
            f"{path}: not a checkpoint of this run's networks ({type(error).__name__}: {error}); choose another one, "
            "or begin again in a new folder"
        ) from error
    game.restored(state)
    return _Progress(**state["loop"])


def _finish(
    training: Training, game: Game, weights: dict[str, Tensor], run: RunFolder, at: _Progress, data: Any
) -> Path:
    licences = "; ".join(f"{one['source']}: {one['licence'] or 'not stated'}" for one in data["licences"])
    metrics: dict[str, Any] = {f"validation_{key}": value for key, value in at.validation.items()}
    metrics |= {"steps": at.step, "validation_cases": [one["case"] for one in at.figures]}
    network: nn.Module = _with_weights(game, weights)
    return save_model(
        network,
        run.model,
        name=training.name,
        training_data=f"{len(data['patients'])} patients, data set {data['dataset_sha256'][:12]} of `xrecon prepare`: "
        f"{', '.join(data['cases'])}",
        licence=f"weights: Apache-2.0; training data: {licences}",
        metrics=metrics,
        frame_mm=FRAME_MM,
        overwrite=True,
    )
