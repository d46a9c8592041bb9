"""A data set and settings so small that a training step takes a fraction of a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from support.dataset_factory import random_case, write_dataset
from xrecon.augmentation.settings import AugmentConfig
from xrecon.data.case_file import CaseData
from xrecon.training.run_config import Training

SLIM: dict[str, Any] = {
    "size": 64,
    "stem_channels": 4,
    "growth": 4,
    "dense_layers": [1, 1, 1, 1, 1],
    "decoder_channels": [2, 2, 4, 4, 8, 8],
}


def smooth_case(seed: int) -> CaseData:
    """A body with two dark sides and soft clouds, 64 voxels per edge."""
    case = random_case(64, seed)
    rng = np.random.default_rng(seed)
    clouds = ndimage.gaussian_filter(rng.normal(size=(64,) * 3), 5) * 8000
    _, h, w = np.indices((64, 64, 64))
    body = ((h - 32) / 24) ** 2 + ((w - 32) / 28) ** 2 < 1
    sides = np.where(((h - 32) / 14) ** 2 + ((abs(w - 32) - 14) / 9) ** 2 < 1, np.where(w < 32, 1, 2), 0)
    hu = np.where(body, np.where(sides > 0, -800 + clouds / 4, 40 + clouds), -1024).clip(-1024, 1400)
    mu = (hu + 1000).clip(0) * 2e-5 * 6
    values = {
        "ct": hu.astype(np.int16),
        "pa": mu.sum(axis=1).astype(np.float32),
        "lateral": mu.sum(axis=2).astype(np.float32),
        "sides": sides.astype(np.uint8),
        "air": np.zeros_like(sides, np.uint8),
        "body": body.astype(np.uint8),
    }
    return CaseData(**{**vars(case), **values})


def small_dataset(folder: Path, count: int = 4) -> Path:
    """A prepared data set of `count` train cases in two folds."""
    names = [f"case{i}" for i in range(count)]
    return write_dataset(folder, dict.fromkeys(names, "train"), cases=[smooth_case(i) for i in range(count)], folds=2)


def small_training(folder: Path, /, **changes: dict[str, Any]) -> Training:
    """Settings of a run of 6 steps; `changes` are merged into the sections."""
    values: dict[str, Any] = {
        "name": "small",
        "generator": {"name": "xrecon", "settings": SLIM},
        "discriminator": {"name": "coordconv", "settings": {"base_channels": 4}},
        "losses": {"projection_pixels": 24},
        "optimiser": {"learning_rate": 1e-3},
        "data": {"path": str(folder), "fold": 0, "workers": 0, "augment": AugmentConfig.off().model_dump(mode="json")},
        "run": {
            "steps": 6,
            "accelerator": "cpu",
            "threads": 1,
            "validate_every": 3,
            "checkpoint_every": 2,
            "tensorboard": False,
        },
    }
    for section, value in changes.items():
        values[section] = {**values[section], **value} if isinstance(value, dict) else value
    return Training.model_validate(values)
