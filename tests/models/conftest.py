"""Slim networks, their films, and the folder of reference numbers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

SLIM: dict[str, Any] = {
    "dense_layers": (1, 2, 1, 1, 1),
    "stem_channels": 6,
    "growth": 4,
    "bottleneck": 2,
    "decoder_channels": (1, 2, 3, 2, 4, 3),
}
"""A generator of a few thousand parameters; neighbouring widths differ, so that a swapped one shows."""


@pytest.fixture(scope="session")
def slim() -> dict[str, Any]:
    return dict(SLIM)


@pytest.fixture
def films() -> tuple[Tensor, Tensor]:
    """Two different films [1, 1, 64, 64] in 0..1."""
    rng = torch.Generator().manual_seed(5)
    return torch.rand(1, 1, 64, 64, generator=rng), torch.rand(1, 1, 64, 64, generator=rng)


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of names and golden numbers (XRECON_SHARED_REFERENCE overrides); skips where it is absent."""
    default = Path(__file__).resolve().parents[3] / "shared" / "reference"
    folder = Path(os.environ.get("XRECON_SHARED_REFERENCE", default))
    if not (folder / "generator_keys_128.tsv").is_file():
        pytest.skip(f"reference numbers not found: {folder} (set XRECON_SHARED_REFERENCE to their folder)")
    return folder
