"""Artificial patients as files, made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xrecon.data.phantom import ThoraxParameters, thorax_phantom
from xrecon.volume import Volume


@pytest.fixture(scope="session")
def people() -> list[Volume]:
    """Three different artificial thoraces, 64^3 voxels of 6 mm."""
    rng = np.random.default_rng(5)
    return [thorax_phantom(64, 6.0, parameters=ThoraxParameters.sample(rng)).volume for _ in range(3)]


@pytest.fixture(scope="session")
def people_folder(people: list[Volume], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three CTs `anna`, `bert`, `carl` as NIfTI. Shared: read it, do not change it."""
    folder = tmp_path_factory.mktemp("people")
    for name, volume in zip(("anna", "bert", "carl"), people, strict=True):
        volume.save(folder / f"{name}.nii.gz")
    return folder
