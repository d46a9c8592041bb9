"""Fixtures of the tests of priors and inference: the small patients of `prior_factory`, and one thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from support.prior_factory import filmed_patients, small_asset
from xrecon.priors.asset import PriorAsset
from xrecon.priors.framing import FilmedChest


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors on a busy machine: waiting for a second thread costs more than it brings."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def cases() -> tuple[FilmedChest, ...]:
    """Five framed patients with films; the priors are built from the first four."""
    torch.set_num_threads(1)
    return filmed_patients()


@pytest.fixture(scope="session")
def asset(cases: tuple[FilmedChest, ...]) -> PriorAsset:
    """Priors of the first four patients."""
    return small_asset()


@pytest.fixture
def cpu() -> torch.device:
    """The device of the tests."""
    return torch.device("cpu")
