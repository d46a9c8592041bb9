"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real chest CTs; tests that need it skip where it is absent (XRECON_SHARED_DATA overrides)."""
    folder = Path(os.environ.get("XRECON_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "ct").is_dir():
        pytest.skip(f"real chest CTs not found: {folder} (set XRECON_SHARED_DATA to their folder)")
    return folder
