"""`xrecon.train`: a training run from settings in a file, a mapping or an object, as one call."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xrecon.config import load_config
from xrecon.errors import MissingPartError
from xrecon.training.run_config import Training
from xrecon.training.tracker import Progress, silent

if TYPE_CHECKING:
    from xrecon.training.loop import Outcome


def train(
    config: Training | Mapping[str, Any] | str | os.PathLike[str],
    *,
    output: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    device: str | None = None,
    resume: str | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Outcome:
    """Train a reconstruction network on a data set of `xrecon prepare`, until the end or the time limit.

    Args:
        config: settings of the run: a YAML file, nested mappings, or `xrecon.training.run_config.Training`.
        output: folder of the run, with checkpoints, metrics, pictures and at the end the model; None: runs/NAME.
        overrides: texts such as "data.path=chests-64", as with `--set`.
        device: "cpu", "cuda" or "mps"; None: as `run.accelerator` says.
        resume: "auto" to go on from the newest checkpoint of the folder (or to begin), the path of one, or None.
        overwrite: replace a run that the folder holds.
        progress: called after every step with the steps done, the steps in all, and a line of text.

    Returns:
        How the run ended: `folder`, `step`, `finished`, `validation` (mean figures of the last validation, by name)
        and `model` (the folder with the weights, which `xrecon.reconstruct(..., model=folder)` takes; None until
        finished).

    Raises:
        ConfigError: an unknown setting, or settings that cannot be trained with.
        InputError: no data set at `data.path`, or one whose subsets share a patient.
        OutputExistsError: the folder holds a run, and neither `resume` nor `overwrite` is given.
        CheckpointError: the checkpoint cannot be read.
        MissingPartError: lightning-fabric is not installed.

    Example:
        >>> run = xrecon.train("configs/tiny_cpu.yaml", overrides=["data.path=chests-64"], output="runs/tiny")
        >>> rec = xrecon.reconstruct(pa, lateral, model=run.model)
    """
    if device is not None:
        overrides = [*overrides, f"run.accelerator={device}"]
    training = training_settings(config, overrides)
    require_engine()
    from xrecon.training.loop import fit

    return fit(training, run_folder(training, output), resume=resume, overwrite=overwrite, progress=progress)


def training_settings(
    config: Training | Mapping[str, Any] | str | os.PathLike[str], overrides: Sequence[str] = ()
) -> Training:
    """Checked settings of a run. Raises ConfigError naming the file, the key and the nearest known key."""
    if isinstance(config, Training):
        if not overrides:
            return config
        config = config.model_dump(mode="json")
    if isinstance(config, Mapping):
        return load_config(Training, overrides=overrides, values=config)
    return load_config(Training, config, overrides)


def run_folder(training: Training, output: str | os.PathLike[str] | None) -> Path:
    """The folder of a run: the given one, or runs/NAME below the working folder."""
    return Path("runs") / training.name if output is None else Path(output)


def require_engine() -> None:
    """Raise MissingPartError where the package that runs the training is not installed."""
    if importlib.util.find_spec("lightning_fabric") is None:
        raise MissingPartError("training needs lightning-fabric, which is not installed: pip install 'xrecon[train]'")
