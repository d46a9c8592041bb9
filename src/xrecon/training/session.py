"""Everything that a run works with, set up from its settings: devices, data, networks, run folder, checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_fabric import Fabric

from xrecon.augmentation.augmenter import Sample
from xrecon.data.dataset import PreparedDataset
from xrecon.errors import ConfigError
from xrecon.models import Generator, create
from xrecon.training.checkpoints import LoopState, load_checkpoint
from xrecon.training.gan import Gan
from xrecon.training.losses import Batch
from xrecon.training.run_config import Training
from xrecon.training.run_folder import RunFolder
from xrecon.training.samples import TrainingSamples, loader, open_data
from xrecon.training.sharding import sharded_strategy
from xrecon.training.validation import validation_samples


@dataclass(frozen=True)
class Session:
    """A run that is ready to train.

    Attributes:
        training: the settings.
        fabric: device, processes and precision.
        folder: of the run.
        gan: both networks and their optimisers.
        loop: what the loop remembers; changes as it goes.
        steps: length of the run.
        cases: the train cases.
        batches: endless batches of this process, from the step at hand on.
        validates: whether a fold is held out for validation.
        validation: its samples; on the first process only.
    """

    training: Training
    fabric: Fabric
    folder: RunFolder
    gan: Gan
    loop: LoopState
    steps: int
    cases: PreparedDataset
    batches: Iterator[Batch]
    validates: bool
    validation: Sequence[tuple[str, Sample]]

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and reports progress."""
        return bool(self.fabric.is_global_zero)

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.loop.step == self.steps


def set_up(training: Training, folder: Path, fabric: Fabric, *, resume: str | None, overwrite: bool) -> Session:
    """Open the data, begin or reopen the run folder, make the networks, and load the checkpoint that `resume` names.

    Raises:
        InputError, ConfigError: data or settings that cannot be trained with.
        OutputExistsError: the folder holds a run, and neither `resume` nor `overwrite` is given.
        CheckpointError: the checkpoint cannot be read.
    """
    cases, held_out = open_data(training.data)
    size = volume_size(training)
    steps = _steps(training, len(cases), fabric.world_size)
    run = RunFolder(folder)
    if fabric.is_global_zero:
        run.begin(training, cases.provenance(), resume=resume is not None, overwrite=overwrite)
    fabric.barrier()
    gan = Gan(training, fabric, spacing_mm=cases.frame_mm / size, steps=steps)
    start = run.resumed_from(resume) if resume is not None else None
    loop = load_checkpoint(fabric, gan, start) if start is not None else LoopState()
    if fabric.is_global_zero:
        run.forget_after(loop.step)
    samples = TrainingSamples(cases, training.data.augment, size=size, seed=training.seed)
    batches = loader(
        samples,
        first=loop.step * training.optimiser.accumulate,
        settings=training.data,
        rank=fabric.global_rank,
        processes=fabric.world_size,
    )
    validation = validation_samples(held_out, size=size) if held_out is not None and fabric.is_global_zero else []
    return Session(
        training=training,
        fabric=fabric,
        folder=run,
        gan=gan,
        loop=loop,
        steps=steps,
        cases=cases,
        batches=batches,
        validates=held_out is not None,
        validation=validation,
    )


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
    network = create(training.generator.name, device="meta", **training.generator.settings)
    if not isinstance(network, Generator):
        raise ConfigError(f"generator.name: {training.generator.name!r} is no generator")
    return int(network.config.size)


def _steps(training: Training, cases: int, processes: int) -> int:
    """Optimiser steps of the whole run: as set, or as many as its epochs over the train cases take."""
    cases_per_step = training.data.batch_size * training.optimiser.accumulate * processes
    return training.run.steps or math.ceil(int(training.run.epochs or 0) * cases / cases_per_step)
