"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.shapes import SHAPE_CHECKED, check_shapes
from support.shapes import without_shape_checks as without_shape_checks

if TYPE_CHECKING:
    from xrecon.phantoms.thorax import Phantom

# One thread for every process that the tests start: workers of pytest share the cores already, and threads that wait
# for each other on busy cores make small tensor operations many times slower. Must stand before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Before anything of the package is imported: afterwards its signatures are no longer read.
check_shapes(SHAPE_CHECKED)

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real chest CTs; tests that need it skip where it is absent (XRECON_SHARED_DATA overrides)."""
    folder = Path(os.environ.get("XRECON_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "ct").is_dir():
        pytest.skip(f"real chest CTs not found: {folder} (set XRECON_SHARED_DATA to their folder)")
    return folder


@pytest.fixture(scope="session")
def phantom64() -> Phantom:
    """The standard artificial thorax on a 64^3 grid of 6 mm, with its table and its true labels."""
    from xrecon.phantoms.thorax import thorax_phantom

    return thorax_phantom(64, 6.0)


@pytest.fixture(scope="session")
def phantom64_file(phantom64: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`phantom64` as NIfTI. Shared: read it, do not change it."""
    return phantom64.volume.save(tmp_path_factory.mktemp("phantom64") / "phantom.nii.gz")


@pytest.fixture(scope="session")
def nurbs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chest of three NURBS surfaces; see `nurbs_text`. Shared: read it, do not change it."""
    from support.nurbs_text import chest

    path = tmp_path_factory.mktemp("nurbs") / "chest.nrb"
    path.write_text(chest(), encoding="utf-8")
    return path
