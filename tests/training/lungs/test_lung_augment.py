"""Random changes of a lung case."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from xrecon.training.lungs.augment import augment
from xrecon.training.lungs.planted_cases import read_case


def test_augmentation_never_mirrors(phantom_cases: list[tuple[str, Path]]) -> None:
    case = read_case(next(path for _, path in phantom_cases if path.stem.endswith("healthy")))
    hu, sides = torch.from_numpy(case.hu.astype(np.float32)), torch.from_numpy(case.sides)
    for seed in range(12):
        rng = torch.Generator().manual_seed(seed)
        moved, labels = augment(hu, sides, (32, 28, 32), rng)
        assert moved.shape == labels.shape == (32, 28, 32)
        assert torch.isfinite(moved).all()
        right, left = ((labels == side).nonzero()[:, 2].float().mean() for side in (1, 2))
        assert right + 5 < left
        again = augment(hu, sides, (32, 28, 32), torch.Generator().manual_seed(seed))
        assert torch.equal(again[0], moved)
