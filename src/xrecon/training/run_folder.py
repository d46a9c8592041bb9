"""The folder of a run: its settings and data, its figures, checkpoints, pictures and model."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from xrecon.environment import run_environment
from xrecon.errors import CheckpointError, ConfigError, OutputExistsError
from xrecon.io.output.atomic import write_json_atomic, write_text_atomic
from xrecon.json_text import json_text
from xrecon.training.run_config import Training
from xrecon.volume import RESEARCH_NOTICE

CONFIG_NAME = "config.yaml"
METRICS_NAME = "metrics.jsonl"
_CHECKPOINT = re.compile(r"step-(\d{8})\.ckpt")
_FREE = {"name", "run", "data"}
"""Sections that a resumed run may change in part: how long, where, and with which workers."""


class RunFolder:
    """Files of one run below `path`: config.yaml, run.json, metrics.jsonl, checkpoints/, panels/, events/, model/."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints, self.panels, self.events, self.model = (
            path / name for name in ("checkpoints", "panels", "events", "model")
        )

    def begin(self, training: Training, data: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
        """Write the settings (config.yaml), and the data and environment (run.json).

        Raises:
            OutputExistsError: the folder holds a run, and neither `resume` nor `overwrite` is given.
            ConfigError: the run to be resumed was made with settings that change its course.
        """
        stored = self.path / CONFIG_NAME
        if stored.exists() and not (resume or overwrite):
            raise OutputExistsError(
                f"{self.path}: holds a run already; continue it with --resume auto, replace it with --overwrite, or "
                "choose another folder"
            )
        if stored.exists() and overwrite and not resume:
            for folder in (self.checkpoints, self.panels, self.events, self.model):
                shutil.rmtree(folder, ignore_errors=True)
            (self.path / METRICS_NAME).unlink(missing_ok=True)
        if stored.exists() and resume:
            _check_same(Training.model_validate(yaml.safe_load(stored.read_text())), training, stored)
        for folder in (self.checkpoints, self.panels):
            folder.mkdir(parents=True, exist_ok=True)
        text = f"# {RESEARCH_NOTICE}\n" + yaml.safe_dump(training.model_dump(mode="json"), sort_keys=False)
        write_text_atomic(stored, text, overwrite=True)
        facts = {"notice": RESEARCH_NOTICE, "seed": training.seed, "data": dict(data), "environment": run_environment()}
        write_json_atomic(self.path / "run.json", facts, overwrite=True)

    def log(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        line = json_text({"kind": kind, "step": step, **values}, indent=None)
        with (self.path / METRICS_NAME).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def forget_after(self, step: int) -> None:
        """Drop lines of metrics.jsonl from steps that a resumed run does again."""
        file = self.path / METRICS_NAME
        if file.exists():
            lines = file.read_text(encoding="utf-8").splitlines()
            valid = [line for line in lines if _step_of(line) <= step]
            write_text_atomic(file, "".join(line + "\n" for line in valid), overwrite=True)

    def checkpoint_path(self, step: int) -> Path:
        """Where the checkpoint after `step` steps lies."""
        return self.checkpoints / f"step-{step:08d}.ckpt"

    def latest(self) -> Path | None:
        """The newest complete checkpoint, or None."""
        checkpoints = self._complete()
        return checkpoints[-1] if checkpoints else None

    def _complete(self) -> list[Path]:
        """The complete checkpoints, oldest first."""
        return sorted(path for path in self.checkpoints.glob("*.ckpt") if _CHECKPOINT.fullmatch(path.name))

    def publish(self, temporary: Path, step: int, *, keep_last: int, best: int | None) -> None:
        """Give a checkpoint that was written completely its name; drop old ones but the best.

        The rename is atomic: whenever the run is killed, the checkpoint before is still there.
        """
        temporary.replace(self.checkpoint_path(step))
        for old in self._complete()[:-keep_last]:
            if best is None or old != self.checkpoint_path(best):
                _remove(old)
        for rest in self.checkpoints.glob(".unfinished-*"):
            _remove(rest)

    def discard(self, temporary: Path) -> None:
        """Remove a checkpoint that could not be completed."""
        _remove(temporary)

    def resumed_from(self, choice: str) -> Path | None:
        """The checkpoint that `--resume` names: `auto` is the newest, None if there is none yet.

        Raises:
            CheckpointError: a named checkpoint does not exist.
        """
        if choice == "auto":
            return self.latest()
        path = Path(choice)
        if not path.exists():
            raise CheckpointError(f"{path}: there is no such checkpoint; --resume auto takes the newest of the run")
        return path


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 2**62  # the half line of a killed run


def _check_same(stored: Training, requested: Training, file: Path) -> None:
    """Raises ConfigError where a resumed run has other settings than the interrupted one in what shapes its course."""
    changed = []
    old, new = stored.model_dump(mode="json"), requested.model_dump(mode="json")
    for section, value in new.items():
        if section not in _FREE and value != old[section]:
            changed.append(section)
    changed += [f"data.{key}" for key in ("fold", "batch_size", "augment") if new["data"][key] != old["data"][key]]
    changed += [f"run.{key}" for key in ("steps", "epochs", "precision") if new["run"][key] != old["run"][key]]
    if changed:
        raise ConfigError(
            f"{file}: the run was begun with other settings of {', '.join(changed)}; resume it with its own "
            "settings, or begin a new run in another folder"
        )
