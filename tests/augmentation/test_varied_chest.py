"""Varied chests: never folded, sides right, masks on the anatomy, the same for the same seed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from xrecon.anatomy.healthy_lungs import find_lungs
from xrecon.augmentation.lung_shapes import LungShapes
from xrecon.augmentation.variation_settings import VariationSettings
from xrecon.augmentation.varied_chest import SourceChest, source_chest, unvaried, varied_chest
from xrecon.errors import InputError
from xrecon.phantoms.thorax import Phantom
from xrecon.volume import load_ct


@pytest.fixture(scope="module")
def source(phantom64: Phantom) -> SourceChest:
    return source_chest(phantom64.volume, "phantom")


@pytest.fixture(scope="module")
def shapes(phantom64: Phantom, tmp_path_factory: pytest.TempPathFactory) -> LungShapes:
    """One shape: the phantom's own lungs, every voxel of 6 mm as one of 4 mm, so smaller lungs."""
    folder = tmp_path_factory.mktemp("shapes")
    mask = np.where(phantom64.labels <= 2, phantom64.labels, 0).astype(np.uint8)
    np.savez_compressed(folder / "lungs_4mm.npz", shape_0001=mask)
    return LungShapes.load(folder)


@pytest.mark.parametrize("seed", range(6))
def test_nothing_folds_and_sides_stay(source: SourceChest, shapes: LungShapes, seed: int) -> None:
    varied = varied_chest(source, shapes, seed=(seed,))
    assert varied.parameters["least_jacobian"] > 0.1  # over the whole new grid
    assert varied.parameters["largest_jacobian"] < 10.0
    assert varied.ct.synthetic
    right, left = (np.argwhere(m)[:, 2].mean() for m in (varied.chest.right, varied.chest.left))
    assert right < left  # W runs from the patient's right to the left
    assert not (varied.chest.right & varied.chest.left).any()
    lungs = varied.chest.right | varied.chest.left
    assert np.median(varied.ct.hu[lungs]) < -600
    assert varied.ct.hu.min() >= -1024


def test_the_masks_are_where_the_lungs_are(source: SourceChest, shapes: LungShapes) -> None:
    varied = varied_chest(source, shapes, seed=(3,))
    again = find_lungs(varied.ct)
    both, warped = again.right | again.left, varied.chest.right | varied.chest.left
    assert 2 * (both & warped).sum() / (both.sum() + warped.sum()) > 0.93


def test_the_same_seed_gives_the_same_chest(source: SourceChest, shapes: LungShapes) -> None:
    first, second, other = (varied_chest(source, shapes, seed=(seed, 5)) for seed in (1, 1, 2))
    assert np.array_equal(first.ct.hu, second.ct.hu)
    assert first.parameters == second.parameters
    assert first.parameters != other.parameters


def test_lungs_follow_the_shape(source: SourceChest, shapes: LungShapes) -> None:
    volumes = []
    for seed in range(8):
        varied = varied_chest(source, shapes, seed=(seed, 9))
        if varied.parameters["shape"] is not None:
            volumes.append((varied.chest.right | varied.chest.left).sum() * varied.ct.voxel_ml)
    healthy = (source.chest.right | source.chest.left).sum() * source.ct.voxel_ml
    # Voxels of 4 instead of 6 mm: 0.3 of the volume, and up to 1.3 * 1.12^3 times that.
    assert volumes
    assert max(volumes) < 0.75 * healthy


def test_without_a_map_it_is_the_source(source: SourceChest) -> None:
    assert unvaried(source).ct is source.ct


def test_shapes_are_checked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lungs_4mm\.npz"):
        LungShapes.load(tmp_path)
    (tmp_path / "lungs_4mm.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="NumPy archive"):
        LungShapes.load(tmp_path)
    np.savez(tmp_path / "lungs_4mm.npz", shape_0001=np.ones((3, 3, 3), dtype=np.uint8))
    with pytest.raises(InputError, match="left lung"):
        LungShapes.load(tmp_path)


def test_a_carina_goes_along(source: SourceChest, shapes: LungShapes) -> None:
    varied = varied_chest(source, shapes, seed=(3,))
    assert source.chest.carina is not None
    assert varied.chest.carina is not None
    airway = np.argwhere(varied.chest.airway)
    away = np.linalg.norm((airway - np.asarray(varied.chest.carina)) * varied.ct.spacing_mm, axis=1)
    assert away.min() <= 1.5 * varied.ct.spacing_mm[0]


def test_a_chest_that_always_folds_is_refused(source: SourceChest) -> None:
    wild = VariationSettings(shape_share=0.0, elastic_mm=(300.0, 300.0))
    with pytest.raises(InputError, match="unfolded"):
        varied_chest(source, None, seed=(0,), settings=wild)


def test_parameters_are_json(source: SourceChest, shapes: LungShapes) -> None:
    parameters = dict(varied_chest(source, shapes, seed=(2,)).parameters)
    assert json.loads(json.dumps(parameters)) == parameters


@pytest.mark.data
@pytest.mark.parametrize("case", ["case_004", "case_113", "case_118"])
def test_real_chests_on_real_shapes(shared_data: Path, case: str) -> None:
    """A plain case, a collapsed lobe, and a scan whose field of view cuts the shoulders."""
    folder = shared_data / "shapes"
    if not folder.is_dir():
        pytest.skip(f"lung shapes of other patients not found: {folder} is no folder")
    source = source_chest(load_ct(shared_data / "ct" / f"{case}.nii.gz"), case)
    varied = varied_chest(source, LungShapes.load(folder), seed=(0, 1), settings=VariationSettings(shape_share=1.0))
    lungs = varied.chest.right | varied.chest.left
    assert varied.parameters["least_jacobian"] > 0.1
    assert varied.ct.spacing_mm[0] == pytest.approx(source.ct.spacing_mm[0], rel=0.1)
    assert 1500 < lungs.sum() * varied.ct.voxel_ml < 8500
    right, left = (np.argwhere(m)[:, 2].mean() for m in (varied.chest.right, varied.chest.left))
    assert right < left
    assert np.median(varied.ct.hu[lungs]) < -650
    assert not lungs[:, 0].any() and not lungs[:, -1].any() and not lungs[:, :, 0].any() and not lungs[:, :, -1].any()
    again = find_lungs(varied.ct)
    both = again.right | again.left
    assert 2 * (both & lungs).sum() / (both.sum() + lungs.sum()) > 0.93
