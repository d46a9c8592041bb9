"""Lungs of a healthy chest, found for planting: by side, without the windpipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xrecon.anatomy.healthy_lungs import find_lungs, split_lungs
from xrecon.phantoms.thorax import Phantom, ThoraxParameters, thorax_phantom
from xrecon.volume import Volume, load_ct


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    """6 mm voxels with a little noise: coarse, so that planting takes a second."""
    return thorax_phantom(64, 6.0, parameters=ThoraxParameters(noise_hu=12.0))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2.0 * float((a & b).sum()) / float(a.sum() + b.sum())


def test_lungs_are_found_by_side(phantom: Phantom) -> None:
    right, left = split_lungs(phantom.volume)
    assert dice(right, phantom.labels == 1) > 0.95
    assert dice(left, phantom.labels == 2) > 0.95
    columns = np.arange(phantom.volume.shape[2])
    assert (right.sum(axis=(0, 1)) * columns).sum() / right.sum() < columns.mean(), "right is the smaller column"
    assert not (right & left).any()


def test_the_windpipe_is_not_lung(phantom: Phantom) -> None:
    chest = find_lungs(phantom.volume)
    trachea = phantom.structures["trachea"]
    assert (chest.airway & trachea).sum() > 0.5 * trachea.sum()
    assert chest.carina is not None
    assert not (chest.airway & (chest.right | chest.left)).any()


@pytest.mark.data
def test_real_lungs_match_the_manual_contour(shared_data: Path) -> None:
    import nibabel as nib

    right, left = split_lungs(load_ct(shared_data / "ct" / "case_006.nii.gz"))
    image = nib.load(shared_data / "masks" / "case_006_lungs.nii.gz")
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    manual = Volume(np.asarray(image.dataobj, dtype=np.float32), affine).canonical().hu > 0
    assert dice(right | left, manual) > 0.95
