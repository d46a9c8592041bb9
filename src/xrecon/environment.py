"""The environment of a computation: versions, device, threads, commit. No user, host or folder names."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from xrecon import __version__

PROVENANCE_PACKAGES = ("torch", "numpy", "scipy", "nibabel", "pydicom")


def package_version(distribution: str) -> str | None:
    """The installed version of a distribution, or None. Reads metadata only; imports nothing."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def usable_processors() -> int:
    """Processors that this process may run on (a container or `taskset` may allow fewer than the machine has)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def git_commit() -> str | None:
    """Commit of the checkout that this package runs from, with `-dirty` after local changes; None outside one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread of torch, and on as many as before afterwards.

    Sums of a kernel depend in their last digits on the number of threads. On one thread the result is independent of
    the machine's number of cores and of what ran before in this process. On small grids one thread is as fast, and
    many times faster on a busy machine, where threads that wait for each other spin.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class TorchState:
    """What torch can compute with.

    Attributes:
        device: "cuda", "mps" or "cpu", the first that is usable; None where torch cannot be imported.
        device_name: name of the graphics card, if there is one.
        threads: threads of torch on the processor.
        error: why torch cannot be imported, or None.
    """

    device: str | None
    device_name: str | None = None
    threads: int | None = None
    error: str | None = None


def torch_state() -> TorchState:
    """The device that torch would use; imports torch."""
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a shared library of torch is missing or damaged
        return TorchState(device=None, error=f"{type(error).__name__}: {error}")
    device, name = "cpu", None
    if torch.cuda.is_available():
        device, name = "cuda", torch.cuda.get_device_name(0)
    elif torch.backends.mps.is_available():
        device = "mps"
    return TorchState(device=device, device_name=name, threads=torch.get_num_threads())


def run_environment() -> dict[str, Any]:
    """Versions and machine facts to store beside a result (run directories, JSON provenance, `xrecon doctor`).

    Returns:
        JSON-ready: `xrecon`, `commit`, `python`, `platform` (system and processor family), `processors`, `device`,
        `threads` (of torch) and `packages` (name to version; None where not installed). A process that has not loaded
        torch ran without it, on the processor, and `threads` is None: loading it only to ask would take seconds.
    """
    state = torch_state() if "torch" in sys.modules else TorchState(device="cpu")
    return {
        "xrecon": __version__,
        "commit": git_commit(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processors": usable_processors(),
        "device": state.device,
        "threads": state.threads,
        "packages": {name: package_version(name) for name in PROVENANCE_PACKAGES},
    }
