"""Figures of a run while it goes on: metrics.jsonl, TensorBoard events, and one line of text per step."""

from __future__ import annotations

import importlib
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xrecon.training.run_folder import RunFolder

Progress = Callable[[int, int, str], None]
"""Called with the steps done, the steps in all, and a line about losses, speed and memory."""

_SMOOTHING = 0.9


def silent(_step: int, _steps: int, _text: str) -> None:
    """Show no progress."""


class Tracker:
    """Writes figures of steps and validations.

    Args:
        run: folder to write to.
        steps: length of the run.
        first: step that the run starts from.
        events: also write TensorBoard events, if the package is installed.
    """

    def __init__(self, run: RunFolder, *, steps: int, first: int, events: bool) -> None:
        self.run, self.steps, self.first = run, steps, first
        self._last = time.monotonic()
        self._seconds: float | None = None
        self._writer: Any = None
        if events:
            try:
                writers = importlib.import_module("torch.utils.tensorboard")
            except ImportError:
                return
            self._writer = writers.SummaryWriter(str(run.events), purge_step=first)

    def stepped(self, step: int, losses: Mapping[str, float], *, waited: float) -> str:
        """Record a step; returns a line with losses, speed, time to go and memory."""
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        old = self._seconds
        self._seconds = seconds if old is None else _SMOOTHING * old + (1 - _SMOOTHING) * seconds
        memory_gb = peak_memory_gb()
        values = {**losses, "seconds": seconds, "waited": waited, "memory_gb": memory_gb}
        self.run.log("step", step, {key: _short(value) for key, value in values.items()})
        self._events(step, {f"train/{key}": value for key, value in values.items()})
        text = " ".join(f"{key} {value:.3g}" for key, value in losses.items() if key in _LINE_LOSSES)
        left = (self.steps - step) * self._seconds
        return f"{text} | {self._seconds:.2f} s/step, {_duration(left)} to go, {memory_gb:.1f} GB"

    def validated(self, step: int, figures: Sequence[Mapping[str, Any]], means: Mapping[str, float]) -> None:
        """Record a validation: figures per case and their means."""
        self.run.log("validation", step, {"mean": dict(means), "cases": list(figures)})
        self._events(step, {f"validation/{key}": value for key, value in means.items()})
        self._last = time.monotonic()

    def _events(self, step: int, values: Mapping[str, float]) -> None:
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Finish the events file."""
        if self._writer is not None:
            self._writer.close()


_LINE_LOSSES = ("voxel", "projection", "axis_means", "adversarial", "discriminator_real", "discriminator_fake")


def peak_memory_gb() -> float:
    """Largest memory of this process so far: of the GPU where one is used, else resident; GB (10^9 bytes)."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _duration(seconds: float) -> str:
    minutes = int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {int(seconds % 60):02d} s"
