"""Checkpoints of a run: networks, optimisers, averaged weights and the loop's own state, complete or absent."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from xrecon.errors import CheckpointError
from xrecon.training.gan import Gan
from xrecon.training.run_folder import RunFolder
from xrecon.training.sharding import load_sharded, save_sharded
from xrecon.training.validation import CaseFigures


@dataclass
class LoopState:
    """What the loop itself remembers; a checkpoint holds it under the key "loop", with these names.

    Attributes:
        step: steps done.
        best: least mean body MAE of the validations so far, HU.
        best_step: when that was.
        validation: mean figures of the last validation.
        figures: figures of its cases.
    """

    step: int = 0
    best: float = math.inf
    best_step: int | None = None
    validation: dict[str, float] = field(default_factory=dict)
    figures: list[CaseFigures] = field(default_factory=list)

    @classmethod
    def of(cls, stored: dict[str, Any]) -> LoopState:
        """From the plain values of a checkpoint."""
        return cls(**{**stored, "figures": [CaseFigures(**values) for values in stored["figures"]]})


def save_checkpoint(fabric: Fabric, gan: Gan, run: RunFolder, loop: LoopState, *, keep_last: int) -> None:
    """Write a checkpoint and drop old ones but the best.

    All processes call this together; the file gets its name only when it is complete.
    """
    temporary = run.checkpoints / f".unfinished-{loop.step:08d}"
    try:
        state = {**gan.state(), "loop": asdict(loop)}
        if gan.sharded:
            save_sharded(temporary, state, first=fabric.is_global_zero)
        else:
            fabric.save(temporary, state)
    except BaseException:
        run.discard(temporary)  # a full disk needs the room, and the checkpoint before is complete
        raise
    fabric.barrier()
    if fabric.is_global_zero:
        run.publish(temporary, loop.step, keep_last=keep_last, best=loop.best_step)
    fabric.barrier()


def load_checkpoint(fabric: Fabric, gan: Gan, path: Path) -> LoopState:
    """Put networks and optimisers in the state of a checkpoint; returns the loop's state.

    Raises:
        CheckpointError: the file cannot be read, or is of other networks.
    """
    state = {**gan.state(), "loop": {}}
    try:
        if gan.sharded:
            load_sharded(path, state)
        else:
            fabric.load(path, state, weights_only=True)
    except (RuntimeError, KeyError, ValueError, OSError, EOFError) as error:
        raise CheckpointError(
            f"{path}: not a checkpoint of this run's networks ({type(error).__name__}: {error}); choose another one, "
            "or begin again in a new folder"
        ) from error
    gan.restored(state)
    return LoopState.of(state["loop"])
