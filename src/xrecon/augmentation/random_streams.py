"""Random numbers of the augmentation: a stream of its own for each step, so that no step changes another's draws."""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, step: str) -> np.random.Generator:
    """The generator of one step of one sample: the same for the same seed and name, on every machine and thread."""
    return np.random.default_rng([seed, zlib.crc32(step.encode())])


def uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    """Between the two limits."""
    return float(rng.uniform(limits[0], limits[1]))


def log_uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    """Between the two positive limits, each factor as likely as its inverse."""
    return float(np.exp(rng.uniform(np.log(limits[0]), np.log(limits[1]))))


def signed(rng: np.random.Generator, amplitude: float) -> float:
    """From -amplitude to amplitude."""
    return float(rng.uniform(-amplitude, amplitude))


def whole(rng: np.random.Generator, limits: tuple[int, int]) -> int:
    """A whole number, both limits included."""
    return int(rng.integers(limits[0], limits[1] + 1))
