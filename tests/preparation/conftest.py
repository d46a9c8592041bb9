"""Artificial patients as files, made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xrecon.anatomy.healthy_lungs import split_lungs
from xrecon.phantoms.thorax import ThoraxParameters, thorax_phantom
from xrecon.segmentation import Segmentation
from xrecon.volume import Volume


def simple_lungs(ct: Volume, _lung_model: str) -> Segmentation:
    """The lungs of a healthy chest by the finder that planting uses: ten times faster than PTX-Seg."""
    right, left = split_lungs(ct)
    labels = right.astype(np.uint8) + np.uint8(2) * left.astype(np.uint8)
    return Segmentation(labels, np.zeros_like(labels), ct.affine, {"lung_model": "simple"})


@pytest.fixture
def fast_lungs(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of everything but the lungs."""
    monkeypatch.setattr("xrecon.preparation.case._ptxseg", simple_lungs)


@pytest.fixture(scope="session")
def people() -> list[Volume]:
    """Three different artificial thoraces, 64^3 voxels of 6 mm, whole HU."""
    rng = np.random.default_rng(5)
    volumes = [thorax_phantom(64, 6.0, parameters=ThoraxParameters.sample(rng)).volume for _ in range(3)]
    return [volume.with_hu(np.rint(volume.hu)) for volume in volumes]  # as files hold them


@pytest.fixture(scope="session")
def people_folder(people: list[Volume], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three CTs `anna`, `bert`, `carl` as NIfTI. Shared: read it, do not change it."""
    folder = tmp_path_factory.mktemp("people")
    for name, volume in zip(("anna", "bert", "carl"), people, strict=True):
        volume.save(folder / f"{name}.nii.gz")
    return folder
